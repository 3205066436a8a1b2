//! How large a pattern is, before anything is made of it: what it costs to compile and to look for.
//!
//! Guarantees:
//! - what Go refuses for how often it repeats is refused with Go's words (`what_repeats_too_often_is_refused_as_by_go`).

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    Ast, ClassBracketed, ClassSet, ClassSetItem, Flag, FlagsItemKind, GroupKind, Repetition,
    RepetitionKind, RepetitionRange,
};

/// Bytes of a pattern.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// How often a pattern repeats something, and what is in it, as in Go.
const REPEATS_MAX: u32 = 1_000;
/// Classes of a pattern that have thousands of letters: each is a table.
const TABLES_MAX: usize = 64;
/// Letters of a range from which on it counts as one.
const TABLE_LETTERS: u32 = 4_096;

/// Units of work ([`crate::UNITS_MAX`]) that each pattern takes, and bytes of the engine that take one.
pub(super) const UNITS_PER_PATTERN: u64 = 200;
const UNIT_BYTES: u64 = 32;
/// Units that a table takes whose letters are looked for in both cases.
const FOLD_UNITS: u64 = 10_000;

/// How large it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// States that it may be in at a time.
    pub(crate) states: usize,
    /// Bytes of the engine that it becomes, about.
    pub(crate) bytes: usize,
    /// Units of work that it takes to compile.
    pub(crate) units: u64,
}

