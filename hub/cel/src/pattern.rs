//! Patterns: Go's regular expressions, on an engine that takes linear time as Go's does.
//!
//! ```text
//! text ─ translated ─ size: bounded, before anything is made of it ─▶ compiled ─ kept: as long as there is room
//! ```
//!
//! Guarantees:
//! - `\d`, `\w`, `\s` and `\b` know ASCII alone, and a bracket in a class is a bracket, as in Go
//!   (`what_go_means_by_a_pattern_is_meant`);
//! - nothing is made of a pattern that is too large (`what_is_too_large_is_refused_before_it_is_made`);
//! - who asks pays for what it takes to compile one and to look for it (`who_asks_a_pattern_pays`).

mod kept;
mod size;

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};

use kept::{CACHE_BYTES, COMPILED_BYTES_MAX, Compiled, keep};
use size::Size;

/// States of a pattern, times bytes of a text, that take a unit of work.
const LOOKS_PER_UNIT: usize = 128;

/// A pattern, compiled when it is asked.
#[derive(Debug)]
pub struct Pattern {
    text: Box<str>,
    /// Nothing has one that is none.
    size: OnceLock<Option<Size>>,
    compiled: Mutex<Weak<Compiled>>,
}

impl Pattern {
    /// Of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), size: OnceLock::new(), compiled: Mutex::default() }
    }

    /// Why a text is no pattern. The work of looking at it is taken by `pay`, which answers whether there was that much;
    /// where there was not, nothing is said.
    #[must_use]
    pub fn wrong(text: &str, pay: impl FnOnce(u64) -> bool) -> Option<String> {
        match looked_at(text) {
            Err(why) => Some(why),
            Ok((text, size)) => pay(size.units).then(|| compile(&text).err()).flatten(),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a value has it somewhere. Nothing has one that is none.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.matches_for(value, |_| true).unwrap_or_default()
    }

    /// The same, where `pay` takes the work, and answers whether there was that much; nothing where there was not.
    #[must_use]
    pub fn matches_for(&self, value: &str, mut pay: impl FnMut(u64) -> bool) -> Option<bool> {
        let size = self.size.get_or_init(|| looked_at(&self.text).ok().map(|(_, size)| size));
        let Some(size) = size else { return Some(false) };
        let kept = self.compiled.lock().upgrade();
        let compiled = match kept {
            Some(kept) => kept,
            None if !pay(size.units) => return None,
            None => {
                let Ok(regex) = compile(&translate(&self.text)) else { return Some(false) };
                let compiled = Compiled::new(regex, size.bytes);
                *self.compiled.lock() = Arc::downgrade(&compiled);
                keep(compiled.clone());
                compiled
            }
        };
        pay(looks(*size, value)).then(|| compiled.is_match(value))
    }
}

/// Units that it takes to look for a pattern in a text.
fn looks(size: Size, text: &str) -> u64 {
    u64::try_from(text.len().saturating_mul(size.states) / LOOKS_PER_UNIT).unwrap_or(u64::MAX)
}

/// A pattern that an expression has made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    regex: Regex,
    size: Size,
}

impl Made {
    /// Of this text, where `pay` takes the work of it.
    pub(crate) fn of(text: &str, pay: impl Fn(u64) -> bool) -> Result<Self, String> {
        let too_much = || "too much work".to_owned();
        // What is refused was looked at as well.
        if !pay(size::UNITS_PER_PATTERN) {
            return Err(too_much());
        }
        let (text, size) = looked_at(text)?;
        if !pay(size.units.saturating_sub(size::UNITS_PER_PATTERN)) {
            return Err(too_much());
        }
        Ok(Self { regex: compile(&text)?, size })
    }

    pub(crate) fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Units that it takes to look for it in a text.
    pub(crate) fn looks(&self, text: &str) -> u64 {
        looks(self.size, text)
    }
}

/// A pattern in the words of the engine, and its size.
fn looked_at(text: &str) -> Result<(String, Size), String> {
    size::check_length(text)?;
    let text = translate(text);
    let size = size::of(&text)?;
    Ok((text, size))
}

