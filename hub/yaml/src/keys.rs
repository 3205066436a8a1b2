//! Keys that YAML has twice in one map, in the words of Kubernetes' own reader: `line 9: key "a" already set in map`.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// So many are told.
const TOLD_MAX: usize = 100;

/// All of a text, from its first line on; nothing of what is no YAML.
#[must_use]
pub fn twice(text: &str) -> Vec<String> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    let read: Result<Twice, _> = serde_saphyr::from_str_with_options(text, options);
    read.map(|Twice(told)| told).unwrap_or_default()
}

/// What is told of a value and of all inside.
struct Twice(Vec<String>);

impl<'de> Deserialize<'de> for Twice {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Twice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_unit<E: Error>(self) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Twice, A::Error> {
        let mut mistakes = Vec::new();
        while let Some(Twice(more)) = items.next_element()? {
            mistakes.extend(more);
            mistakes.truncate(TOLD_MAX);
        }
        Ok(Twice(mistakes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Twice, A::Error> {
        let (mut mistakes, mut seen) = (Vec::new(), BTreeSet::new());
        while let Some(key) = entries.next_key::<String>()? {
            let value: Spanned<Twice> = entries.next_value()?;
            mistakes.extend(value.value.0);
            // Its value tells the line.
            let line = value.referenced.line();
            if seen.contains(&key) {
                mistakes.push(format!("line {line}: key {key:?} already set in map"));
            }
            mistakes.truncate(TOLD_MAX);
            seen.insert(key);
        }
        Ok(Twice(mistakes))
    }
}

#[cfg(test)]
mod tests {
    use super::twice;

    #[test]
    fn each_is_told_with_its_line() {
        let text = "\na: 1\nb:\n  c: x\n  c: y\n  d: [{e: 1, e: 2}]\na:\n  f: 1\n";
        let told = [
            r#"line 5: key "c" already set in map"#,
            r#"line 6: key "e" already set in map"#,
            r#"line 8: key "a" already set in map"#,
        ];
        assert_eq!(twice(text), told);
        assert_eq!(twice(r#"{"a": 1, "a": 2}"#), [r#"line 1: key "a" already set in map"#]);
        assert!(twice("a: [").is_empty() && twice("a: 1").is_empty());
    }
}
