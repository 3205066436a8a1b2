//! A mistake by its place in an expression's text, as kube-apiserver shows it: line and column, and the line itself.
//!
//! Guarantees:
//! - however much is wrong, what is told of it has a bound (`mistakes_are_told_in_short`).

use cel::common::ast::SourceInfo;

/// So many of one expression are told.
const TOLD_MAX: usize = 100;
/// Bytes of them beside the last one. Upstream has no such bound.
const TOLD_BYTES_MAX: usize = 64 << 10;
/// A longer line is not shown.
const LINE_BYTES_MAX: usize = 16_384;

/// What is wrong with a part of an expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// The part.
    pub(super) part: u64,
    pub(super) why: String,
}

/// Mistakes as they are found.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    first: Vec<Mistake>,
    more: usize,
}

impl Mistakes {
    /// One more. Those that come after many are counted alone.
    pub(super) fn add(&mut self, part: u64, why: String) {
        if TOLD_MAX <= self.first.len() {
            self.more += 1;
        } else {
            self.first.push(Mistake { part, why });
        }
    }

    /// All of them, from the first place to the last.
    pub(super) fn into_text(self, places: &SourceInfo) -> String {
        let place = |mistake: Mistake| {
            let start = places.offset_for(mistake.part).map_or(0, |(start, _)| start);
            (start as usize, mistake.why)
        };
        let mut more = self.more;
        let mut all: Vec<(usize, String)> = self.first.into_iter().map(place).collect();
        all.sort_by_key(|(start, _)| *start);
        let mut text = String::new();
        for (start, why) in all {
            if TOLD_BYTES_MAX <= text.len() {
                more += 1;
                continue;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&shown(start, &why, &places.source));
        }
        if 0 < more {
            text.push_str(&format!("\n{more} more errors were truncated"));
        }
        text
    }
}

/// One at this byte of a text.
fn shown(start: usize, why: &str, text: &str) -> String {
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count();
    let before = before.rsplit('\n').next().unwrap_or_default();
    let headline = format!("ERROR: <input>:{}:{}: {why}", line + 1, before.chars().count() + 1);
    let whole = text.split('\n').nth(line).unwrap_or_default();
    if LINE_BYTES_MAX < whole.len() {
        return headline;
    }
    let wide = |letter: char, plain, wide| if letter.is_ascii() { plain } else { wide };
    let dots: String = before.chars().map(|letter| wide(letter, '.', '\u{ff0e}')).collect();
    let at = whole.get(before.len()..).and_then(|rest| rest.chars().next());
    let mark = wide(at.unwrap_or(' '), '^', '\u{ff3e}');
    format!("{headline}\n | {}\n | {dots}{mark}", whole.replace('\t', " "))
}
