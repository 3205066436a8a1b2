//! ManagedClusterAddOn: an add-on on the cluster whose namespace it lies in.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::{Column, Kind};
use serde_json::{Map, Value, json};

use super::references::{fields, name_desired, name_desired_alone};
use super::{NEWER, STORED};
use crate::kinds::accessors::{NAME, child, column, condition, name, text};
use crate::kinds::field_value::FieldValue;
use crate::kinds::fleet::view::View;
use crate::kinds::fleet::{ADD_ON_GROUP, Rules, follows};

const KIND: &str = "ManagedClusterAddOn";
const PLURAL: &str = "managedclusteraddons";
const COLUMNS: &[Column] = &[
    NAME,
    column("Available", "string", "Whether its agent is well."),
    column("Degraded", "string", "Whether its agent does less than it should."),
    column("Progressing", "string", "Whether it is being set up."),
];
/// As the CRD has it.
const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Where the newer form keeps `spec.installNamespace`.
const NAMESPACE_ANNOTATION: &str = "addon.open-cluster-management.io/v1alpha1-install-namespace";
const HOSTING_ANNOTATION: &str = "addon.open-cluster-management.io/hosting-cluster-name";
/// Who signs what a client of this API shows.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// ManagedClusterAddOn of addon.open-cluster-management.io/v1alpha1.
pub(crate) fn kind() -> Kind {
    let rules = Rules { mistakes, ..rules(STORED) };
    either(rules.kind(PLURAL))
}

/// The same of v1beta1.
pub(crate) fn newer() -> Kind {
    let rules = rules(NEWER);
    let view = View { rules, stored: STORED, into_stored: into_older, out_of_stored: into_newer };
    either(view.kind(PLURAL).with_status())
}

fn rules(version: &'static str) -> Rules {
    Rules {
        cells: |object, _| {
            let of = |kind: &str| condition(object, kind).map_or("", |it| text(it, "/status"));
            let statuses = ["Available", "Degraded", "Progressing"].map(of);
            [name(object)].into_iter().chain(statuses.map(Value::from)).collect()
        },
        warnings: |object| {
            let hosted = object.pointer("/metadata/annotations");
            if hosted.and_then(|all| all.get(HOSTING_ANNOTATION)).is_none() {
                return Vec::new();
            }
            let why = "kept without effect: agents of add-ons run on their own cluster alone";
            vec![format!("metadata.annotations[{HOSTING_ANNOTATION}]: {why}")]
        },
        ..Rules::new(ADD_ON_GROUP, version, KIND)
    }
}

fn either(kind: Kind) -> Kind {
    kind.short(["mca", "mcas"]).columns(COLUMNS)
}

fn mistakes(object: &Value) -> Vec<FieldError> {
    let namespace = FieldValue::of(object, "spec").child("installNamespace");
    follows(&namespace, NAMESPACE).into_iter().chain(namespace.no_longer(63)).collect()
}

fn into_older(object: &mut Value) {
    let notes = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let namespace = notes.and_then(|notes| notes.remove(NAMESPACE_ANNOTATION));
    if let Some(meta) = fields(object, "metadata")
        && meta.get("annotations").is_some_and(|all| *all == json!({}))
    {
        meta.remove("annotations");
    }
    if let Some(namespace) = namespace
        && let Some(spec) = child(object, "spec")
    {
        spec.insert("installNamespace".to_owned(), namespace);
    }
    let Some(status) = fields(object, "status") else { return };
    name_desired(status);
    let mut driver = None;
    for registration in registrations(status) {
        let of = |key: &str| registration.get(key).cloned().unwrap_or_default();
        let client = of("type") == "kubeClient";
        let config = of(if client { "kubeClient" } else { "customSigner" });
        if client && driver.is_none() {
            driver = config.get("driver").cloned();
        }
        let signer = if client { json!(CLIENT_SIGNER) } else { config["signerName"].clone() };
        let subject = rename_units(&config["subject"], ("organizationUnits", "organizationUnit"));
        *registration = Map::from_iter([("signerName".to_owned(), signer)]);
        registration.extend(subject.map(|subject| ("subject".to_owned(), subject)));
    }
    status.extend(driver.map(|driver| ("kubeClientDriver".to_owned(), driver)));
}

