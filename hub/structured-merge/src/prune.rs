//! An object without what is in a set.

use serde_json::{Map, Value};

use crate::atom::{Form, ListAtom, MapAtom, TypeRef};
use crate::compare::{filled_list, filled_map};
use crate::element;
use crate::path::PathElement;
use crate::set::Set;

/// What is left of a value. A map or list of which nothing is left is null.
pub(crate) fn without(value: &Value, gone: &Set, typed: TypeRef<'_>) -> Value {
    match typed.resolve().deduce(Some(value)).form() {
        Form::Scalar(_) | Form::Nothing => value.clone(),
        Form::Map(atom) => {
            let map = filled_map(Some(value)).filter(|_| !atom.atomic);
            map.map_or(Value::Null, |map| of_map(map, gone, &atom))
        }
        Form::List(atom) => {
            let items = filled_list(Some(value)).filter(|_| !atom.atomic);
            items.map_or(Value::Null, |items| of_list(items, gone, &atom))
        }
    }
}

fn of_map(map: &Map<String, Value>, gone: &Set, atom: &MapAtom<'_>) -> Value {
    let mut out = Map::new();
    for (key, inner) in map {
        let step = PathElement::Field(key.as_str().into());
        if gone.has_member(&step) {
            continue;
        }
        let left = match gone.behind(&step) {
            Some(gone) => without(inner, gone, atom.at(key)),
            None => inner.clone(),
        };
        out.insert(key.clone(), left);
    }
    if out.is_empty() { Value::Null } else { Value::Object(out) }
}

fn of_list(items: &[Value], gone: &Set, atom: &ListAtom<'_>) -> Value {
    let mut out = Vec::new();
    for item in items {
        let Ok(step) = element::step(atom, item) else { continue };
        if gone.has_member(&step) {
            continue;
        }
        out.push(match gone.behind(&step) {
            Some(gone) => without(item, gone, atom.element),
            None => item.clone(),
        });
    }
    if out.is_empty() { Value::Null } else { Value::Array(out) }
}
