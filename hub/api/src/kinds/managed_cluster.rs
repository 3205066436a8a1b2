//! ManagedCluster: a spoke, in Open Cluster Management's form.
//!
//! Guarantees:
//! - its name is none of those that are the hub's own (`what_is_the_hubs_own_is_no_clusters_name`);
//! - who names no set is in the default one (`who_names_no_set_is_in_the_default_one`);
//! - whoever deletes one that has joined is told that its device goes on, and what ends that
//!   (`who_deletes_a_cluster_is_told_that_its_device_goes_on`);
//! - it goes only when what it leaves behind is gone, so that the next one of its name begins with nothing
//!   (`it_is_held_until_what_it_leaves_behind_is_gone`,
//!   `a_removed_cluster_leaves_nothing_to_the_next_one_of_its_name`).

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, Concern, FieldPaths, Kind, NameRule, Strategy, Trait, drop_status, keep_all_but_status,
    reset_all_but_status,
};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use crate::conditions::CLUSTER_JOINED;

use super::accessors::{
    AGE, NAME, age, child, column, condition, flag, int, list, name, set_default, text,
};
use crate::maintenance_window;

/// Seconds between two signs of life when the spec does not say.
pub const DEFAULT_LEASE_SECONDS: i64 = 60;

/// Finalizer of every ManagedCluster: the controller takes it off that removes what the cluster leaves behind.
pub const CLEANUP_FINALIZER: &str = "freewheel.dev/leftovers";

/// Label of a cluster: the ManagedClusterSet that it is in.
pub const CLUSTER_SET_LABEL: &str = "cluster.open-cluster-management.io/clusterset";
/// The set of clusters that name none.
pub const DEFAULT_CLUSTER_SET: &str = "default";

const EFFECTS: &[&str] = &["NoSelect", "PreferNoSelect", "NoSelectIfNew"];
const COLUMNS: &[Column] = &[
    NAME,
    column("Hub Accepted", "boolean", "Whether the hub lets it in."),
    column("Managed Cluster URLs", "string", "Where its own API is served."),
    column("Joined", "string", "Whether it ever joined."),
    column("Available", "string", "Whether it is heard of."),
    AGE,
];

/// Label of what belongs to the cluster that it names: its namespace, its certificate requests, its profile.
pub const CLUSTER_NAME_LABEL: &str = "open-cluster-management.io/cluster-name";

/// Where a ManagedCluster says which key its name belongs to.
pub const AGENT_KEY_ANNOTATION: &str = "freewheel.dev/agent-key";
/// Where it says which of its labels are its device's to say, those that it has joined with: keys, with commas.
pub const DEVICE_LABELS_ANNOTATION: &str = "freewheel.dev/labels-of-device";

/// Names that no cluster has: the hub's own, those of namespaces of the hub, in each of which a cluster's add-ons have
/// rights, and those of the roles that all clusters' agents share, which would be the role of the cluster's own.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    ["root", "default", "open-cluster-management", "registration", "work"].contains(&name)
        || ["kube-", "open-cluster-management-"].iter().any(|own| name.starts_with(own))
}

/// ManagedCluster of cluster.open-cluster-management.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(
        Gvk::new("cluster.open-cluster-management.io", "v1", "ManagedCluster"),
        "managedclusters",
        Rules,
    )
    .cluster_scoped()
    .in_the_root_only()
    .short(["mcl", "mcls"])
    .with_status()
    .concerns(Concern::ItsName)
    .columns(COLUMNS)
    .names_are(NameRule::DnsLabel)
    // As everything that is not built into Kubernetes.
    .with(&[Trait::NamesWhatItReplaces, Trait::HasDefinition, Trait::StandsForSpoke])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        set_default(spec, "hubAcceptsClient", false);
        if spec.get("leaseDurationSeconds").and_then(Value::as_i64).unwrap_or_default() == 0 {
            spec.insert("leaseDurationSeconds".to_owned(), DEFAULT_LEASE_SECONDS.into());
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        drop_status(object);
        hold(object);
        put_into_a_set(object);
    }

    /// Elsewhere it is a custom resource.
    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_all_but_status(subresource, new, old);
        // Who replaces it from a file does not know of this.
        if subresource.is_none() && old.pointer("/metadata/deletionTimestamp").is_none() {
            hold(new);
        }
        if subresource.is_none() {
            put_into_a_set(new);
        }
    }

    fn reset_fields(&self, subresource: Option<&str>) -> FieldPaths {
        reset_all_but_status(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let own = text(object, "/metadata/name");
        if is_reserved(own) {
            let text =
                "is reserved: the namespace and the role of a cluster at the hub have its name";
            errors.push(FieldError::invalid("metadata.name", &json!(own), text));
        }
        let lease = int(object, "/spec/leaseDurationSeconds");
        if lease < 0 {
            let text = "must be greater than or equal to 0";
            errors.push(FieldError::invalid("spec.leaseDurationSeconds", &json!(lease), text));
        }
        for (i, taint) in list(object, "/spec/taints").iter().enumerate() {
            errors.extend(check_taint(&format!("spec.taints[{i}]"), taint));
        }
        errors.extend(maintenance_window::check(object));
        errors
    }

    /// A device is not told what to do by whom it does not know any more: it holds to what it has, as without a hub.
    fn deletion_warning(&self, object: &Value) -> Option<String> {
        let key = object.pointer("/metadata/annotations")?.get(AGENT_KEY_ANNOTATION)?.as_str()?;
        let own = text(object, "/metadata/name");
        CLUSTER_JOINED.holds(object).then(|| {
            format!(
                "the device {own} goes on running its pods, and keeps its data: `hub decommission {own} --key {key}` ends and \
                 wipes it, also when its ManagedCluster is gone"
            )
        })
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let urls: Vec<_> = list(object, "/spec/managedClusterClientConfigs")
            .iter()
            .map(|c| text(c, "/url"))
            .collect();
        let status = |kind| condition(object, kind).map_or("", |c| text(c, "/status")).into();
        vec![
            name(object),
            flag(object, "/spec/hubAcceptsClient").into(),
            urls.join(",").into(),
            status("ManagedClusterJoined"),
            status("ManagedClusterConditionAvailable"),
            age(object, now),
        ]
    }
}

