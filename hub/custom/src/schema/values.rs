//! The values that a schema lets a field have (`enum`).
//!
//! Guarantees:
//! - a value is found in as much time among many as among few (`values_are_found_whatever_they_are`).

use std::collections::HashSet;

use serde_json::Value;

/// `enum`
#[derive(Debug, Default)]
pub struct Values {
    all: Vec<Value>,
    texts: HashSet<Box<str>>,
    /// As bits: numbers are the same when they are the same to arithmetic.
    numbers: HashSet<u64>,
    /// Those that are neither.
    others: Vec<Value>,
}

impl Values {
    /// Of these.
    #[must_use]
    pub fn new(all: Vec<Value>) -> Self {
        let texts = all.iter().filter_map(|value| value.as_str().map(Box::from)).collect();
        let numbers = all.iter().filter_map(bits).collect();
        let others = all.iter().filter(|value| !value.is_string() && !value.is_number());
        Self { texts, numbers, others: others.cloned().collect(), all }
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
            Value::String(text) => self.texts.contains(&**text),
            Value::Number(_) => bits(value).is_some_and(|bits| self.numbers.contains(&bits)),
            other => self.others.contains(other),
        }
    }
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
