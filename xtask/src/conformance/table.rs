//! `docs/conformance.md`: what became of each spec in the last run that was written down.
//!
//! Guarantees:
//! - what is written is read again as it was (`what_is_written_is_read_again`);
//! - a spec that the table says is held and that a run loses is told, and stays held there (`a_loss_is_told_and_not_written`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::outcome::Outcome;
use super::spec::{self, CLASSES, Class};

/// Outcomes by the names of specs.
pub type Outcomes = BTreeMap<&'static str, Outcome>;

/// The table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    outcomes: Outcomes,
}

/// What a run found that the table does not say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Held until now.
    pub lost: Vec<&'static str>,
    pub gained: Vec<&'static str>,
}

const HEAD: &str = "\
# Conformance

*What of upstream's conformance specs the hub holds, spec by spec.*

`cargo xtask conformance CLASS… --write` runs them and writes this table; a run that loses a spec which is held here fails, and
`cargo xtask test --all` runs class a1. Only who takes a row away by hand can take a promise back.
";

impl Table {
    /// Reads what [`Table::render`] writes; rows of specs that there are no more are left out.
    pub fn read(text: &str) -> Self {
        let names: BTreeMap<&str, &'static str> =
            spec::all().map(|spec| (spec.name, spec.name)).collect();
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
            let (name, state) = (names.get(cells.next()?)?, cells.next()?);
            let why = cells.next().unwrap_or_default().trim();
            match state {
                "held" => Some((*name, Outcome::Held)),
                "lost" => Some((*name, Outcome::Lost(why.to_owned()))),
                _ => None,
            }
        };
        Self { outcomes: text.lines().filter_map(row).collect() }
    }

    /// The page.
    pub fn render(&self) -> String {
        let mut page = HEAD.to_owned();
        page.push_str(
            "\n| class | what its specs need | held | lost | not run |\n|---|---|---|---|---|\n",
        );
        for class in &CLASSES {
            let (held, lost) = self.counts(class);
            let rest = class.specs().count() - held - lost;
            // Writing to a text cannot fail.
            let _ =
                writeln!(page, "| {} | {} | {held} | {lost} | {rest} |", class.name, class.needs);
        }
        for class in &CLASSES {
            let _ = writeln!(page, "\n## {}: {}\n", class.name, class.needs);
            page.push_str("| spec | | first failing line |\n|---|---|---|\n");
            for name in class.specs() {
                let (state, why) = match self.outcomes.get(name) {
                    Some(Outcome::Held) => ("held", ""),
                    Some(Outcome::Lost(why)) => ("lost", why.as_str()),
                    None => ("not run", ""),
                };
                let _ = writeln!(page, "| {name} | {state} | {why} |");
            }
        }
        page
    }

    fn counts(&self, class: &Class) -> (usize, usize) {
        let of = |held: bool| {
            let fits = |name: &&str| {
                self.outcomes.get(*name).is_some_and(|o| (*o == Outcome::Held) == held)
            };
            class.specs().filter(fits).count()
        };
        (of(true), of(false))
    }

    /// Whether it promises this spec.
    pub fn holds(&self, name: &str) -> bool {
        self.outcomes.get(name) == Some(&Outcome::Held)
    }

    /// What is new in a run's outcomes.
    pub fn compare(&self, run: &Outcomes) -> News {
        let mut news = News::default();
        for (name, outcome) in run {
            match (self.holds(name), outcome) {
                (true, Outcome::Lost(_)) => news.lost.push(name),
                (false, Outcome::Held) => news.gained.push(name),
                _ => {}
            }
        }
        news
    }

    /// Takes over a run's outcomes, but for losses.
    pub fn take(&mut self, run: &Outcomes) {
        for (name, outcome) in run {
            if *outcome == Outcome::Held || !self.holds(name) {
                self.outcomes.insert(name, outcome.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> [&'static str; 3] {
        let mut all = spec::all().map(|spec| spec.name);
        [all.next().unwrap(), all.next().unwrap(), all.next().unwrap()]
    }

    fn lost(why: &str) -> Outcome {
        Outcome::Lost(why.to_owned())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let [one, two, _] = names();
        let outcomes = Outcomes::from([(one, Outcome::Held), (two, lost("no such kind"))]);
        let table = Table { outcomes };
        let page = table.render();
        assert_eq!(Table::read(&page), table);
        assert!(page.contains("\n| a1 | the API server alone | 1 | 1 | 113 |\n"), "{page}");
        let gone = page.replace(one, "[sig-x] a spec that upstream has removed");
        assert_eq!(Table::read(&gone).outcomes, Outcomes::from([(two, lost("no such kind"))]));
    }

    #[test]
    fn a_loss_is_told_and_not_written() {
        let [one, two, three] = names();
        let outcomes = Outcomes::from([(one, Outcome::Held), (two, lost("before"))]);
        let mut table = Table { outcomes };
        let run =
            Outcomes::from([(one, lost("now")), (two, lost("after")), (three, Outcome::Held)]);
        assert_eq!(table.compare(&run), News { lost: vec![one], gained: vec![three] });
        table.take(&run);
        let taken =
            Outcomes::from([(one, Outcome::Held), (two, lost("after")), (three, Outcome::Held)]);
        assert_eq!(table.outcomes, taken);
    }
}
