//! A path from its text.
//!
//! What stands in brackets is cut out before it is read: at the first `]`, or a filter at the first `)]` behind its text in
//! quotes. So nothing is read deeper than a name in a union, or in a filter.

use serde_json::Value;

use super::compare::Compare;
use super::step::{Filter, Operand, Part, Step, To};

/// Steps that a path may have, and paths that a union may.
const STEPS_MAX: usize = 64;

pub(super) fn steps(mut text: &str) -> Option<Vec<Step>> {
    let mut all = Vec::new();
    loop {
        // The current object is where a path is anyway.
        text = text.trim_start_matches([' ', '@', '$']);
        if text.is_empty() {
            return Some(all);
        }
        if STEPS_MAX <= all.len() {
            return None;
        }
        text = if let Some(rest) = text.strip_prefix("[?(") {
            filter(rest, &mut all)?
        } else if let Some(rest) = text.strip_prefix("..") {
            anywhere(rest, &mut all)?
        } else if let Some(rest) = text.strip_prefix('[') {
            bracket(rest, &mut all)?
        } else {
            field(text.strip_prefix('.')?, &mut all)?
        };
    }
}

/// A name up to what ends it; a backslash takes what follows it into the name.
fn field<'a>(text: &'a str, all: &mut Vec<Step>) -> Option<&'a str> {
    let (mut name, mut escaped, mut rest) = (String::new(), false, "");
    for (at, letter) in text.char_indices() {
        if !escaped && " \t\r\n.,[]$@{}".contains(letter) {
            rest = &text[at..];
            break;
        }
        escaped = letter == '\\' && !escaped;
        if letter != '\\' {
            name.push(letter);
        }
    }
    all.push(if name == "*" { Step::All } else { Step::Field(name) });
    (!escaped).then_some(rest)
}

fn anywhere<'a>(text: &'a str, all: &mut Vec<Step>) -> Option<&'a str> {
    if all.last() == Some(&Step::Anywhere) {
        return None;
    }
    all.push(Step::Anywhere);
    let names = |letter: char| letter == '_' || letter.is_alphanumeric();
    if text.starts_with(names) { field(text, all) } else { Some(text) }
}

fn bracket<'a>(text: &'a str, all: &mut Vec<Step>) -> Option<&'a str> {
    let (inside, rest) = text.split_once(']')?;
    if inside.contains('\n') {
        return None;
    }
    if inside.contains(',') {
        if STEPS_MAX <= inside.matches(',').count() {
            return None;
        }
        let one = |part: &str| steps(&format!("[{}]", part.trim_matches(' ')));
        all.push(Step::Union(inside.split(',').map(one).collect::<Option<_>>()?));
        return Some(rest);
    }
    if let Some(name) = inside.strip_prefix('\'').and_then(|it| it.strip_suffix('\'')) {
        // A name is read like one behind a dot.
        let named = if name.contains('\'') { None } else { steps(&format!(".{name}")) };
        all.extend(named?);
        return Some(rest);
    }
    all.push(Step::Part(part(if inside == "*" { ":" } else { inside })?));
    Some(rest)
}

fn part(text: &str) -> Option<Part> {
    let mut words = text.split(':');
    let number = |word: &str| {
        if word.starts_with('+') { None } else { word.parse::<i64>().ok() }
    };
    let from = match words.next()? {
        "" => 0,
        word => number(word)?,
    };
    let to = match words.next() {
        None => To::Next,
        Some("") => To::End,
        Some(word) => To::Before(number(word)?),
    };
    let step = match words.next() {
        None | Some("") => None,
        Some(word) => Some(number(word)?),
    };
    words.next().is_none().then_some(Part { from, to, step })
}

fn filter<'a>(text: &'a str, all: &mut Vec<Step>) -> Option<&'a str> {
    let (inside, rest) = text.split_at(end_of_filter(text)?);
    let is_sign = |letter: char| "!<>=".contains(letter);
    let filter = match inside.find(is_sign) {
        None => Filter::Exists(steps(inside)?),
        Some(0) => return None,
        Some(at) => {
            let (left, right) = inside.split_at(at);
            let signs = right.len() - right.trim_start_matches(is_sign).len();
            let (word, right) = right.split_at(signs);
            Filter::Compares(steps(left)?, Compare::read(word), operand(right)?)
        }
    };
    all.push(Step::Filter(filter));
    rest.strip_prefix(")]")
}

/// Where the parenthesis stands that ends it: behind one text in quotes at most.
fn end_of_filter(text: &str) -> Option<usize> {
    let (mut quote, mut over, mut before) = (None, false, ' ');
    for (at, letter) in text.char_indices() {
        match (letter, quote) {
            ('\n', _) => return None,
            (')', quote) if quote.is_some() == over => return Some(at),
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(quote)) if letter == quote && before != '\\' => over = true,
            (_, _) => {}
        }
        before = letter;
    }
    None
}

fn operand(text: &str) -> Option<Operand> {
    let text = text.trim_matches(' ');
    let literal = |value: Value| Some(Operand::Literal(value));
    if text.starts_with(['"', '\'']) {
        return literal(unquoted(text)?.into());
    }
    if text.starts_with(|letter: char| letter.is_ascii_digit() || "+-".contains(letter)) {
        return match text.parse::<i64>() {
            Ok(whole) => literal(whole.into()),
            Err(_) => literal(text.parse::<f64>().ok()?.into()),
        };
    }
    match text {
        "" => None,
        "true" => literal(true.into()),
        "false" => literal(false.into()),
        other => steps(other).map(Operand::Path),
    }
}

/// A text in quotes, and nothing behind it.
fn unquoted(text: &str) -> Option<String> {
    let mut letters = text.chars();
    let quote = letters.next()?;
    let mut out = String::new();
    loop {
        match letters.next()? {
            '\\' => out.push(match letters.next()? {
                'n' => '\n',
                't' => '\t',
                same @ ('\\' | '"' | '\'') => same,
                _ => return None,
            }),
            letter if letter == quote => return letters.next().is_none().then_some(out),
            letter => out.push(letter),
        }
    }
}
