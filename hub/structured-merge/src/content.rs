//! The paths of all that an object has: what its writer owns when it applies it.

use serde_json::{Map, Value};

use crate::atom::{Form, ListAtom, MapAtom, TypeRef};
use crate::compare::{filled_list, filled_map};
use crate::element;
use crate::path::PathElement;
use crate::set::Set;

/// All that a valid object names.
pub(crate) fn of(value: &Value, typed: TypeRef<'_>) -> Set {
    let mut walk = Walk { path: Vec::new(), out: Set::default() };
    walk.visit(value, typed);
    walk.out
}

struct Walk {
    path: Vec<PathElement>,
    out: Set,
}

impl Walk {
    fn visit(&mut self, value: &Value, typed: TypeRef<'_>) {
        match typed.resolve().deduce(Some(value)).form() {
            Form::Scalar(_) => self.out.insert(&self.path),
            Form::Map(atom) if atom.atomic => self.out.insert(&self.path),
            Form::List(atom) if atom.atomic => self.out.insert(&self.path),
            Form::Map(atom) => {
                if let Some(map) = filled_map(Some(value)) {
                    self.map(map, &atom);
                }
            }
            Form::List(atom) => {
                if let Some(items) = filled_list(Some(value)) {
                    self.list(items, &atom);
                }
            }
            Form::Nothing => {}
        }
    }

    fn map(&mut self, map: &Map<String, Value>, atom: &MapAtom<'_>) {
        for (key, inner) in map {
            self.path.push(PathElement::Field(key.as_str().into()));
            self.visit(inner, atom.at(key));
            let is_empty = inner.is_null() || inner.as_object().is_some_and(Map::is_empty);
            // A field of a struct is there by what is inside, a key of a map by itself.
            if is_empty || atom.field(key).is_none() {
                self.out.insert(&self.path);
            }
            self.path.pop();
        }
    }

    fn list(&mut self, items: &[Value], atom: &ListAtom<'_>) {
        let (mut seen, mut twice) = (Set::default(), Set::default());
        // What is no element of such a list is told by a step to nothing, by which the list has something in it.
        let nothing = || PathElement::Key([].into());
        let step = |item| element::step(atom, item).unwrap_or_else(|_| nothing());
        let steps: Vec<_> = items.iter().map(step).collect();
        for step in &steps {
            let step = std::slice::from_ref(step);
            if seen.has(step) { twice.insert(step) } else { seen.insert(step) }
        }
        for (step, item) in steps.into_iter().zip(items) {
            let is_twice = twice.has_member(&step);
            self.path.push(step);
            if !is_twice {
                self.visit(item, atom.element);
            }
            self.out.insert(&self.path);
            self.path.pop();
        }
    }
}

/// The same set, with each named field in it that something inside of is in it.
pub(crate) fn with_named_fields(set: &Set, typed: TypeRef<'_>) -> Set {
    let atom = typed.resolve();
    let mut out = set.clone();
    for (step, node) in &mut out.nodes {
        let inner = match (step, &atom.map, &atom.list) {
            (PathElement::Field(name), Some(map), _) => {
                node.member |= map.field(name).is_some() && !node.children.nodes.is_empty();
                map.at(name)
            }
            (PathElement::Key(_), _, Some(list)) => list.element,
            _ => TypeRef::Unknown,
        };
        node.children = with_named_fields(&node.children, inner);
    }
    out
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::types::TypeFacts;
    use serde_json::json;

    use super::*;
    use crate::path;

    /// While an apply is pruned, an element may be a null of which nothing is left.
    #[test]
    fn a_list_of_nothing_but_a_null_has_something_in_it() {
        let pod = TypeRef::Object(TypeFacts::find("", "v1", "Pod").unwrap());
        let told = |gates| {
            let set = of(&json!({"spec": {"schedulingGates": gates}}), pod);
            let all = with_named_fields(&set, pod);
            all.has(&["spec", "schedulingGates"].map(|name| PathElement::Field(name.into())))
        };
        assert!(told(json!([null])));
        assert!(!told(json!([])));
    }

    #[test]
    fn what_is_applied_is_owned_down_to_its_leaves() {
        let pod = TypeRef::Object(TypeFacts::find("", "v1", "Pod").unwrap());
        let value = json!({
            "metadata": {"labels": {"a": "b"}, "annotations": {}},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}], "args": ["x"]}],
                "nodeSelector": {"n": "m"}, "securityContext": {}, "volumes": []},
        });
        let shown: Vec<_> = of(&value, pod).paths().iter().map(path::shown).collect();
        assert_eq!(
            shown,
            [
                ".metadata.annotations",
                ".metadata.labels.a",
                ".spec.nodeSelector",
                ".spec.securityContext",
                r#".spec.containers[name="c"]"#,
                r#".spec.containers[name="c"].args"#,
                r#".spec.containers[name="c"].name"#,
                r#".spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]"#,
                r#".spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort"#,
            ]
        );
    }
}
