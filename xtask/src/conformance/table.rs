//! `docs/conformance.md`: what became of each spec in the last run that was written down, by the form that it was run in.
//!
//! Guarantees:
//! - what is written is read again as it was (`what_is_written_is_read_again`);
//! - a spec that the table says is held and that a run loses is told, and stays held there (`a_loss_is_told_and_not_written`);
//! - a run in one form says nothing of the other (`a_form_is_told_by_itself`);
//! - what is committed is what this writes (`the_committed_page_is_what_is_written`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::content::{CONTENTS, Content};
use super::outcome::Outcome;
use super::spec::{self, CLASSES, Class};

/// Outcomes by the names of specs.
pub type Outcomes = BTreeMap<&'static str, Outcome>;

/// The table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    outcomes: BTreeMap<(&'static str, Content), Outcome>,
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
`cargo xtask test --all` runs class a1 in both forms. Only who takes a row away by hand can take a promise back. The suite's
clients speak protobuf, as they do by default, or JSON (`--content json`); what is lost is told with the first failing line.
";

impl Table {
    /// Reads what [`Table::render`] writes; rows of specs that there are no more are left out.
    pub fn read(text: &str) -> Self {
        let names: BTreeMap<&str, &'static str> =
            spec::all().map(|spec| (spec.name, spec.name)).collect();
        let mut outcomes = BTreeMap::new();
        for line in text.lines() {
            let row = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
            let mut cells = row.unwrap_or_default().split(" | ");
            let Some(name) = cells.next().and_then(|name| names.get(name)) else { continue };
            for (content, cell) in CONTENTS.into_iter().zip(cells) {
                let outcome = match cell {
                    "held" => Some(Outcome::Held),
                    _ => cell.strip_prefix("lost: ").map(|why| Outcome::Lost(why.to_owned())),
                };
                outcomes.extend(outcome.map(|outcome| ((*name, content), outcome)));
            }
        }
        Self { outcomes }
    }

    /// The page.
    pub fn render(&self) -> String {
        let mut page = HEAD.to_owned();
        let titles = CONTENTS.map(Content::title).join(" | ");
        // Writing to a text cannot fail.
        let _ = writeln!(page, "\n| class | what its specs need | | held | lost | not run |");
        page.push_str("|---|---|---|---|---|---|\n");
        for class in &CLASSES {
            for content in CONTENTS {
                let (held, lost) = self.counts(class, content);
                let rest = class.specs().count() - held - lost;
                let (name, needs, form) = (class.name, class.needs, content.title());
                let _ = writeln!(page, "| {name} | {needs} | {form} | {held} | {lost} | {rest} |");
            }
        }
        for class in &CLASSES {
            let _ = writeln!(page, "\n## {}: {}\n", class.name, class.needs);
            let _ = writeln!(page, "| spec | {titles} |\n|---|---|---|");
            for name in class.specs() {
                let cells = CONTENTS.map(|content| match self.outcomes.get(&(name, content)) {
                    Some(Outcome::Held) => "held".to_owned(),
                    Some(Outcome::Lost(why)) => format!("lost: {why}"),
                    None => "not run".to_owned(),
                });
                let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
            }
        }
        page
    }

    fn counts(&self, class: &Class, content: Content) -> (usize, usize) {
        let of = |held: bool| {
            let fits = |name: &&str| {
                let outcome = self.outcomes.get(&(*name, content));
                outcome.is_some_and(|outcome| (*outcome == Outcome::Held) == held)
            };
            class.specs().filter(fits).count()
        };
        (of(true), of(false))
    }

    /// Whether it promises this spec.
    fn holds(&self, name: &'static str, content: Content) -> bool {
        self.outcomes.get(&(name, content)) == Some(&Outcome::Held)
    }

    /// What is new in a run's outcomes.
    pub fn compare(&self, run: &Outcomes, content: Content) -> News {
        let mut news = News::default();
        for (name, outcome) in run {
            match (self.holds(name, content), outcome) {
                (true, Outcome::Lost(_)) => news.lost.push(name),
                (false, Outcome::Held) => news.gained.push(name),
                _ => {}
            }
        }
        news
    }

    /// Takes over a run's outcomes, but for losses.
    pub fn take(&mut self, run: &Outcomes, content: Content) {
        for (name, outcome) in run {
            if *outcome == Outcome::Held || !self.holds(name, content) {
                self.outcomes.insert((name, content), outcome.clone());
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

    /// What a run in protobuf found.
    fn of(run: &Outcomes) -> Table {
        let mut table = Table::default();
        table.take(run, Content::Protobuf);
        table
    }

    #[test]
    fn what_is_written_is_read_again() {
        let [one, two, _] = names();
        let mut table = of(&Outcomes::from([(one, Outcome::Held), (two, lost("no such kind"))]));
        table.take(&Outcomes::from([(one, lost("no JSON"))]), Content::Json);
        let page = table.render();
        assert_eq!(Table::read(&page), table);
        for row in [
            "\n| a1 | the API server alone | protobuf | 1 | 1 | 113 |\n".to_owned(),
            "\n| a1 | the API server alone | JSON | 0 | 1 | 114 |\n".to_owned(),
            format!("\n| {one} | held | lost: no JSON |\n"),
            format!("\n| {two} | lost: no such kind | not run |\n"),
        ] {
            assert!(page.contains(&row), "{row}{page}");
        }
        let gone = page.replace(one, "[sig-x] a spec that upstream has removed");
        assert_eq!(Table::read(&gone), of(&Outcomes::from([(two, lost("no such kind"))])));
    }

    #[test]
    fn a_loss_is_told_and_not_written() {
        let [one, two, three] = names();
        let mut table = of(&Outcomes::from([(one, Outcome::Held), (two, lost("before"))]));
        let run =
            Outcomes::from([(one, lost("now")), (two, lost("after")), (three, Outcome::Held)]);
        let news = table.compare(&run, Content::Protobuf);
        assert_eq!(news, News { lost: vec![one], gained: vec![three] });
        table.take(&run, Content::Protobuf);
        let taken =
            Outcomes::from([(one, Outcome::Held), (two, lost("after")), (three, Outcome::Held)]);
        assert_eq!(table, of(&taken));
    }

    #[test]
    fn a_form_is_told_by_itself() {
        let [one, two, _] = names();
        let mut table = of(&Outcomes::from([(one, Outcome::Held)]));
        let run = Outcomes::from([(one, lost("now")), (two, Outcome::Held)]);
        let news = table.compare(&run, Content::Json);
        assert_eq!(news, News { lost: vec![], gained: vec![two] });
        table.take(&run, Content::Json);
        assert!(table.holds(one, Content::Protobuf) && table.holds(two, Content::Json));
        assert!(!table.holds(one, Content::Json) && !table.holds(two, Content::Protobuf));
    }

    #[test]
    fn the_committed_page_is_what_is_written() {
        let page = include_str!("../../../docs/conformance.md");
        assert_eq!(Table::read(page).render(), page);
    }
}
