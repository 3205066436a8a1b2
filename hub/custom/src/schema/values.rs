//! The values that a schema lets a field have (`enum`).
//!
//! Guarantees:
//! - a value is found among many about as soon as among few (`values_are_found_whatever_they_are`).

use serde_json::Value;

/// `enum`
#[derive(Debug, Default)]
pub struct Values {
    all: Box<[Value]>,
    /// Where the texts are, sorted by them.
    texts: Box<[usize]>,
    /// As bits, sorted: numbers are the same when they are the same to arithmetic.
    numbers: Box<[u64]>,
    /// Where those are that are neither.
    others: Box<[usize]>,
}

impl Values {
    /// Of these.
    #[must_use]
    pub fn new(all: Vec<Value>) -> Self {
        let places = |wanted: fn(&Value) -> bool| {
            let found = all.iter().enumerate().filter(move |(_, value)| wanted(value));
            found.map(|(at, _)| at).collect::<Box<[usize]>>()
        };
        let mut texts = places(Value::is_string);
        texts.sort_unstable_by_key(|at| text_at(&all, *at));
        let mut numbers: Box<[u64]> = all.iter().filter_map(bits).collect();
        numbers.sort_unstable();
        let others = places(|value| !value.is_string() && !value.is_number());
        Self { texts, numbers, others, all: all.into() }
    }

    /// As they were written.
    #[must_use]
    pub fn all(&self) -> &[Value] {
        &self.all
    }

    /// How many have to be compared with one that is no text and no number.
    #[must_use]
    pub fn compared(&self, value: &Value) -> usize {
        if value.is_string() || value.is_number() { 0 } else { self.others.len() }
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => {
                let is = |at: &usize| text_at(&self.all, *at).cmp(text);
                self.texts.binary_search_by(is).is_ok()
            }
            Value::Number(_) => {
                bits(value).is_some_and(|bits| self.numbers.binary_search(&bits).is_ok())
            }
            other => self.others.iter().any(|at| self.all.get(*at) == Some(other)),
        }
    }
}

/// The text at a place of texts.
fn text_at(all: &[Value], at: usize) -> &str {
    all.get(at).and_then(Value::as_str).unwrap_or_default()
}

fn bits(value: &Value) -> Option<u64> {
    // Zero is zero, whatever its sign.
    value.is_number().then(|| value.as_f64())?.map(|number| (number + 0.0).to_bits())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_found_whatever_they_are() {
        let values =
            Values::new(vec![json!("a"), json!(1), json!(2.5), json!(null), json!({"b": [1]})]);
        for value in [json!("a"), json!(1), json!(1.0), json!(2.5), json!(null), json!({"b": [1]})]
        {
            assert!(values.has(&value), "{value}");
        }
        for value in [json!("1"), json!(2), json!(true), json!({"b": [2]}), json!([])] {
            assert!(!values.has(&value), "{value}");
        }
    }
}
