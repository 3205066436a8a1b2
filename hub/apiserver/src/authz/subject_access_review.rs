//! What somebody else is asked about a caller: a SubjectAccessReview, as kube-apiserver makes one of a request.
//!
//! Guarantees:
//! - conditions see all texts, also those that are empty, and who is asked is sent what there is
//!   (`a_review_says_which_version_and_which_part_of_a_collection`).

use std::collections::BTreeSet;

use freewheel_hub_schema::selector::{FieldSelector, LabelSelector, Operator, Requirement};
use serde_json::{Map, Value, json};

use super::attributes::{Attributes, Resource, What};
use crate::authn::User;

/// What is asked, with all texts, as conditions see it.
pub(super) fn spec(asked: &Attributes<'_>) -> Value {
    let User { name, uid, groups, extra, .. } = asked.user;
    let mut spec = json!({"user": name, "groups": groups, "uid": uid, "extra": extra});
    let verb = asked.verb;
    match asked.what {
        What::Path(path) => spec["nonResourceAttributes"] = json!({"path": path, "verb": verb}),
        What::Resource(what) => spec["resourceAttributes"] = attributes(&what, verb),
    }
    spec
}

fn attributes(what: &Resource<'_>, verb: &str) -> Value {
    let Resource { group, version, plural, subresource, namespace, name, fields, labels } = *what;
    let version = if version.is_empty() { "*" } else { version };
    let mut attributes = json!({"namespace": namespace, "verb": verb, "group": group,
        "version": version, "resource": plural, "subresource": subresource, "name": name});
    for (selector, requirements) in [
        ("fieldSelector", requirements_of_fields(fields)),
        ("labelSelector", requirements_of_labels(labels)),
    ] {
        if !requirements.is_empty() {
            attributes[selector] = json!({"requirements": requirements});
        }
    }
    attributes
}

/// What a `fieldSelector` asks for; of one that is none nothing, so that the question is about more.
fn requirements_of_fields(text: &str) -> Vec<Value> {
    let selector = FieldSelector::read(text).unwrap_or_default();
    let told = |(key, is, value): (&str, bool, &str)| {
        let operator = if is { "In" } else { "NotIn" };
        json!({"key": key, "operator": operator, "values": [value]})
    };
    selector.terms().map(told).collect()
}

/// The same of a `labelSelector`, by its keys.
fn requirements_of_labels(text: &str) -> Vec<Value> {
    let selector = LabelSelector::parse(text).unwrap_or_default();
    let mut all: Vec<&Requirement> = selector.requirements().iter().collect();
    all.sort_by_key(|one| &one.key);
    let none = BTreeSet::new();
    let told = |Requirement { key, operator }: &Requirement| {
        let (operator, values) = match operator {
            Operator::In(values) => ("In", values),
            Operator::NotIn(values) => ("NotIn", values),
            Operator::Exists => ("Exists", &none),
            Operator::DoesNotExist => ("DoesNotExist", &none),
            // A review has no word for it, and asks about more without it.
            Operator::Greater(_) | Operator::Less(_) => return None,
        };
        Some(json!({"key": key, "operator": operator, "values": values}))
    };
    all.into_iter().filter_map(told).collect()
}

/// The same as it is sent: without what is empty.
pub(super) fn review(mut spec: Value) -> Value {
    drop_empty(spec.as_object_mut());
    drop_empty(spec.get_mut("resourceAttributes").and_then(Value::as_object_mut));
    let labels = spec.pointer_mut("/resourceAttributes/labelSelector/requirements");
    for one in labels.and_then(Value::as_array_mut).into_iter().flatten() {
        drop_empty(one.as_object_mut());
    }
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "metadata": {}, "spec": spec,
    })
}

fn drop_empty(fields: Option<&mut Map<String, Value>>) {
    let is_empty = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    if let Some(fields) = fields {
        fields.retain(|_, value| !is_empty(value));
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::authz::Cluster;

    fn asked(what: What<'_>) -> (Value, Value) {
        let user = User { name: "jane".to_owned(), ..User::default() };
        let cluster = Cluster { name: &ClusterName::root(), uid: None };
        let spec = spec(&Attributes { user: &user, verb: "list", cluster, what });
        (spec.clone(), review(spec)["spec"].take())
    }

    #[test]
    fn a_review_says_which_version_and_which_part_of_a_collection() {
        let labels = "b in (y,x),a!=z,!c,d,e>1";
        let (group, plural) = ("apps", "deployments");
        let what = Resource { group, version: "v1", plural, labels, ..Resource::default() };
        let (seen, sent) = asked(What::Resource(what));
        let requirements = |none: Value| {
            let mut all = json!([
                {"key": "a", "operator": "NotIn", "values": ["z"]},
                {"key": "b", "operator": "In", "values": ["x", "y"]},
                {"key": "c", "operator": "DoesNotExist"},
                {"key": "d", "operator": "Exists"},
            ]);
            if !none.is_null() {
                all[2]["values"] = none.clone();
                all[3]["values"] = none;
            }
            json!({"requirements": all})
        };
        assert_eq!(
            seen["resourceAttributes"],
            json!({"namespace": "", "verb": "list", "group": group, "version": "v1", "resource": plural,
                "subresource": "", "name": "", "labelSelector": requirements(json!([]))})
        );
        assert_eq!(
            sent,
            json!({"user": "jane", "resourceAttributes": {"verb": "list", "group": group, "version": "v1",
                "resource": plural, "labelSelector": requirements(Value::Null)}})
        );
        let fields = "a=b,c!=d";
        let (_, sent) = asked(What::Resource(Resource { plural, fields, ..Resource::default() }));
        assert_eq!(
            sent["resourceAttributes"],
            json!({"verb": "list", "version": "*", "resource": plural, "fieldSelector": {"requirements": [
                {"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "NotIn", "values": ["d"]}]}})
        );
        let (_, sent) = asked(What::Path("/x"));
        assert_eq!(
            sent,
            json!({"user": "jane", "nonResourceAttributes": {"path": "/x", "verb": "list"}})
        );
    }
}
