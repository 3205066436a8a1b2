//! Functions for text. Places are counted in code points.

use std::cell::RefCell;
use std::sync::Arc;

use cel::Value;

use super::function::{Table, no_overload, one_text, text_value};
use crate::allowance::Allowance;
use crate::pattern::Made;
use crate::weight::VALUE_BYTES;

pub(super) const FUNCTIONS: Table = &[
    ("charAt", char_at),
    ("lowerAscii", |values, _| of_text(values, |text| text.to_ascii_lowercase())),
    ("upperAscii", |values, _| of_text(values, |text| text.to_ascii_uppercase())),
    ("trim", |values, _| of_text(values, |text| text.trim().to_owned())),
    ("substring", substring),
    ("replace", replace),
    ("split", split),
    ("join", join),
    ("format", format),
    ("@matches", matches),
    ("find", find),
    ("findAll", find_all),
    ("strings.quote", |values, _| of_text(values, quoted)),
];

/// In quotes, as it may be written.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        let escape = match letter {
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\u{c}' => 'f',
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\u{b}' => 'v',
            '\\' | '"' => letter,
            plain => {
                quoted.push(plain);
                continue;
            }
        };
        quoted.extend(['\\', escape]);
    }
    quoted.push('"');
    quoted
}

fn of_text(values: &[Value], make: impl Fn(&str) -> String) -> Result<Value, String> {
    one_text(values).map(|text| text_value(make(text)))
}

fn char_at(values: &[Value], _: &Allowance) -> Result<Value, String> {
    let [Value::String(text), Value::Int(at)] = values else { return no_overload() };
    let length = text.chars().count();
    let at = usize::try_from(*at).ok().filter(|at| *at <= length);
    let at = at.ok_or_else(|| format!("index out of range: {}", values_shown(values)))?;
    Ok(text_value(text.chars().nth(at).map(String::from).unwrap_or_default()))
}

fn values_shown(values: &[Value]) -> String {
    if let Some(Value::Int(at)) = values.get(1) { at.to_string() } else { String::new() }
}

fn substring(values: &[Value], _: &Allowance) -> Result<Value, String> {
    let (text, from, to) = match values {
        [Value::String(text), Value::Int(from)] => (text, *from, None),
        [Value::String(text), Value::Int(from), Value::Int(to)] => (text, *from, Some(*to)),
        [..] => return no_overload(),
    };
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let to = to.unwrap_or(length);
    if from < 0 || length < from || to < 0 || length < to {
        return Err(format!(
            "index out of range: {}",
            if from < 0 || length < from { from } else { to }
        ));
    }
    if to < from {
        return Err(format!("invalid substring range. start: {from}, end: {to}"));
    }
    let place = |place: i64| usize::try_from(place).unwrap_or_default();
    Ok(text_value(text.chars().skip(place(from)).take(place(to - from)).collect::<String>()))
}

fn replace(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let (text, from, to, most) = match values {
        [Value::String(text), Value::String(from), Value::String(to)] => (text, from, to, -1),
        [Value::String(text), Value::String(from), Value::String(to), Value::Int(most)] => {
            (text, from, to, *most)
        }
        [..] => return no_overload(),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let times = text.matches(from.as_str()).count().min(most);
    if !allowance.room(text.len().saturating_add(times.saturating_mul(to.len()))) {
        return Err("too much work".to_owned());
    }
    Ok(text_value(text.replacen(from.as_str(), to, times)))
}

fn split(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let (text, separator, most) = match values {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(most)] => {
            (text, separator, *most)
        }
        [..] => return no_overload(),
    };
    let parts = match separator.is_empty() {
        true => text.len(),
        false => text.matches(separator.as_str()).count(),
    };
    let parts = parts.min(usize::try_from(most).unwrap_or(usize::MAX)).saturating_add(1);
    if !allowance.room(text.len().saturating_add(parts.saturating_mul(VALUE_BYTES))) {
        return Err("too much work".to_owned());
    }
    let all = |part: &str| text_value(part);
    let parts: Vec<Value> = match (usize::try_from(most), separator.is_empty()) {
        (Ok(0), _) => Vec::new(),
        (Ok(most), true) => {
            let mut letters = text.char_indices();
            let mut parts: Vec<Value> =
                letters.by_ref().take(most - 1).map(|(_, letter)| text_value(letter)).collect();
            parts.extend(letters.next().map(|(at, _)| all(text.get(at..).unwrap_or_default())));
            parts
        }
        (Ok(most), false) => text.splitn(most, separator.as_str()).map(all).collect(),
        (Err(_), true) => text.chars().map(text_value).collect(),
        (Err(_), false) => text.split(separator.as_str()).map(all).collect(),
    };
    Ok(Value::List(Arc::new(parts)))
}