fn into_newer(object: &mut Value) {
    let namespace = fields(object, "spec").and_then(|spec| spec.remove("installNamespace"));
    if let Some(namespace) = namespace.filter(|it| it.as_str().is_some_and(|it| !it.is_empty()))
        && let Some(meta) = object.get_mut("metadata")
        && let Some(notes) = child(meta, "annotations")
    {
        notes.insert(NAMESPACE_ANNOTATION.to_owned(), namespace);
    }
    let Some(status) = fields(object, "status") else { return };
    name_desired_alone(status);
    status.remove("addOnConfiguration");
    let driver = status.remove("kubeClientDriver");
    for registration in registrations(status) {
        let signer = registration.remove("signerName").unwrap_or_default();
        let subject = registration.remove("subject").unwrap_or_default();
        let subject = rename_units(&subject, ("organizationUnit", "organizationUnits"));
        let client = signer == CLIENT_SIGNER;
        let mut config = Map::new();
        config.extend(subject.map(|subject| ("subject".to_owned(), subject)));
        let (kind, extra) = if client {
            ("kubeClient", driver.clone().map(|driver| ("driver".to_owned(), driver)))
        } else {
            ("customSigner", Some(("signerName".to_owned(), signer)))
        };
        config.extend(extra);
        registration.insert("type".to_owned(), kind.into());
        registration.insert(kind.to_owned(), config.into());
    }
}

fn registrations(status: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let all = status.get_mut("registrations").and_then(Value::as_array_mut);
    all.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// A subject, whose units have another name in each version.
fn rename_units(subject: &Value, (from, to): (&str, &str)) -> Option<Value> {
    let mut subject = subject.as_object()?.clone();
    if let Some(units) = subject.remove(from) {
        subject.insert(to.to_owned(), units);
    }
    Some(subject.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_the_same_in_both_versions() {
        let subject = json!({"user": "u", "groups": ["g"]});
        let signed = json!({"user": "u", "organizationUnit": ["o"]});
        let config = json!({"namespace": "n", "name": "c", "specHash": "1"});
        let older = json!({"apiVersion": "addon.open-cluster-management.io/v1alpha1", "metadata": {"name": "a"},
            "spec": {"installNamespace": "agents"},
            "status": {"kubeClientDriver": "csr",
                "configReferences": [{"group": "", "resource": "configmaps", "namespace": "n", "name": "c", "desiredConfig": config}],
                "registrations": [{"signerName": CLIENT_SIGNER, "subject": subject},
                    {"signerName": "a.io/b", "subject": signed}]}});
        let mut newer = older.clone();
        let kind = super::newer();
        kind.strategy.from_stored(&mut newer).unwrap();
        assert_eq!(newer["metadata"]["annotations"][NAMESPACE_ANNOTATION], "agents");
        assert_eq!(newer["spec"], json!({}));
        assert_eq!(
            newer["status"]["configReferences"],
            json!([{"group": "", "resource": "configmaps", "desiredConfig": config}])
        );
        assert_eq!(
            newer["status"]["registrations"],
            json!([{"type": "kubeClient", "kubeClient": {"subject": subject, "driver": "csr"}},
                {"type": "customSigner", "customSigner": {"signerName": "a.io/b",
                    "subject": {"user": "u", "organizationUnits": ["o"]}}}])
        );
        kind.strategy.to_stored(&mut newer);
        assert_eq!(newer, older);
    }

    #[test]
    fn a_row_says_how_it_is() {
        let object = json!({"metadata": {"name": "a"}, "status": {"conditions": [
            {"type": "Available", "status": "True"}, {"type": "Progressing", "status": "False"}]}});
        assert_eq!(kind().strategy.row(&object, 0), ["a", "True", "", "False"].map(Value::from));
        let hosted = json!({"metadata": {"annotations": {HOSTING_ANNOTATION: "b"}}});
        assert_eq!(kind().strategy.warnings(&hosted).len(), 1);
    }
}
