//! Server-side tables (meta.k8s.io/v1 Table): what `kubectl get` prints.
//!
//! Guarantees:
//! - a row has the cells and the condition of its kind's strategy, and of the object what was asked for
//!   (`rows_carry_what_was_asked_for`).

use serde_json::{Map, Value, json};

use crate::kind::Kind;

/// What each row carries of its object beside the cells (`includeObject` of the request).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata, as PartialObjectMetadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// From the query's text; `None` when it is none of the three.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// A table of these objects, with empty list metadata. `now` is in Unix seconds.
#[must_use]
pub fn render(kind: &Kind, items: &[Value], include: Include, now: i64) -> Value {
    let rows: Vec<Value> = items.iter().map(|item| row(kind, item, include, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": columns(kind),
        "rows": rows,
    })
}

/// An object without anything but its metadata.
#[must_use]
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

fn columns(kind: &Kind) -> Vec<Value> {
    let column = |column: &crate::kind::Column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    };
    kind.columns.iter().map(column).collect()
}

/// The row of one object.
#[must_use]
pub fn row(kind: &Kind, item: &Value, include: Include, now: i64) -> Value {
    let mut row = Map::new();
    row.insert("cells".to_owned(), kind.strategy.row(item, now).into());
    if let Some(condition) = kind.strategy.row_condition(item) {
        row.insert("conditions".to_owned(), json!([condition]));
    }
    match include {
        Include::None => {}
        Include::Metadata => {
            row.insert("object".to_owned(), partial_metadata(item));
        }
        Include::Object => {
            row.insert("object".to_owned(), item.clone());
        }
    }
    Value::Object(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvk::Gvk;
    use crate::kind::{Column, Strategy};

    /// One column, and a condition of what has ended.
    struct Rules;

    impl Strategy for Rules {
        fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
            vec![object["metadata"]["name"].clone()]
        }

        fn row_condition(&self, object: &Value) -> Option<Value> {
            let phase = &object["status"]["phase"];
            (phase == "Failed").then(|| json!({"type": "Completed", "reason": phase}))
        }
    }

    #[test]
    fn rows_carry_what_was_asked_for() {
        let name = Column {
            name: "Name".into(),
            kind: "string".into(),
            format: "name".into(),
            description: "Its name.".into(),
            priority: 0,
        };
        let pods = &Kind::new(Gvk::new("", "v1", "Pod"), "pods", Rules).columns(vec![name]);
        let pod =
            json!({"kind": "Pod", "metadata": {"name": "web"}, "status": {"phase": "Failed"}});
        let table = render(pods, std::slice::from_ref(&pod), Include::Metadata, 0);
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(table["rows"][0]["cells"], json!(["web"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "web");
        assert_eq!(table["rows"][0]["conditions"][0]["reason"], "Failed");
        let table = render(pods, std::slice::from_ref(&pod), Include::Object, 0);
        assert_eq!(table["rows"][0]["object"], pod);
        let table = render(pods, &[pod], Include::None, 0);
        assert_eq!(table["rows"][0].get("object"), None);
        assert_eq!(Include::parse("Everything"), None);
    }
}
