//! Which of the names that a definition asks for are its own: those that no other definition of its group has.
//!
//! Guarantees:
//! - a name that another has is refused with kube-apiserver's reason, and the rest is accepted
//!   (`names_that_another_has_are_refused`).

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_hub_custom::definition::{list, storage, text};
use freewheel_hub_schema::kind::Kind;
use serde_json::{Map, Value};

/// Names as they are now.
#[derive(Debug, PartialEq)]
pub(super) struct Names {
    /// `status.acceptedNames`
    pub(super) accepted: Value,
    /// Why not all of them: the last reason, and a text.
    pub(super) conflict: Option<(&'static str, String)>,
}

impl Names {
    /// Decides, among the kinds that the cluster has of its own.
    pub(super) fn decide(definition: &Value, own: &[Arc<Kind>]) -> Self {
        let (group, mine) = (text(definition, "/spec/group"), storage(definition));
        let others = own.iter().filter(|kind| kind.group() == group && *kind.storage() != mine);
        let (mut resources, mut kinds) = (BTreeSet::new(), BTreeSet::new());
        for kind in others {
            resources.extend([kind.plural(), kind.singular()]);
            resources.extend(kind.short_names.iter().map(|name| &**name));
            kinds.extend([kind.kind(), kind.list_kind()]);
        }
        let mut accepted = definition
            .pointer("/status/acceptedNames")
            .cloned()
            .unwrap_or_else(|| Value::Object(Map::new()));
        let mut conflict = None;
        for (key, taken, reason) in [
            ("plural", &resources, "PluralConflict"),
            ("singular", &resources, "SingularConflict"),
            ("shortNames", &resources, "ShortNamesConflict"),
            ("kind", &kinds, "KindConflict"),
            ("listKind", &kinds, "ListKindConflict"),
        ] {
            let asked = definition.pointer(&format!("/spec/names/{key}"));
            let had = names(accepted.get(key));
            let refused: Vec<String> = names(asked)
                .into_iter()
                .filter(|name| !had.contains(name) && taken.contains(name.as_str()))
                .map(|name| format!("{name:?} is already in use"))
                .collect();
            match refused.as_slice() {
                [] => set(&mut accepted, key, asked),
                [one] => conflict = Some((reason, one.clone())),
                many => conflict = Some((reason, format!("[{}]", many.join(", ")))),
            }
        }
        set(&mut accepted, "categories", definition.pointer("/spec/names/categories"));
        Self { accepted, conflict }
    }
}

fn set(accepted: &mut Value, key: &str, asked: Option<&Value>) {
    let Some(map) = accepted.as_object_mut() else { return };
    match asked {
        Some(asked) => map.insert(key.to_owned(), asked.clone()),
        None => map.remove(key),
    };
}

fn names(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(many @ Value::Array(_)) => {
            list(many, "").iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_custom::definition::kinds;
    use serde_json::json;

    use super::*;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                    "listKind": format!("{kind}List"), "shortNames": short},
                "versions": [{"name": "v1", "served": true, "storage": true}],
            },
            "status": {"acceptedNames": {"kind": "", "plural": ""}},
        })
    }

    #[test]
    fn names_that_another_has_are_refused() {
        let mut first = definition("widgets", "Widget", &["wd"]);
        let names = Names::decide(&first, &[]);
        assert_eq!((&names.accepted, &names.conflict), (&first["spec"]["names"], &None));
        first["status"]["acceptedNames"] = names.accepted;
        let own: Vec<Arc<Kind>> = kinds(&first, None).into_iter().map(Arc::new).collect();
        // Its own names are no other's.
        assert_eq!(Names::decide(&first, &own).conflict, None);
        let refused = |plural: &str, kind: &str, short: &[&str]| {
            let names = Names::decide(&definition(plural, kind, short), &own);
            names.conflict.map(|(reason, why)| format!("{reason}: {why}"))
        };
        let short = refused("gadgets", "Gadget", &["wd", "widget", "gd"]).unwrap();
        assert_eq!(
            short,
            r#"ShortNamesConflict: ["wd" is already in use, "widget" is already in use]"#
        );
        let kind = refused("gadgets", "Widget", &[]).unwrap();
        assert_eq!(kind, r#"ListKindConflict: "WidgetList" is already in use"#);
        assert_eq!(refused("gadgets", "Gadget", &["gd"]), None);
        let partly = Names::decide(&definition("gadgets", "Gadget", &["wd"]), &own).accepted;
        assert_eq!((&partly["plural"], partly.get("shortNames")), (&json!("gadgets"), None));
    }
}
