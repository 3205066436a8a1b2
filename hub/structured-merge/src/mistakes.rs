//! What is wrong with a value, by its type.
//!
//! Guarantees:
//! - of what is wrong no more is kept than anybody is told (`no_more_is_told_than_anybody_reads`);
//! - an object that is applied is checked before anything is made of it (`what_is_wrong_is_told_by_its_place`).

use freewheel_hub_schema::truncated_text::{REPEATED_BYTES_MAX, shortened};
use serde_json::Value;

use crate::atom::{Form, ListAtom, MapAtom, Scalar, TypeRef};
use crate::element;
use crate::path::{self, PathElement};
use crate::scalar::as_go;
use crate::set::Set;

/// Mistakes that are told.
const MISTAKES_MAX: usize = 200;

/// What is wrong, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mistakes(Vec<String>);

impl Mistakes {
    /// All of it in one message; nothing when nothing is wrong.
    pub(crate) fn message(&self) -> Option<String> {
        match self.0.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => {
                let more = if many.len() < MISTAKES_MAX { "" } else { "\n  and perhaps more" };
                Some(format!("errors:\n  {}{more}", many.join("\n  ")))
            }
        }
    }
}

/// What is wrong with a value. A list may have the same element twice where it is what was stored.
pub(crate) fn of(value: &Value, typed: TypeRef<'_>, allow_duplicates: bool) -> Mistakes {
    let mut walk = Walk { path: Vec::new(), allow_duplicates, mistakes: Mistakes::default() };
    walk.visit(value, typed);
    walk.mistakes
}

struct Walk {
    path: Vec<PathElement>,
    allow_duplicates: bool,
    mistakes: Mistakes,
}

impl Walk {
    fn is_full(&self) -> bool {
        MISTAKES_MAX <= self.mistakes.0.len()
    }

    fn push(&mut self, what: &str) {
        if self.is_full() {
            return;
        }
        let what = shortened(what.to_owned(), REPEATED_BYTES_MAX);
        let at = path::shown(&self.path);
        self.mistakes.0.push(if at.is_empty() { what } else { format!("{at}: {what}") });
    }

    fn visit(&mut self, value: &Value, typed: TypeRef<'_>) {
        if self.is_full() {
            return;
        }
        match typed.resolve().deduce(Some(value)).form() {
            Form::Map(map) => self.map(value, &map),
            Form::List(list) => self.list(value, &list),
            Form::Scalar(scalar) => {
                if let Some(what) = wrong_scalar(scalar, value) {
                    self.push(&what);
                }
            }
            Form::Nothing => self.push("schema error: invalid atom: inlined"),
        }
    }

    fn map(&mut self, value: &Value, atom: &MapAtom<'_>) {
        let Value::Object(map) = value else {
            if !value.is_null() {
                self.push(&format!("expected map, got &{{{}}}", as_go(value)));
            }
            return;
        };
        for (key, inner) in map {
            self.path.push(PathElement::Field(key.as_str().into()));
            match atom.at(key) {
                TypeRef::Unknown => {
                    self.push("field not declared in schema");
                    self.path.pop();
                    return;
                }
                typed => self.visit(inner, typed),
            }
            self.path.pop();
        }
    }

    fn list(&mut self, value: &Value, atom: &ListAtom<'_>) {
        let Value::Array(items) = value else {
            if !value.is_null() {
                self.push(&format!("expected list, got &{{{}}}", as_go(value)));
            }
            return;
        };
        let mut seen = Set::default();
        for (place, item) in items.iter().enumerate() {
            let step = if atom.atomic {
                PathElement::Index(i64::try_from(place).unwrap_or(i64::MAX))
            } else {
                match element::step(atom, item) {
                    Ok(step) => step,
                    Err(why) => return self.push(&format!("element {place}: {why}")),
                }
            };
            if !atom.atomic && !self.allow_duplicates {
                if seen.has_member(&step) {
                    self.push(&format!("duplicate entries for key {step}"));
                }
                seen.insert(std::slice::from_ref(&step));
            }
            self.path.push(step);
            self.visit(item, atom.element);
            self.path.pop();
        }
    }
}

fn wrong_scalar(scalar: Scalar, value: &Value) -> Option<String> {
    let is_scalar = matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_));
    match scalar {
        _ if value.is_null() => None,
        Scalar::Numeric if !value.is_number() => {
            Some(format!("expected numeric (int or float), got {}", go_type(value)))
        }
        Scalar::String if !value.is_string() => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            as_source(value)
        )),
        Scalar::Boolean if !value.is_boolean() => {
            Some(format!("expected boolean, got &{{{}}}", as_go(value)))
        }
        Scalar::Untyped if !is_scalar => {
            Some(format!("expected any scalar, got &{{{}}}", as_go(value)))
        }
        Scalar::Numeric | Scalar::String | Scalar::Boolean | Scalar::Untyped => None,
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%#v` prints it.
fn as_source(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Bool(_) | Value::Number(_) => as_go(value),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(as_source).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let all: Vec<_> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", as_source(value))).collect();
            format!("map[string]interface {{}}{{{}}}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::types::TypeFacts;
    use serde_json::json;

    use super::*;

    #[test]
    fn no_more_is_told_than_anybody_reads() {
        let config_map = TypeRef::Object(TypeFacts::find("", "v1", "ConfigMap").unwrap());
        let long = "x".repeat(100_000);
        let data: Value = (0..1_000).map(|n| (format!("{long}{n}"), json!([long]))).collect();
        let told = of(&Value::from_iter([("data", data)]), config_map, false).message().unwrap();
        assert!(told.starts_with("errors:\n  .data.xxx") && told.len() < 1 << 20, "{}", told.len());
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place() {
        let service = TypeRef::Object(TypeFacts::find("", "v1", "Service").unwrap());
        let wrong = |value: Value| of(&value, service, false).message().unwrap_or_default();
        assert_eq!(wrong(json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}})), "");
        assert_eq!(
            wrong(json!({"spec": {"prts": []}})),
            ".spec.prts: field not declared in schema"
        );
        assert_eq!(
            wrong(json!({"spec": {"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]}})),
            r#".spec.ports: duplicate entries for key [port=80,protocol="TCP"]"#
        );
        assert_eq!(
            wrong(json!({"spec": {"ports": {"a": 1}, "type": 1}})),
            "errors:\n  .spec.ports: expected list, got &{map[a:1]}\n  .spec.type: expected string, \
             got &value.valueUnstructured{Value:1}"
        );
        let twice = json!({"spec": {"ports": [{"port": 80}, {"port": 80}]}});
        assert_eq!(of(&twice, service, true), Mistakes::default());
    }
}
