//! Mistakes that the facts of a type show: fields that have to be there, and values of closed lists. Only types of CRDs
//! are looked at: of Kubernetes' own kinds their files say what is wrong, in the words of their own validation.
//!
//! Guarantees:
//! - what is missing and what is none of its list is named by its place (`mistakes_of_facts_name_their_place`).

use serde_json::Value;

use super::facts::TypeFacts;
use super::table::{Field, Shape};
use crate::error::FieldError;

/// Every mistake of a value that the facts of its type show; its defaults are in it already.
#[must_use]
pub fn mistakes_of_facts(value: &Value, facts: TypeFacts<'_>) -> Vec<FieldError> {
    let mut found = Vec::new();
    walk(value, facts, "", &mut found);
    found
}

fn walk(value: &Value, facts: TypeFacts<'_>, path: &str, found: &mut Vec<FieldError>) {
    if !facts.crd {
        return;
    }
    for field in &facts.fields {
        let at =
            if path.is_empty() { field.name.to_string() } else { format!("{path}.{}", field.name) };
        match value.get(&*field.name) {
            Some(inner) => {
                closed_list(inner, field, &at, found);
                descend(inner, &field.shape, facts, &at, found);
            }
            None if field.required => found.push(FieldError::required(at, "")),
            None => {}
        }
    }
}

fn closed_list(value: &Value, field: &Field, path: &str, found: &mut Vec<FieldError>) {
    let all: Vec<&str> = field.values.iter().map(|value| &**value).collect();
    if let Some(text) = value.as_str()
        && !all.is_empty()
        && !all.contains(&text)
    {
        found.push(FieldError::not_supported(path, value, &all));
    }
    let all: Vec<&str> = field.item_values.iter().map(|value| &**value).collect();
    let items = value.as_array().into_iter().flatten().enumerate();
    for (i, item) in items.filter(|_| !all.is_empty()) {
        if item.as_str().is_some_and(|text| !all.contains(&text)) {
            found.push(FieldError::not_supported(format!("{path}[{i}]"), item, &all));
        }
    }
}

fn descend(
    value: &Value,
    shape: &Shape,
    owner: TypeFacts<'_>,
    path: &str,
    found: &mut Vec<FieldError>,
) {
    match (shape, value) {
        (Shape::Object(id), Value::Object(_)) => walk(value, owner.at(*id), path, found),
        (Shape::List(inner), Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                descend(item, inner, owner, &format!("{path}[{i}]"), found);
            }
        }
        (Shape::Map(inner), Value::Object(map)) => {
            for (key, item) in map {
                descend(item, inner, owner, &format!("{path}[{key}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mistakes_of_facts_name_their_place() {
        let of = |kind: &str, value: Value| -> Vec<String> {
            let group = "cluster.open-cluster-management.io";
            let facts = TypeFacts::find(group, "v1beta1", kind).unwrap();
            let found = mistakes_of_facts(&value, facts);
            found.into_iter().map(|it| format!("{}: {}", it.field, it.message)).collect()
        };
        let spec = json!({"spec": {
            "sortBy": "Age",
            "prioritizerPolicy": {"configurations": [{"weight": 1}, {"scoreCoordinate": {"type": "BuiltIn"}}]},
        }});
        assert_eq!(
            of("Placement", spec),
            [
                "spec.prioritizerPolicy.configurations[0].scoreCoordinate: Required value",
                "spec.sortBy: Unsupported value: \"Age\": supported values: \"ClusterName\", \"Score\"",
            ]
        );
        let decisions = json!({"status": {"decisions": [{"clusterName": "a"}]}});
        assert_eq!(
            of("PlacementDecision", decisions),
            ["status.decisions[0].reason: Required value"]
        );
        let pod = TypeFacts::find("", "v1", "Pod").unwrap();
        assert_eq!(mistakes_of_facts(&json!({"spec": {}}), pod), []);
    }
}