fn join(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let (list, separator) = match values {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, separator.as_str()),
        [..] => return no_overload(),
    };
    let mut parts = Vec::with_capacity(list.len());
    for item in list.iter() {
        let Value::String(text) = item else { return no_overload() };
        parts.push(text.as_str());
    }
    let texts: usize = parts.iter().map(|part| part.len()).sum();
    if !allowance.room(texts.saturating_add(separator.len().saturating_mul(parts.len()))) {
        return Err("too much work".to_owned());
    }
    Ok(text_value(parts.join(separator)))
}

/// `%s`, `%d`, `%f`, `%e`, `%x`, `%X`, `%o`, `%b`; a precision of two digits at most.
fn format(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let [Value::String(pattern), Value::List(arguments)] = values else { return no_overload() };
    let (mut out, mut letters, mut next) =
        (String::new(), pattern.chars().peekable(), arguments.iter());
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut digits = String::new();
        while letters.peek().is_some_and(|c| *c == '.' || c.is_ascii_digit()) {
            digits.extend(letters.next());
        }
        let precision = digits.trim_start_matches('.').parse::<usize>().unwrap_or(6).min(99);
        let verb = letters.next().ok_or("unexpected end of format string")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = next.next().ok_or_else(|| format!("index {} out of range", arguments.len()))?;
        out.push_str(&formatted(verb, precision, value)?);
        if !allowance.room(out.len()) {
            return Err("too much work".to_owned());
        }
    }
    Ok(text_value(out))
}

fn formatted(verb: char, precision: usize, value: &Value) -> Result<String, String> {
    Ok(match (verb, value) {
        ('s', value) => shown(value),
        ('d', Value::Int(_) | Value::UInt(_)) => shown(value),
        ('f', Value::Float(number)) => format!("{number:.precision$}"),
        ('e', Value::Float(number)) => format!("{number:.precision$e}"),
        ('x', Value::Int(number)) => format!("{number:x}"),
        ('X', Value::Int(number)) => format!("{number:X}"),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('o', Value::Int(number)) => format!("{number:o}"),
        ('b', Value::Int(number)) => format!("{number:b}"),
        ('b', Value::Bool(flag)) => u8::from(*flag).to_string(),
        (verb, _) => {
            return Err(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            ));
        }
    })
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => "null".to_owned(),
        Value::List(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Value::Duration(span) => format!("{}s", span.num_seconds()),
        Value::Timestamp(moment) => moment.to_rfc3339(),
        other => format!("{other:?}"),
    }
}

/// Patterns that were just compiled here: a rule asks with the same few.
const PATTERNS_KEPT: usize = 16;

thread_local! {
    static PATTERNS: RefCell<Vec<(String, Made)>> = const { RefCell::new(Vec::new()) };
}

fn pattern(text: &str, allowance: &Allowance) -> Result<Made, String> {
    let kept = PATTERNS.with_borrow(|kept| {
        kept.iter().find(|(own, _)| own == text).map(|(_, pattern)| pattern.clone())
    });
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let compiled = Made::of(text, |units| allowance.take(units))?;
    PATTERNS.with_borrow_mut(|kept| {
        if kept.len() == PATTERNS_KEPT {
            kept.remove(0);
        }
        kept.push((text.to_owned(), compiled.clone()));
    });
    Ok(compiled)
}

/// A pattern that a text is asked for: the longer both are, the more work, as kube-apiserver counts.
fn asked(text: &str, of: &str, allowance: &Allowance) -> Result<Made, String> {
    let made = pattern(of, allowance)?;
    if !allowance.walk(text.len()) || !allowance.take(made.looks(text)) {
        return Err("too much work".to_owned());
    }
    Ok(made)
}

fn matches(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let [Value::String(text), Value::String(of)] = values else { return no_overload() };
    Ok(Value::Bool(asked(text, of, allowance)?.regex().is_match(text)))
}

fn find(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let [Value::String(text), Value::String(of)] = values else { return no_overload() };
    let made = asked(text, of, allowance)?;
    Ok(text_value(made.regex().find(text).map_or("", |found| found.as_str())))
}

fn find_all(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let (text, of, most) = match values {
        [Value::String(text), Value::String(of)] => (text, of, -1),
        [Value::String(text), Value::String(of), Value::Int(most)] => (text, of, *most),
        [..] => return no_overload(),
    };
    let made = pattern(of, allowance)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (mut all, mut at) = (Vec::new(), 0);
    let mut matches = made.regex().find_iter(text).take(most);
    // Each of them may look at all that is left of the text.
    while text.get(at..).is_some_and(|rest| allowance.take(made.looks(rest))) {
        let Some(found) = matches.next() else { return Ok(Value::List(Arc::new(all))) };
        if all.len().is_power_of_two() && !allowance.room(all.len().saturating_mul(VALUE_BYTES)) {
            break;
        }
        at = found.end();
        all.push(text_value(found.as_str()));
    }
    Err("too much work".to_owned())
}