/// An engine for what was looked at and is not too large.
fn compile(translated: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(translated);
    let compiled = builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(CACHE_BYTES).build();
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    })
}

/// What Go means, in the words of the engine.
fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut letters = text.chars().peekable();
    let mut in_class = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                let Some(next) = letters.next() else {
                    out.push('\\');
                    break;
                };
                match shorthand(next, in_class) {
                    Some(said) => out.push_str(said),
                    None => out.extend(['\\', next]),
                }
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                // A class may begin with a bracket that does not end it.
                for first in ['^', ']'] {
                    if letters.peek() == Some(&first) {
                        out.push_str(if first == ']' { "\\]" } else { "^" });
                        letters.next();
                    }
                }
            }
            '[' if letters.peek() == Some(&':') => {
                out.push('[');
                for letter in letters.by_ref() {
                    out.push(letter);
                    if letter == ']' {
                        break;
                    }
                }
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', letter]),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

fn shorthand(letter: char, in_class: bool) -> Option<&'static str> {
    Some(match (letter, in_class) {
        ('d', false) => "[0-9]",
        ('d', true) => "0-9",
        ('D', false) => "[^0-9]",
        ('w', false) => "[0-9A-Za-z_]",
        ('w', true) => "0-9A-Za-z_",
        ('W', false) => "[^0-9A-Za-z_]",
        ('s', false) => r"[\t\n\f\r ]",
        ('s', true) => r"\t\n\f\r ",
        ('S', false) => r"[^\t\n\f\r ]",
        ('b', false) => r"(?-u:\b)",
        ('B', false) => r"(?-u:\B)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, value: &str, matches: bool) {
        assert_eq!(Pattern::new(pattern).matches(value), matches, "{pattern} {value}");
    }

    #[test]
    fn what_go_means_by_a_pattern_is_meant() {
        check(r"^\d+$", "12", true);
        check(r"^\d+$", "\u{0663}", false);
        check(r"^[\w.]+$", "a.b_1", true);
        check(r"^\w$", "\u{e9}", false);
        check(r"^[[a]+$", "[a", true);
        check(r"^[^[\]]+$", "a[", false);
        check(r"^[&&~~]+$", "&~", true);
        check(r"^[]a]+$", "]a", true);
        check(r"^[[:alpha:]_]+$", "a_", true);
        check(r"^(\/[^\/]+)+$", "/a/b", true);
        check("b", "abc", true);
        check("^(a", "a", false);
        assert_eq!(wrong("^(a").as_deref(), Some("unclosed group"));
    }

    fn wrong(text: &str) -> Option<String> {
        Pattern::wrong(text, |_| true)
    }

    /// The first would take gigabytes before its size is known.
    #[test]
    fn what_is_too_large_is_refused_before_it_is_made() {
        let begun = std::time::Instant::now();
        for text in [r"\pL".repeat(700_000), r"\pL".repeat(2_000), "[ab]{10000}".to_owned()] {
            assert!(wrong(&text).is_some() && !Pattern::new(&text).matches("a"), "{}", &text[..9]);
        }
        assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
        assert_eq!(wrong(r"\pL{1000}").as_deref(), Some("it is too large"));
    }

    #[test]
    fn who_asks_a_pattern_pays() {
        let pattern = Pattern::new("^[a-z]{1,100}$");
        let ask = |left: u64, text: &str| {
            let mut left = left;
            let mut paid = 0;
            let pay = |units| {
                paid += units;
                let enough = units <= left;
                left = left.saturating_sub(units);
                enough
            };
            (pattern.matches_for(text, pay), paid)
        };
        assert_eq!(ask(100, "abc").0, None);
        let (matches, first) = ask(10_000, "abc");
        let (again, second) = ask(10_000, "abc");
        assert!(matches == Some(true) && again == matches && second < 10 && 200 < first);
        let (long, third) = ask(u64::MAX, &"A".repeat(100_000));
        assert!(long == Some(false) && 50_000 < third, "{third}");
        assert_eq!(ask(1_000, &"A".repeat(100_000)).0, None);
    }
}
