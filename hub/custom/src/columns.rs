//! What `kubectl get` shows of a custom resource.
//!
//! Guarantees:
//! - a cell has the type of its column, or is empty (`cells_have_the_type_of_their_column`).

use freewheel_hub_schema::kind::Column;
use freewheel_hub_schema::time;
use serde_json::{Value, json};

use crate::json_path::JsonPath;

/// Columns beside the name.
#[derive(Debug)]
pub struct Columns(Vec<(JsonPath, Cell)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Integer,
    Number,
    Boolean,
    Text,
    Date,
}

impl Columns {
    /// From `additionalPrinterColumns`; without any, the age is shown. A column whose path is none shows nothing.
    #[must_use]
    pub fn read(listed: &[Value]) -> (Self, Vec<Column>) {
        let age = [json!({
            "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "When it was made.",
        })];
        let listed = if listed.is_empty() { &age[..] } else { listed };
        let mut columns = vec![Column {
            name: "Name".into(),
            kind: "string".into(),
            format: "name".into(),
            description: "What it is called.".into(),
            priority: 0,
        }];
        let mut cells = Vec::new();
        for one in listed {
            let text = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
            let (path, described) = (text("jsonPath"), text("description"));
            let description = if described.is_empty() {
                format!("Custom resource definition column (in JSONPath format): {path}")
            } else {
                described.to_owned()
            };
            let priority = one.get("priority").and_then(Value::as_i64).unwrap_or_default();
            columns.push(Column {
                name: text("name").to_owned().into(),
                kind: text("type").to_owned().into(),
                format: text("format").to_owned().into(),
                description: description.into(),
                priority: u8::try_from(priority.max(0)).unwrap_or(u8::MAX),
            });
            let cell = match text("type") {
                "integer" => Cell::Integer,
                "number" => Cell::Number,
                "boolean" => Cell::Boolean,
                "date" => Cell::Date,
                _ => Cell::Text,
            };
            cells.push((JsonPath::read(path).unwrap_or_else(JsonPath::nowhere), cell));
        }
        (Self(cells), columns)
    }

    /// The cells of an object, its name first.
    #[must_use]
    pub fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let name = object.pointer("/metadata/name").cloned().unwrap_or_default();
        let cells = self.0.iter().map(|(path, cell)| cell.of(path.first(object), now));
        std::iter::once(name).chain(cells).collect()
    }
}

impl Cell {
    fn of(self, value: Option<&Value>, now: i64) -> Value {
        let Some(value) = value else { return Value::Null };
        match (self, value) {
            (_, Value::Null) if self != Self::Text => Value::Null,
            (Self::Integer, Value::Number(number)) => match number.as_i64() {
                Some(whole) => whole.into(),
                None => truncated(number.as_f64().unwrap_or_default()).into(),
            },
            (Self::Number, Value::Number(_)) | (Self::Boolean, Value::Bool(_)) => value.clone(),
            (Self::Text, value) => as_go(value).into(),
            (Self::Date, Value::String(text)) => age(text, now).into(),
            (Self::Integer | Self::Number | Self::Boolean | Self::Date, _) => Value::Null,
        }
    }
}

/// How old a time is that a definition points to.
fn age(text: &str, now: i64) -> String {
    match text {
        // What apimachinery reads as no time.
        "" | "null" | "0001-01-01T00:00:00Z" => "<unknown>".to_owned(),
        text if time::parse(text).is_none() => "<invalid>".to_owned(),
        text => time::age(text, now),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a column of whole numbers shows no fraction")]
fn truncated(number: f64) -> i64 {
    number as i64
}

/// A value as Go prints it.
fn as_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(as_go).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", as_go(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_the_type_of_their_column() {
        let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
        let said = [
            column("I", "integer", ".spec.i"),
            column("F", "integer", ".spec.f"),
            column("T", "string", ".spec.i"),
            column("M", "string", ".spec.map"),
            column("B", "boolean", ".spec.b"),
            column("X", "boolean", ".spec.i"),
            column("D", "date", ".spec.d"),
            column("N", "string", ".spec.none"),
        ];
        let (columns, heads) = Columns::read(&said);
        assert_eq!(heads.len(), 9);
        assert_eq!(
            heads[1].description,
            "Custom resource definition column (in JSONPath format): .spec.i"
        );
        let object = json!({"metadata": {"name": "n"}, "spec": {
            "i": 7, "f": 1.9, "b": true, "d": "never", "map": {"b": [1, "x"], "a": null}}});
        let row = columns.row(&object, 0);
        assert_eq!(
            json!(row),
            json!(["n", 7, 1, "7", "map[a:<nil> b:[1 x]]", true, null, "<invalid>", null])
        );
        for (text, shown) in [
            ("1970-01-01T00:00:00Z", "5m"),
            ("1970-01-01T00:00Z", "<invalid>"),
            ("1970-01-01 00:00:00Z", "<invalid>"),
            ("1970-01-01T00:04:60Z", "<invalid>"),
            ("9999-12-31T23:59:59Z", "<invalid>"),
            ("", "<unknown>"),
        ] {
            let row = columns.row(&json!({"spec": {"d": text}}), 300);
            assert_eq!(row[7], shown, "{text}");
        }
        let (columns, heads) = Columns::read(&[]);
        assert_eq!((heads.len(), &*heads[1].name), (2, "Age"));
        let object =
            json!({"metadata": {"name": "n", "creationTimestamp": "1970-01-01T00:00:00Z"}});
        assert_eq!(json!(columns.row(&object, 300)), json!(["n", "5m"]));
    }
}