/// Who names no set is in the default one.
fn put_into_a_set(object: &mut Value) {
    let Some(meta) = child(object, "metadata") else { return };
    let labels = meta.entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut()
        && labels.get(CLUSTER_SET_LABEL).and_then(Value::as_str).is_none_or(str::is_empty)
    {
        labels.insert(CLUSTER_SET_LABEL.to_owned(), json!(DEFAULT_CLUSTER_SET));
    }
}

fn hold(object: &mut Value) {
    let Some(meta) = child(object, "metadata") else { return };
    let list = meta.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|name| name == CLEANUP_FINALIZER)
    {
        list.push(json!(CLEANUP_FINALIZER));
    }
}

fn check_taint(path: &str, taint: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (key, effect) = (text(taint, "/key"), text(taint, "/effect"));
    if key.is_empty() {
        errors.push(FieldError::required(format!("{path}.key"), ""));
    } else {
        for complaint in names::qualified_name(key) {
            errors.push(FieldError::invalid(format!("{path}.key"), &json!(key), &complaint));
        }
    }
    if !EFFECTS.contains(&effect) {
        let at = format!("{path}.effect");
        errors.push(FieldError::not_supported(at, &json!(effect), EFFECTS));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_hubs_own_is_no_clusters_name() {
        for own in ["root", "default", "kube-system", "open-cluster-management-hub", "work"] {
            let errors = Rules.validate(&json!({"metadata": {"name": own}}));
            assert_eq!(errors[0].field, "metadata.name", "{own}");
        }
        for free in ["pi-7", "kube", "default-1", "roots", "local-cluster"] {
            assert_eq!(Rules.validate(&json!({"metadata": {"name": free}})), [], "{free}");
        }
    }

    #[test]
    fn what_is_left_out_is_put_in() {
        let mut object = json!({"metadata": {"name": "pi-7"}});
        Rules.default(&mut object);
        assert_eq!(object["spec"], json!({"hubAcceptsClient": false, "leaseDurationSeconds": 60}));
    }

    #[test]
    fn it_is_held_until_what_it_leaves_behind_is_gone() {
        let held = json!(["mine.io/x", CLEANUP_FINALIZER]);
        let mut object = json!({"metadata": {"finalizers": ["mine.io/x"]}});
        Rules.prepare_create(&mut object);
        assert_eq!(object["metadata"]["finalizers"], held);
        let mut replaced = json!({"metadata": {}});
        Rules.prepare_update(None, &mut replaced, &object);
        assert_eq!(replaced["metadata"]["finalizers"], json!([CLEANUP_FINALIZER]));
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let mut let_go = json!({"metadata": {}});
        Rules.prepare_update(None, &mut let_go, &object);
        assert_eq!(let_go["metadata"]["finalizers"], Value::Null);
    }

    #[test]
    fn who_names_no_set_is_in_the_default_one() {
        let mut object = json!({"metadata": {"name": "pi-7"}});
        Rules.prepare_create(&mut object);
        assert_eq!(object["metadata"]["labels"], json!({CLUSTER_SET_LABEL: "default"}));
        let mut moved = json!({"metadata": {"labels": {CLUSTER_SET_LABEL: "north"}}});
        Rules.prepare_update(None, &mut moved, &object);
        assert_eq!(moved["metadata"]["labels"], json!({CLUSTER_SET_LABEL: "north"}));
        let mut emptied = json!({"metadata": {"labels": {CLUSTER_SET_LABEL: "", "site": "attic"}}});
        Rules.prepare_update(None, &mut emptied, &moved);
        assert_eq!(emptied["metadata"]["labels"][CLUSTER_SET_LABEL], "default");
    }

    #[test]
    fn a_row_shows_both_opt_ins_and_its_life() {
        let object = json!({
            "metadata": {"name": "pi-7"},
            "spec": {"hubAcceptsClient": true, "managedClusterClientConfigs": [{"url": "https://h/clusters/pi-7"}]},
            "status": {"conditions": [{"type": "ManagedClusterJoined", "status": "True"}]},
        });
        let row = Rules.row(&object, 0);
        assert_eq!(
            row[1..5],
            [json!(true), json!("https://h/clusters/pi-7"), json!("True"), json!("")]
        );
    }
}
