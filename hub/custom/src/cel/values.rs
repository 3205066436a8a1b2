//! What a rule sees: values as their schema says what they are, and fields by names that an expression can say.
//!
//! ```text
//! integer ─▶ int    number ─▶ double    date-time, date ─▶ timestamp    duration ─▶ duration    byte ─▶ bytes
//! a field that is no name (a-b, in)     by another (a__dash__b, __in__); one that the schema does not name: not at all
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Duration, FixedOffset, NaiveDate};
use freewheel_hub_cel::objects::OptionalValue;
use freewheel_hub_cel::{CowVal, Val, Value, VariableResolver, free, map};
use freewheel_hub_schema::duration;
use serde_json::Value as Json;

use crate::schema::{Schema, Type};

/// Words of the language that are no names of fields.
const RESERVED: [&str; 18] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
];

/// What the variables of a rule are: made once for all the rules of a place.
pub(super) struct Scope {
    value: Option<Box<dyn Val>>,
    old: Option<Box<dyn Val>>,
    optional_old: Option<Box<dyn Val>>,
}

impl Scope {
    /// Of a value and what it was before; where some rule asks so, for that as an optional value.
    pub(super) fn new(schema: &Schema, value: &Json, old: Option<&Json>, root: bool) -> Self {
        let whole = root || schema.embedded;
        let made = |value: Value| Box::<dyn Val>::try_from(value).ok();
        let of = |value: &Json| of(schema, value, whole);
        let optional_old = || {
            let old = old.map(of).map_or_else(OptionalValue::none, OptionalValue::of);
            made(Value::Opaque(Arc::new(old)))
        };
        let asks = schema.validations.iter().any(|rule| rule.optional_old);
        Self {
            value: made(of(value)),
            old: old.map(of).and_then(made),
            optional_old: asks.then(optional_old).flatten(),
        }
    }

    /// As a rule sees it.
    pub(super) fn seen(&self, optional_old: bool) -> Seen<'_> {
        Seen { scope: self, optional_old }
    }
}

/// The variables of one rule.
pub(super) struct Seen<'a> {
    scope: &'a Scope,
    optional_old: bool,
}

impl VariableResolver for Seen<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let found = match variable {
            "self" => &self.scope.value,
            "oldSelf" if self.optional_old => &self.scope.optional_old,
            "oldSelf" => &self.scope.old,
            _ => return None,
        };
        found.as_deref().map(CowVal::Borrowed)
    }
}

/// A value by its schema.
fn of(schema: &Schema, value: &Json, whole: bool) -> Value {
    match (schema.is, value) {
        (Some(Type::Number), Json::Number(number)) => {
            Value::Float(number.as_f64().unwrap_or_default())
        }
        (Some(Type::String), Json::String(text)) => of_text(schema.rules.format.as_deref(), text),
        (Some(Type::Array), Json::Array(items)) => {
            let of_item = |item| {
                schema.items.as_deref().map_or_else(|| free(item), |it| of(it, item, it.embedded))
            };
            Value::List(Arc::new(items.iter().map(of_item).collect()))
        }
        (Some(Type::Object), Json::Object(given)) => {
            let mut fields = HashMap::new();
            for (key, value) in given {
                if whole && matches!(key.as_str(), "apiVersion" | "kind") {
                    fields.insert(name(key), free(value));
                } else if whole && key == "metadata" {
                    fields.insert(name(key), meta(value));
                } else if let Some(of_field) = schema.properties.get(key.as_str()) {
                    fields.insert(name(key), of(of_field, value, of_field.embedded));
                } else if let Some(each) = schema.additional.each() {
                    fields.insert(key.clone(), of(each, value, each.embedded));
                }
            }
            map(fields)
        }
        (_, value) => free(value),
    }
}

/// What a rule may know of an object's metadata.
fn meta(value: &Json) -> Value {
    let known = ["name", "generateName"].into_iter();
    map(known.filter_map(|key| Some((key.to_owned(), free(value.get(key)?)))).collect())
}

fn of_text(format: Option<&str>, text: &str) -> Value {
    let plain = || Value::String(Arc::new(text.to_owned()));
    match format.unwrap_or_default() {
        "date-time" | "datetime" => {
            DateTime::parse_from_rfc3339(text).map_or_else(|_| plain(), Value::Timestamp)
        }
        "date" => date(text).map_or_else(plain, Value::Timestamp),
        "duration" => length(text).map_or_else(plain, Value::Duration),
        "byte" => {
            STANDARD.decode(text).map_or_else(|_| plain(), |bytes| Value::Bytes(Arc::new(bytes)))
        }
        _ => plain(),
    }
}

fn date(text: &str) -> Option<DateTime<FixedOffset>> {
    let day = text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0)?;
    Some(day.and_utc().fixed_offset())
}

/// `1h30m`, as Go reads it.
fn length(text: &str) -> Option<Duration> {
    i64::try_from(duration::read(text).ok()?.as_nanos()).ok().map(Duration::nanoseconds)
}

/// A field's name as an expression can say it.
pub(super) fn name(key: &str) -> String {
    if RESERVED.contains(&key) {
        return format!("__{key}__");
    }
    let escaped = key.replace("__", "__underscores__");
    escaped.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}
