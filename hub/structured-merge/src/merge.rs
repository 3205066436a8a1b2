//! An object with another one laid over it.
//!
//! ```text
//! leaves              those of the upper one
//! maps                together
//! lists with keys     together, in the upper one's order where it says one
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use crate::atom::{Form, ListAtom, MapAtom, TypeRef};
use crate::compare::{filled_list, filled_map};
use crate::element;
use crate::path::PathElement;

/// `upper` laid over `lower`; both are valid. Nothing when nothing is in either.
pub(crate) fn merge(
    lower: Option<&Value>,
    upper: Option<&Value>,
    typed: TypeRef<'_>,
) -> Option<Value> {
    let atom = typed.resolve();
    let of = if upper.is_none() { atom.deduce(lower) } else { atom.deduce(upper) };
    match of.form() {
        Form::Map(map) => maps(lower, upper, &map),
        Form::List(list) => lists(lower, upper, &list),
        Form::Scalar(_) | Form::Nothing => leaf(lower, upper),
    }
}

fn leaf(lower: Option<&Value>, upper: Option<&Value>) -> Option<Value> {
    upper.or(lower).cloned()
}

fn maps(lower: Option<&Value>, upper: Option<&Value>, atom: &MapAtom<'_>) -> Option<Value> {
    let (below, above) = (filled_map(lower), filled_map(upper));
    if atom.atomic || (below.is_none() && above.is_none()) {
        return leaf(lower, upper);
    }
    let keys: BTreeSet<&String> = below.into_iter().chain(above).flat_map(Map::keys).collect();
    let mut out = Map::new();
    for key in keys {
        let at = |map: Option<&Map<String, Value>>| map.and_then(|map| map.get(key)).cloned();
        let (lower, upper) = (at(below), at(above));
        if let Some(merged) = merge(lower.as_ref(), upper.as_ref(), atom.at(key)) {
            out.insert(key.clone(), merged);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn lists(lower: Option<&Value>, upper: Option<&Value>, atom: &ListAtom<'_>) -> Option<Value> {
    let (below, above) = (filled_list(lower), filled_list(upper));
    if atom.atomic || (below.is_none() && above.is_none()) {
        return leaf(lower, upper);
    }
    let (below, above) = (Side::of(below, atom), Side::of(above, atom));
    let out = Merging::new(&below, &above, atom.element).run();
    (!out.is_empty()).then_some(Value::Array(out))
}

/// One of the two lists.
struct Side<'a> {
    items: Vec<(PathElement, &'a Value)>,
    /// What is there once; nothing of what is there several times.
    once: BTreeMap<PathElement, Option<&'a Value>>,
}

impl<'a> Side<'a> {
    fn of(items: Option<&'a Vec<Value>>, atom: &ListAtom<'_>) -> Self {
        let mut side = Self { items: Vec::new(), once: BTreeMap::new() };
        for item in items.into_iter().flatten() {
            let Ok(step) = element::step(atom, item) else { continue };
            let seen = side.once.contains_key(&step);
            side.once.insert(step.clone(), (!seen).then_some(item));
            side.items.push((step, item));
        }
        side
    }

    fn has(&self, step: &PathElement) -> bool {
        self.once.contains_key(step)
    }
}

/// Walks both lists at a time: what both have stands as the upper one has it, and what only one has stays where it is
/// among those.
struct Merging<'a> {
    below: &'a Side<'a>,
    above: &'a Side<'a>,
    element: TypeRef<'a>,
    /// What both have and is yet to come, in the upper one's order.
    shared: VecDeque<&'a PathElement>,
    done: BTreeSet<&'a PathElement>,
    out: Vec<Value>,
}

impl<'a> Merging<'a> {
    fn new(below: &'a Side<'a>, above: &'a Side<'a>, element: TypeRef<'a>) -> Self {
        let shared = above.items.iter().map(|(step, _)| step).filter(|step| below.has(step));
        let shared = shared.collect();
        Self { below, above, element, shared, done: BTreeSet::new(), out: Vec::new() }
    }

    fn run(mut self) -> Vec<Value> {
        let (mut lower, mut upper) =
            (self.below.items.iter().peekable(), self.above.items.iter().peekable());
        loop {
            match (lower.peek(), upper.peek()) {
                (None, None) => return self.out,
                (Some((below, _)), Some((above, _))) if below == above => {
                    self.both(above);
                    self.shared.pop_front();
                    lower.next();
                    upper.next();
                    continue;
                }
                // Its turn comes with the upper one's.
                (Some((below, _)), Some(_))
                    if self.above.has(below)
                        && self.shared.front().is_some_and(|next| *next != below) =>
                {
                    lower.next();
                    continue;
                }
                (Some((below, item)), _) if !self.above.has(below) => {
                    self.out.extend(merge(Some(item), None, self.element));
                    lower.next();
                    continue;
                }
                (Some((below, _)), _) if self.done.contains(below) => drop(lower.next()),
                (Some(_), None) => drop(lower.next()),
                (Some(_) | None, Some(_)) => {}
            }
            if let Some((above, _)) = upper.next() {
                self.both(above);
                if self.shared.front() == Some(&above) {
                    self.shared.pop_front();
                }
            }
        }
    }

    /// An element of the upper list, over that of the lower one if it has one.
    fn both(&mut self, step: &'a PathElement) {
        self.done.insert(step);
        // Of what is there several times, nothing is known.
        let of = |side: &Side<'a>| side.once.get(step).map(|item| item.unwrap_or(&Value::Null));
        let merged = merge(of(self.below), of(self.above), self.element);
        self.out.extend(merged);
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::types::TypeFacts;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(lower: &Value, upper: &Value, expected: &Value) {
        let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        let meta = TypeRef::Object(TypeFacts::by_name(meta).unwrap());
        let wrap = |list: &Value| json!({"finalizers": list});
        let merged = merge(Some(&wrap(lower)), Some(&wrap(upper)), meta).unwrap();
        assert_eq!(merged["finalizers"], *expected);
    }

    #[test]
    fn what_is_applied_says_the_order() {
        check(&json!(["a", "b", "c"]), &json!(["c", "a"]), &json!(["b", "c", "a"]));
        check(&json!(["a", "b"]), &json!(["c"]), &json!(["a", "b", "c"]));
        check(&json!(["a", "b", "c"]), &json!(["a", "x", "c"]), &json!(["a", "b", "x", "c"]));
        check(&json!([]), &json!(["b", "a"]), &json!(["b", "a"]));
        check(&json!(["a"]), &json!([]), &json!(["a"]));
        check(&json!([]), &json!([]), &json!([]));
        check(&json!(["a", "a", "b"]), &json!(["b"]), &json!(["a", "a", "b"]));
    }
}
