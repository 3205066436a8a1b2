//! Patterns: Go's regular expressions, on an engine that takes linear time as Go's does.
//!
//! Guarantees:
//! - `\d`, `\w`, `\s` and `\b` know ASCII alone, and a bracket in a class is a bracket, as in Go
//!   (`what_go_means_by_a_pattern_is_meant`).

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take: a definition may have many.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A pattern, compiled when it is first asked.
#[derive(Debug)]
pub struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    /// What a text means in Go's syntax.
    ///
    /// # Errors
    /// Why it means nothing.
    pub fn compile(text: &str) -> Result<Regex, String> {
        compile(text)
    }

    /// Why a text is no pattern.
    #[must_use]
    pub fn wrong(text: &str) -> Option<String> {
        compile(text).err()
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a value has it somewhere. Nothing has one that is none.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&self.text).ok());
        compiled.as_ref().is_some_and(|compiled| compiled.is_match(value))
    }
}

/// A pattern in Go's syntax, or why it is none.
fn compile(text: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(&translate(text)).size_limit(COMPILED_BYTES_MAX).build();
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
        assert!(compile("^(a").is_err());
        assert_eq!(compile("(a{1000}){1000}").unwrap_err(), "it is too large");
    }
}
