//! What Open Cluster Management adds to the language: for expressions of the fleet alone.
//!
//! Guarantees:
//! - scores are those of the cluster that is asked about, and of no other (`scores_are_those_of_the_cluster`).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Opaque};
use serde_json::{Number, Value as Json};

use super::function::{Table, added, no_overload, one, one_text, text_value};
use crate::value::{free, map};
use crate::weight::VALUE_BYTES;

/// Those of them that stand behind a value.
pub(super) const BEHIND_A_VALUE: [&str; 2] = ["parseJSON", "scores"];

/// The key under which a ManagedCluster has who knows its scores.
const SCORES_KEY: &str = "@scores";

/// Knows what add-ons say of one cluster.
pub trait Scores: Send + Sync {
    /// What an AddOnPlacementScore says, by name.
    ///
    /// # Errors
    /// Why it says nothing.
    fn of(&self, resource: &str) -> Result<Vec<(String, i64)>, String>;
}

/// Whom to ask.
#[derive(Clone)]
struct Asked(Arc<dyn Scores>);

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Asked {}

impl Opaque for Asked {
    fn runtime_type_name(&self) -> &str {
        "open-cluster-management.Scores"
    }
}

/// `managedCluster`, with who knows its scores.
#[must_use]
pub fn managed_cluster(object: &Json, scores: Arc<dyn Scores>) -> Value {
    let fields = object.as_object().into_iter().flatten();
    let mut fields: HashMap<String, Value> =
        fields.map(|(key, value)| (key.clone(), free(value))).collect();
    fields.insert(SCORES_KEY.to_owned(), Value::Opaque(Arc::new(Asked(scores))));
    map(fields)
}

pub(super) const FUNCTIONS: Table = &[
    ("parseJSON", |values, allowance| {
        let text = one_text(values)?;
        // Two bytes of a list are a value, and a field of a map is longer.
        if !allowance.room(text.len().saturating_mul(VALUE_BYTES / 2)) {
            return Err("too much work".to_owned());
        }
        let failed = |error: serde_json::Error| format!("failed to parse json: {error}");
        serde_json::from_str(&with_whole_letters(text))
            .map(|json| free(&with_doubles(json)))
            .map_err(failed)
    }),
    ("hasConditions", |values, _| {
        let Value::Map(status) = one(values)? else { return Ok(Value::Bool(false)) };
        let key = Key::String(Arc::new("conditions".to_owned()));
        let some = matches!(status.map.get(&key), Some(Value::List(list)) if !list.is_empty());
        Ok(Value::Bool(some))
    }),
    ("scores", |values, _| {
        let [Value::Map(cluster), Value::String(resource)] = values else { return no_overload() };
        let asked = cluster.map.get(&Key::String(Arc::new(SCORES_KEY.to_owned())));
        let asked = asked.ok_or_else(|| "failed to get cluster metadata".to_owned())?;
        let all = added::<Asked>(asked)?.0.of(resource);
        let all = all.map_err(|why| format!("failed to get score: {why}"))?;
        let score = |(name, value): (String, i64)| {
            let fields = [("name", text_value(name)), ("value", Value::Int(value))];
            map(fields.map(|(key, value)| (key.to_owned(), value)).into())
        };
        Ok(Value::List(Arc::new(all.into_iter().map(score).collect())))
    }),
];

/// Half of a letter alone (`\ud800`) is a letter in Go that stands for none.
fn with_whole_letters(text: &str) -> Cow<'_, str> {
    let half = |at: &str| {
        let digits = at.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok().filter(|half| (0xd800..0xe000).contains(half))
    };
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        whole.push_str(before);
        let read = match (half(escape), escape.get(6..).and_then(half)) {
            (None, _) => escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end),
            (Some(..0xdc00), Some(0xdc00..)) => 12,
            (Some(_), _) => {
                whole.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
        };
        whole.push_str(&escape[..read]);
        rest = &escape[read..];
    }
    if whole.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(whole + rest) }
}

/// Numbers of JSON are none but doubles in Go.
fn with_doubles(json: Json) -> Json {
    match json {
        Json::Number(number) => {
            let double = number.as_f64().and_then(Number::from_f64);
            double.map_or(Json::Number(number), Json::Number)
        }
        Json::Array(items) => Json::Array(items.into_iter().map(with_doubles).collect()),
        Json::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, with_doubles(value))).collect()
        }
        plain @ (Json::Null | Json::Bool(_) | Json::String(_)) => plain,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Expression, Failed, Known, Meter, UNITS_MAX};

    struct Said;

    impl Scores for Said {
        fn of(&self, resource: &str) -> Result<Vec<(String, i64)>, String> {
            match resource {
                "usage" => Ok(vec![("cpu".to_owned(), 3), ("memory".to_owned(), -4)]),
                other => Err(format!("{other} not found")),
            }
        }
    }

    fn run(text: &str) -> Result<Value, Failed> {
        let known = Known { names: &["managedCluster"], of_fleet: true, ..Known::default() };
        let expression = Expression::read(text, &known).unwrap();
        Meter::of(UNITS_MAX).run(&expression, |context| {
            let cluster = managed_cluster(&json!({"metadata": {"name": "pi-7"}}), Arc::new(Said));
            context.add_variable_from_value("managedCluster", cluster);
        })
    }

    #[test]
    fn scores_are_those_of_the_cluster() {
        for text in [
            "managedCluster.scores('usage').filter(s, s.name == 'cpu').all(s, s.value > 2)",
            "managedCluster.scores('usage').size() == 2",
            "managedCluster.scores('usage')[1].value == -4",
            "managedCluster.metadata.name == 'pi-7'",
        ] {
            assert_eq!(run(text), Ok(Value::Bool(true)), "{text}");
        }
        for text in [
            "managedCluster.scores('other').size() == 0",
            "managedCluster.metadata.scores('usage').size() == 2",
            "{'metadata': {'name': 'pi-7'}}.scores('usage').size() == 2",
            "managedCluster.scores(1).size() == 0",
        ] {
            assert!(run(text).is_err(), "{text}");
        }
        let plain = Known { names: &["managedCluster"], ..Known::default() };
        assert!(Expression::read("managedCluster.scores('usage')", &plain).is_err());
    }

    #[test]
    fn half_a_letter_is_none() {
        for (text, whole) in [
            (r#""a""#, r#""a""#),
            (r#""\ud83d\ude00 \n""#, r#""\ud83d\ude00 \n""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ude00\ud83d\ud83d\ude00x""#, r#""\ufffd\ufffd\ud83d\ude00x""#),
            (r#""\\ud83d \u0041""#, r#""\\ud83d \u0041""#),
            (r#""\u12"#, r#""\u12"#),
            ("\\", "\\"),
            ("\\\u{e9}\\ud8", "\\\u{e9}\\ud8"),
        ] {
            assert_eq!(with_whole_letters(text), whole, "{text}");
        }
    }
}
