//! JSONPath as Kubernetes has it, as far as columns and selectable fields need it: `.status.conditions[?(@.type=="Ready")].status`.
//!
//! It is no RFC 9535: `.a\.b/c` names one field, filters have parentheses, and what is not there is no mistake.
//!
//! ```text
//! .name ['name'] [0] [-1] [*] [0:2] ..name [?(@.path)] [?(@.path=="text")]   ==  !=  <  <=  >  >=
//! ```
//!
//! Guarantees:
//! - a path that is none is refused, never half followed (`paths_are_read_as_a_whole`);
//! - a path takes no more of the stack than its filters in filters, which are few (`filters_in_filters_are_bounded`).

use std::cmp::Ordering;

use serde_json::Value;

/// Steps that a path may have.
const STEPS_MAX: usize = 64;
/// Filters in filters.
const FILTERS_MAX: usize = 4;
/// Values that a path may lead to.
const FOUND_MAX: usize = 10_000;

/// A path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(i64, Option<i64>),
    All,
    Anywhere(String),
    Filter(JsonPath, Option<(Compare, Value)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// From its text; `None` when that is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (path, rest) = steps(text.strip_prefix('$').unwrap_or(text), FILTERS_MAX)?;
        rest.is_empty().then_some(path)
    }

    /// One that leads to nothing.
    #[must_use]
    pub fn nowhere() -> Self {
        Self(vec![Step::Slice(0, Some(0)), Step::Index(0)])
    }

    /// The first value that it leads to.
    #[must_use]
    pub fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.all(value).into_iter().next()
    }

    /// Every value that it leads to.
    #[must_use]
    pub fn all<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
                next.truncate(FOUND_MAX);
            }
            found = next;
        }
        found
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value, found: &mut Vec<&'a Value>) {
        let items = || value.as_array().map(Vec::as_slice).unwrap_or_default();
        match self {
            Self::Field(name) => found.extend(value.get(name)),
            Self::Index(index) => {
                found.extend(place(*index, items().len()).and_then(|at| items().get(at)));
            }
            Self::Slice(from, to) => {
                let length = items().len();
                let from = place(*from, length).unwrap_or(length);
                let to = to.map_or(length, |to| place(to, length).unwrap_or(length).min(length));
                found.extend(items().get(from..to).unwrap_or_default());
            }
            Self::All => match value {
                Value::Array(items) => found.extend(items),
                Value::Object(map) => found.extend(map.values()),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            },
            Self::Anywhere(name) => anywhere(name, value, found),
            Self::Filter(path, test) => {
                let passes = |item: &&Value| match (path.first(item), test) {
                    (found, None) => found.is_some(),
                    (None, Some(_)) => false,
                    (Some(found), Some((compare, with))) => compare.holds(found, with),
                };
                found.extend(items().iter().filter(passes));
            }
        }
    }
}

fn place(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if index < 0 { length + index } else { index }).ok()
}

