//! Roles and bindings that clusters have from the start, with the names and rules that kube-apiserver gives them.
//!
//! ```text
//! every-cluster  what people are given: admin, edit, view, discovery, …
//! root           what components of a Kubernetes cluster run as
//! controllers    the roles of its controllers
//! fleet          what agents of Open Cluster Management ask to join by and may do then, and what its manager of add-ons may give away to
//!                agents of these, with the names and rules that it gives them; what of them the hub does itself is left out
//! ```
//!
//! No component runs in a spoke's own cluster, so it has the first of these alone: there are thousands of them.

use std::sync::LazyLock;

use serde_json::Value;

use crate::rbac_kind::RbacKind;

static EVERY_CLUSTER: LazyLock<Vec<PolicyObject>> =
    LazyLock::new(|| read(include_str!("../policy/every-cluster.json")));
static ROOT: LazyLock<Vec<PolicyObject>> = LazyLock::new(|| {
    let mut all = read(include_str!("../policy/root.json"));
    all.extend(read(include_str!("../policy/controllers.json")));
    all.extend(read(include_str!("../policy/fleet.json")));
    all
});

/// One role or binding.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyObject {
    /// What it is one of.
    pub kind: &'static RbacKind,
    /// Its namespace; empty for none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// All of it, without its type.
    pub value: Value,
}

/// What a cluster has from the start: first of all what people are given.
pub fn of(is_root: bool) -> impl Iterator<Item = &'static PolicyObject> {
    let more: &'static [PolicyObject] = if is_root { &ROOT } else { &[] };
    EVERY_CLUSTER.iter().chain(more)
}

fn read(text: &str) -> Vec<PolicyObject> {
    // It is a part of this crate, which a test reads.
    let all: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    all.into_iter().filter_map(object).collect()
}

fn object(mut value: Value) -> Option<PolicyObject> {
    let kind = value.as_object_mut()?.remove("kind")?;
    let kind = RbacKind::named(kind.as_str()?)?;
    let text = |key: &str| value["metadata"][key].as_str().unwrap_or_default().to_owned();
    Some(PolicyObject { kind, namespace: text("namespace"), name: text("name"), value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac_kind::RbacForm;

    #[test]
    fn every_cluster_has_its_policy() {
        assert_eq!((of(false).count(), of(true).count()), (21, 141));
        for object in of(true) {
            let is_role = object.kind.form == RbacForm::Role;
            assert_eq!(object.value.get("roleRef").is_none(), is_role, "{}", object.name);
            let annotation = &object.value["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"];
            assert_eq!(annotation, "true", "{}", object.name);
        }
        let find = |name: &str| of(false).find(|object| object.name == name);
        for name in [
            "cluster-admin",
            "admin",
            "edit",
            "view",
            "system:discovery",
            "system:aggregated-metrics-reader",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
    }
}
