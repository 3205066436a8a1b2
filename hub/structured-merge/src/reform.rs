//! A set that was made under another schema: what was owned piece by piece may be owned as a whole now.

use crate::atom::{Form, TypeRef};
use crate::path::PathElement;
use crate::set::Set;

/// The set as the schema of today has it; nothing when that is the same.
pub(crate) fn reform(set: &Set, typed: TypeRef<'_>) -> Option<Set> {
    let mut walk = Walk { path: Vec::new(), whole: Set::default() };
    walk.visit(Some(set), false, typed);
    if walk.whole.is_empty() {
        return None;
    }
    let mut out = set.clone();
    out.remove_with_content(&walk.whole);
    out.union(&walk.whole);
    Some(out)
}

struct Walk {
    path: Vec<PathElement>,
    /// What is owned as a whole from now on.
    whole: Set,
}

impl Walk {
    /// `is_leaf`: it is in the set, and nothing inside of it.
    fn visit(&mut self, set: Option<&Set>, is_leaf: bool, typed: TypeRef<'_>) {
        match typed.resolve().form() {
            Form::Scalar(_) | Form::Nothing => {}
            Form::List(list) if list.atomic => {
                if !is_leaf {
                    self.whole.insert(&self.path);
                }
            }
            Form::List(list) => self.inside(set, |_| Some(list.element)),
            // What no schema says anything of has nothing that could have changed.
            Form::Map(map) if map.is_deduced() => {}
            Form::Map(map) if map.atomic => {
                if !is_leaf && set.is_some_and(|set| !set.is_empty()) {
                    self.whole.insert(&self.path);
                }
            }
            Form::Map(map) => self.inside(set, |step| {
                let inner = match step {
                    PathElement::Field(name) => map.at(name),
                    PathElement::Key(_) | PathElement::Value(_) | PathElement::Index(_) => {
                        map.element
                    }
                };
                (!matches!(inner, TypeRef::Unknown)).then_some(inner)
            }),
        }
    }

    fn inside<'a>(&mut self, set: Option<&Set>, of: impl Fn(&PathElement) -> Option<TypeRef<'a>>) {
        for (step, node) in set.into_iter().flat_map(|set| &set.nodes) {
            let Some(typed) = of(step) else { continue };
            let children = (!node.children.nodes.is_empty()).then_some(&node.children);
            self.path.push(step.clone());
            self.visit(children, node.member && children.is_none(), typed);
            self.path.pop();
        }
    }
}