fn anywhere<'a>(name: &str, value: &'a Value, found: &mut Vec<&'a Value>) {
    if FOUND_MAX < found.len() {
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| anywhere(name, item, found)),
        Value::Object(map) => {
            found.extend(map.get(name));
            map.values().for_each(|value| anywhere(name, value, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl Compare {
    fn holds(self, found: &Value, with: &Value) -> bool {
        let order = match (found, with) {
            (Value::String(found), Value::String(with)) => Some(found.cmp(with)),
            (Value::Number(found), Value::Number(with)) => {
                found.as_f64().zip(with.as_f64()).and_then(|(found, with)| found.partial_cmp(&with))
            }
            (found, with) => (found == with).then_some(Ordering::Equal),
        };
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

/// Steps as far as there are any, and what follows them. They may have filters, and these as many less one.
fn steps(mut text: &str, filters: usize) -> Option<(JsonPath, &str)> {
    let mut all = Vec::new();
    loop {
        if all.len() == STEPS_MAX {
            return None;
        }
        if let Some(rest) = text.strip_prefix("..") {
            let (name, rest) = field(rest);
            all.push(Step::Anywhere(name?));
            text = rest;
        } else if let Some(rest) = text.strip_prefix(".*") {
            all.push(Step::All);
            text = rest;
        } else if let Some(rest) = text.strip_prefix('.') {
            let (name, rest) = field(rest);
            match name {
                Some(name) => all.push(Step::Field(name)),
                // The whole of it.
                None if all.is_empty() && (text == "." || text.starts_with(".[")) => {}
                None => return None,
            }
            text = rest;
        } else if let Some(rest) = text.strip_prefix('[') {
            let (step, rest) = bracket(rest, filters)?;
            all.push(step);
            text = rest;
        } else {
            return Some((JsonPath(all), text));
        }
    }
}

/// A name up to what ends it; a backslash takes what follows it into the name.
fn field(text: &str) -> (Option<String>, &str) {
    let (mut name, mut escaped) = (String::new(), false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => {
                name.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' | ')' | '=' | '!' | '<' | '>' | ' ' | '{' | '}' | '|' | '&' => {
                return ((!name.is_empty()).then_some(name), &text[at..]);
            }
            letter => name.push(letter),
        }
    }
    ((!name.is_empty() && !escaped).then_some(name), "")
}

fn bracket(text: &str, filters: usize) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix("?(") {
        let (step, rest) = filter(rest.trim_start(), filters.checked_sub(1)?)?;
        return Some((step, rest.trim_start().strip_prefix(")]")?));
    }
    if text.starts_with(['\'', '"']) {
        let (name, rest) = quoted(text)?;
        return Some((Step::Field(name), rest.strip_prefix(']')?));
    }
    let (inside, rest) = text.split_once(']')?;
    let number = |text: &str| text.trim().parse::<i64>().ok();
    let step = match inside.split_once(':') {
        _ if inside == "*" => Step::All,
        Some((from, to)) => {
            let from = if from.trim().is_empty() { 0 } else { number(from)? };
            let to = if to.trim().is_empty() { None } else { Some(number(to)?) };
            Step::Slice(from, to)
        }
        None => Step::Index(number(inside)?),
    };
    Some((step, rest))
}

fn filter(text: &str, filters: usize) -> Option<(Step, &str)> {
    let (path, rest) = steps(text.strip_prefix('@')?, filters)?;
    let rest = rest.trim_start();
    let words = [
        ("==", Compare::Equal),
        ("!=", Compare::NotEqual),
        ("<=", Compare::LessOrEqual),
        (">=", Compare::GreaterOrEqual),
        ("<", Compare::Less),
        (">", Compare::Greater),
    ];
    let found =
        words.into_iter().find_map(|(word, compare)| Some((compare, rest.strip_prefix(word)?)));
    let Some((compare, rest)) = found else { return Some((Step::Filter(path, None), rest)) };
    let rest = rest.trim_start();
    if rest.starts_with(['\'', '"']) {
        let (text, rest) = quoted(rest)?;
        return Some((Step::Filter(path, Some((compare, Value::String(text)))), rest));
    }
    let end = rest.find([')', ' '])?;
    let literal = serde_json::from_str(&rest[..end]).ok()?;
    Some((Step::Filter(path, Some((compare, literal))), &rest[end..]))
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next()?;
    let (mut out, mut escaped) = (String::new(), false);
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => {
                out.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            letter if letter == quote => return Some((out, &text[at + 1..])),
            letter => out.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn finds(path: &str, expected: &Value) {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "x"}, "labels": {"a-b": "y"}},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1}, {"type": "Gone", "status": "False", "n": 2},
            ], "list": [1, 2, 3]},
        });
        let found = JsonPath::read(path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(json!(found.all(&object)), *expected, "{path}");
    }

    #[test]
    fn paths_lead_where_kubectl_goes() {
        finds(".status.list", &json!([[1, 2, 3]]));
        finds(".status.list[0]", &json!([1]));
        finds(".status.list[-1]", &json!([3]));
        finds(".status.list[1:]", &json!([2, 3]));
        finds(".status.list[*]", &json!([1, 2, 3]));
        finds(r".metadata.annotations.a\.b/c", &json!(["x"]));
        finds(".metadata.annotations['a.b/c']", &json!(["x"]));
        finds(".metadata.labels.a-b", &json!(["y"]));
        finds(r#".status.conditions[?(@.type=="Ready")].status"#, &json!(["True"]));
        finds(r#".status.conditions[?(@.type == 'Gone')].status"#, &json!(["False"]));
        finds(".status.conditions[?(@.n>1)].type", &json!(["Gone"]));
        finds(".status.conditions[?(@.x)].type", &json!([]));
        finds("..type", &json!(["Ready", "Gone"]));
        finds(".nothing.here[3].at", &json!([]));
    }

    #[test]
    fn paths_are_read_as_a_whole() {
        for wrong in
            [".a[", ".a[x]", ".a..", ".a[?(@.x==]", "a", ".a b", ".a{", r".a\", ".a.", "[?(x)]"]
        {
            assert_eq!(JsonPath::read(wrong), None, "{wrong}");
        }
        assert!(JsonPath::read(&".a".repeat(65)).is_none());
        assert_eq!(JsonPath::read("."), Some(JsonPath(Vec::new())));
    }

    #[test]
    fn filters_in_filters_are_bounded() {
        let nested = |n: usize| format!(".a{}{}", "[?(@.a".repeat(n), ")]".repeat(n));
        assert!(JsonPath::read(&nested(FILTERS_MAX)).is_some());
        assert!(JsonPath::read(&nested(FILTERS_MAX + 1)).is_none());
        assert!(JsonPath::read(&nested(100_000)).is_none());
    }
}
