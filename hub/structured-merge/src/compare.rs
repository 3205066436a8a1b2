//! What one object has that another has not.
//!
//! Guarantees:
//! - no path is in more than one of the three sets, and equal objects have none
//!   (`objects_that_differ_are_told_apart_by_paths`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::atom::{Form, ListAtom, MapAtom, TypeRef};
use crate::element;
use crate::path::PathElement;
use crate::scalar;
use crate::set::Set;

/// How an object became another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) added: Set,
    pub(crate) modified: Set,
    pub(crate) removed: Set,
}

impl Comparison {
    /// Leaves fields out, with all that is inside.
    pub(crate) fn without(mut self, fields: &Set) -> Self {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.remove_with_content(fields);
        }
        self
    }

    /// What is there now and was not, or was another.
    pub(crate) fn changed(&self) -> Set {
        let mut changed = self.added.clone();
        changed.union(&self.modified);
        changed
    }
}

/// How `old` became `new`, of which both are stored, or will be: what was never set counts as Go writes it. Both are
/// valid but for elements that are there twice.
pub(crate) fn compare(old: &Value, new: &Value, typed: TypeRef<'_>) -> Comparison {
    let mut walk = Walk { path: Vec::new(), out: Comparison::default(), says_all: false };
    walk.visit(Some(old), Some(new), typed);
    walk.out
}

/// The same of objects that say all that counts.
pub(crate) fn compare_as_said(old: &Value, new: &Value, typed: TypeRef<'_>) -> Comparison {
    let mut walk = Walk { path: Vec::new(), out: Comparison::default(), says_all: true };
    walk.visit(Some(old), Some(new), typed);
    walk.out
}

/// Whether what is inside was looked at by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Leaf,
    Inside,
}

struct Walk {
    path: Vec<PathElement>,
    out: Comparison,
    /// What is absent is absent.
    says_all: bool,
}