/// Whether a pattern is longer than one may be.
pub(crate) fn check_length(text: &str) -> Result<(), String> {
    if TEXT_BYTES_MAX < text.len() {
        return Err(format!("it is too large: it may have {TEXT_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// The size of a pattern in the words of the engine.
pub(crate) fn of(text: &str) -> Result<Size, String> {
    let ast = Parser::new().parse(text).map_err(|error| error.kind().to_string())?;
    let mut walk = Walk { text, tables: 0, folds: false };
    let Part { states, bytes } = walk.part(&ast, REPEATS_MAX)?;
    if TABLES_MAX < walk.tables {
        return Err(format!("it is too large: it may name {TABLES_MAX} classes of Unicode"));
    }
    let folds = if walk.folds { u64::try_from(walk.tables).unwrap_or(u64::MAX) } else { 0 };
    let of_bytes = u64::try_from(bytes).unwrap_or(u64::MAX) / UNIT_BYTES;
    let units = UNITS_PER_PATTERN.saturating_add(of_bytes).saturating_add(folds * FOLD_UNITS);
    Ok(Size { states, bytes, units })
}

struct Walk<'a> {
    text: &'a str,
    tables: usize,
    /// Letters are looked for in both cases somewhere.
    folds: bool,
}

#[derive(Clone, Copy)]
struct Part {
    states: usize,
    bytes: usize,
}

const fn part(states: usize, bytes: usize) -> Part {
    Part { states, bytes }
}

const LETTER: Part = part(1, 64);
const RANGE: Part = part(1, 256);
const NEGATED: Part = part(4, 512);
const TABLE: Part = part(8, 24 << 10);

impl Part {
    fn and(self, other: Self) -> Self {
        let states = self.states.saturating_add(other.states);
        Self { states, bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn times(self, times: usize) -> Self {
        let states = self.states.saturating_mul(times);
        Self { states, bytes: self.bytes.saturating_mul(times) }
    }
}

impl Walk<'_> {
    /// A part of it, which may repeat so often what is in it.
    fn part(&mut self, ast: &Ast, repeats: u32) -> Result<Part, String> {
        Ok(match ast {
            Ast::Empty(_) | Ast::Assertion(_) | Ast::Literal(_) => LETTER,
            Ast::Flags(flags) => {
                self.look_at(&flags.flags.items);
                LETTER
            }
            Ast::Dot(_) => NEGATED,
            Ast::ClassPerl(_) | Ast::ClassUnicode(_) => self.table(),
            Ast::ClassBracketed(class) => self.class(class),
            Ast::Repetition(repetition) => self.repetition(repetition, repeats)?,
            Ast::Group(group) => {
                if let GroupKind::NonCapturing(flags) = &group.kind {
                    self.look_at(&flags.items);
                }
                LETTER.and(self.part(&group.ast, repeats)?)
            }
            Ast::Alternation(all) => self.parts(&all.asts, repeats)?,
            Ast::Concat(all) => self.parts(&all.asts, repeats)?,
        })
    }

    fn parts(&mut self, all: &[Ast], repeats: u32) -> Result<Part, String> {
        all.iter().try_fold(LETTER, |sum, ast| Ok(sum.and(self.part(ast, repeats)?)))
    }

    fn look_at(&mut self, flags: &[regex_syntax::ast::FlagsItem]) {
        let folds = FlagsItemKind::Flag(Flag::CaseInsensitive);
        self.folds |= flags.iter().any(|flag| flag.kind == folds);
    }

    fn table(&mut self) -> Part {
        self.tables += 1;
        TABLE
    }

    fn repetition(&mut self, it: &Repetition, repeats: u32) -> Result<Part, String> {
        let RepetitionKind::Range(range) = &it.op.kind else { return self.part(&it.ast, repeats) };
        let (least, most) = match *range {
            RepetitionRange::Exactly(times) => (times, Some(times)),
            RepetitionRange::AtLeast(times) => (times, None),
            RepetitionRange::Bounded(least, most) => (least, Some(most)),
        };
        let times = most.unwrap_or(least);
        if repeats < times || REPEATS_MAX < least {
            let span = it.op.span;
            let count = self.text.get(span.start.offset..span.end.offset).unwrap_or_default();
            return Err(format!("error parsing regexp: invalid repeat count: `{count}`"));
        }
        let inner = self.part(&it.ast, repeats / times.max(1))?;
        Ok(inner.times(usize::try_from(times).unwrap_or(usize::MAX).max(1)))
    }

    fn class(&mut self, class: &ClassBracketed) -> Part {
        let all = self.set(&class.kind);
        if class.negated { NEGATED.and(all) } else { all }
    }

    fn set(&mut self, set: &ClassSet) -> Part {
        match set {
            ClassSet::Item(item) => self.item(item),
            ClassSet::BinaryOp(both) => self.set(&both.lhs).and(self.set(&both.rhs)),
        }
    }

    fn item(&mut self, item: &ClassSetItem) -> Part {
        match item {
            ClassSetItem::Empty(_) | ClassSetItem::Literal(_) | ClassSetItem::Ascii(_) => LETTER,
            ClassSetItem::Range(range) => {
                let letters = u32::from(range.end.c).saturating_sub(u32::from(range.start.c));
                if letters < TABLE_LETTERS { RANGE } else { self.table() }
            }
            ClassSetItem::Unicode(_) | ClassSetItem::Perl(_) => self.table(),
            ClassSetItem::Bracketed(class) => self.class(class),
            ClassSetItem::Union(all) => {
                // One state, however many letters it takes.
                let items = all.items.iter().map(|item| self.item(item));
                let sum = items.reduce(Part::and).unwrap_or(LETTER);
                Part { states: sum.states.min(TABLE.states), ..sum }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_too_often_is_refused_as_by_go() {
        for (text, said) in [
            ("a{1001}", "{1001}"),
            ("a{2,1001}", "{2,1001}"),
            ("a{1001,}", "{1001,}"),
            ("(a{100}){11}", "{100}"),
            ("(a{1000}){1000}", "{1000}"),
        ] {
            let why = format!("error parsing regexp: invalid repeat count: `{said}`");
            assert_eq!(of(text), Err(why), "{text}");
        }
        for text in ["a{1000}", "(a{100}){10}", "(a{10}b{1000})*", "((a{2,10}){0}c{1000})?"] {
            assert!(of(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_larger_costs_more() {
        let units = |text: &str| of(text).unwrap().units;
        assert!(units("^[a-z]+$") < 300);
        assert!(units("[a-z]{100}") > 2 * units("[a-z]{10}"));
        assert!(units(r"(?i)\pL") > 10 * units(r"\pL"));
        assert!(units(r"(?i:[\x{0}-\x{10ffff}])") > FOLD_UNITS);
        assert!(of(&r"\pL".repeat(TABLES_MAX + 1)).unwrap_err().contains("classes of Unicode"));
        assert!(check_length(&"a".repeat(TEXT_BYTES_MAX + 1)).unwrap_err().contains("8192 bytes"));
        assert_eq!(of("[ab]*a[ab]{1000}c").unwrap().states / 100, 20);
    }
}