impl Walk {
    fn visit(&mut self, old: Option<&Value>, new: Option<&Value>, typed: TypeRef<'_>) {
        if old == new {
            return;
        }
        let atom = typed.resolve();
        let (of_old, of_new) = (atom.deduce(old), atom.deduce(new));
        let depth = if new.is_none() {
            self.form(old, new, of_old.form())
        } else if old.is_none() || of_old.is_like(&of_new) {
            self.form(old, new, of_new.form())
        } else {
            // A scalar that is a map now: both are looked at.
            self.form(old, new, of_old.form());
            self.form(old, new, of_new.form())
        };
        match (old, new) {
            _ if depth == Depth::Leaf => {}
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(_), Some(_)) => {}
        }
    }

    fn form(&mut self, old: Option<&Value>, new: Option<&Value>, form: Form<'_>) -> Depth {
        match form {
            Form::Map(atom) => self.map(old, new, &atom),
            Form::List(atom) => self.list(old, new, &atom),
            Form::Scalar(_) | Form::Nothing => self.leaf(old, new),
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) -> Depth {
        match (old, new) {
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(old), Some(new)) if !scalar::equal(old, new) => {
                self.out.modified.insert(&self.path);
            }
            (Some(_), Some(_)) => {}
        }
        Depth::Leaf
    }

    fn map(&mut self, old: Option<&Value>, new: Option<&Value>, atom: &MapAtom<'_>) -> Depth {
        let (old_map, new_map) = (self.with_content(old, atom), self.with_content(new, atom));
        let says_all = self.says_all;
        // What is empty or null on both sides is one thing, so that the two stay apart.
        if atom.atomic || (old_map.is_none() && new_map.is_none()) {
            return self.leaf(old, new);
        }
        let absent =
            |map: Option<&Map<String, Value>>, key: &str| map.and_then(|_| atom.absent(key));
        for (key, inner) in old_map.into_iter().flatten() {
            match new_map.and_then(|map| map.get(key)) {
                Some(other) => self.field(key, Some(inner), Some(other), atom),
                None => self.field(key, Some(inner), absent(new_map, key), atom),
            }
        }
        for (key, inner) in new_map.into_iter().flatten() {
            if !old_map.is_some_and(|map| map.contains_key(key)) {
                self.field(key, absent(old_map, key), Some(inner), atom);
            }
        }
        let has = |map: Option<&Map<String, Value>>, key: &str| {
            map.is_some_and(|map| map.contains_key(key))
        };
        if says_all {
            return Depth::Inside;
        }
        for (key, unset) in atom.unset().filter(|(key, _)| !has(old_map, key) && !has(new_map, key))
        {
            self.field(key, old_map.map(|_| unset), new_map.map(|_| unset), atom);
        }
        Depth::Inside
    }

    /// A map with something in it, if only what Go writes where nothing was set.
    fn with_content<'a>(
        &self,
        value: Option<&'a Value>,
        atom: &MapAtom<'_>,
    ) -> Option<&'a Map<String, Value>> {
        let map = value.and_then(Value::as_object);
        let unset = !self.says_all && atom.unset().next().is_some();
        map.filter(|map| !map.is_empty() || unset)
    }

    fn field(&mut self, key: &str, old: Option<&Value>, new: Option<&Value>, atom: &MapAtom<'_>) {
        // Most of what is looked at is the same, and needs no path.
        if old != new {
            self.inside(PathElement::Field(key.into()), old, new, atom.at(key));
        }
    }

    fn inside(
        &mut self,
        step: PathElement,
        old: Option<&Value>,
        new: Option<&Value>,
        typed: TypeRef<'_>,
    ) {
        self.path.push(step);
        self.visit(old, new, typed);
        self.path.pop();
    }

    fn list(&mut self, old: Option<&Value>, new: Option<&Value>, atom: &ListAtom<'_>) -> Depth {
        let (old_list, new_list) = (filled_list(old), filled_list(new));
        if atom.atomic || (old_list.is_none() && new_list.is_none()) {
            return self.leaf(old, new);
        }
        let mut both: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old_list.into_iter().flatten() {
            // What is no element of such a list cannot be owned.
            if let Ok(step) = element::step(atom, item) {
                both.entry(step).or_default().0.push(item);
            }
        }
        for item in new_list.into_iter().flatten() {
            if let Ok(step) = element::step(atom, item) {
                both.entry(step).or_default().1.push(item);
            }
        }
        for (step, (old, new)) in both {
            self.elements(step, &old, &new, atom.element);
        }
        Depth::Inside
    }

    /// Elements with one identity: they are owned together while there are several.
    fn elements(&mut self, step: PathElement, old: &[&Value], new: &[&Value], typed: TypeRef<'_>) {
        match (old, new) {
            ([] | [_], [] | [_]) => {
                self.inside(step, old.first().copied(), new.first().copied(), typed);
            }
            ([_, _, ..], [_, _, ..]) => {
                let same = old.len() == new.len()
                    && old.iter().zip(new).all(|(old, new)| scalar::equal(old, new));
                if !same {
                    self.path.push(step);
                    self.out.modified.insert(&self.path);
                    self.path.pop();
                }
            }
            ([_, _, ..], _) => {
                if let Some(new) = new.first() {
                    self.inside(step.clone(), None, Some(new), typed);
                }
                self.path.push(step);
                self.out.removed.insert(&self.path);
                self.path.pop();
            }
            (_, [_, _, ..]) => {
                if let Some(old) = old.first() {
                    self.inside(step.clone(), Some(old), None, typed);
                }
                self.path.push(step);
                self.out.added.insert(&self.path);
                self.path.pop();
            }
        }
    }
}

/// A map with something in it.
pub(crate) fn filled_map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|map| !map.is_empty())
}

/// A list with something in it.
pub(crate) fn filled_list(value: Option<&Value>) -> Option<&Vec<Value>> {
    value.and_then(Value::as_array).filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::types::TypeFacts;
    use serde_json::json;

    use super::*;
    use crate::path;

    #[test]
    fn objects_that_differ_are_told_apart_by_paths() {
        let service = TypeRef::Object(TypeFacts::find("", "v1", "Service").unwrap());
        let old = json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81}], "type": "ClusterIP"},
            "metadata": {"labels": {"a": "b"}}});
        let new = json!({"spec": {"ports": [{"port": 80, "name": "b"}, {"port": 82}], "selector": {"x": "y"}},
            "metadata": {"labels": {"a": "b"}}});
        let shown = |set: &Set| set.paths().iter().map(path::shown).collect::<Vec<_>>();
        let told = compare(&old, &new, service);
        assert_eq!(shown(&told.modified), [r#".spec.ports[port=80,protocol="TCP"].name"#]);
        assert_eq!(
            shown(&told.added),
            [
                ".spec.selector",
                r#".spec.ports[port=82,protocol="TCP"]"#,
                r#".spec.ports[port=82,protocol="TCP"].port"#,
                // Go writes it where nobody has said it.
                r#".spec.ports[port=82,protocol="TCP"].targetPort"#,
            ]
        );
        assert_eq!(
            shown(&told.removed),
            [
                ".spec.type",
                r#".spec.ports[port=81,protocol="TCP"]"#,
                r#".spec.ports[port=81,protocol="TCP"].port"#,
                r#".spec.ports[port=81,protocol="TCP"].targetPort"#,
            ]
        );
        assert_eq!(compare(&old, &old, service), Comparison::default());
    }
}
