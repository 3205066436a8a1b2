//! What agents of add-ons may do at the hub: RoleBindings in the root, written as upstream's manager of add-ons, so that
//! nobody gives away by a template what that one may not.
//!
//! Guarantees:
//! - what it may not give is not given, and told of (`rights_that_are_not_given_are_told_of`), where it may write no
//!   bindings nothing at all (`who_may_write_no_bindings_gives_no_rights`);
//! - no agent is given rights in the namespace of another cluster, also of one that comes later
//!   (`no_rights_are_given_in_the_namespace_of_another_cluster`);
//! - a binding that was not made for the agent is left alone (`what_is_not_an_agents_is_left_alone`).

use std::sync::Arc;

use freewheel_hub_fleet::add_on::registration::{AgentOf, Binding, Registration};
use freewheel_hub_objects::{Actor, FieldValidation, Person, Propagation, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Expect, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::grant::{Whose, labels, taken};
use super::registrar::{Registrar, agent_of};
use crate::engine::Error;
use crate::engine::client::{key as key_of, object_ref};
use crate::rights::RightAsked;

/// Upstream's manager of add-ons, whose rights decide.
pub(super) const MANAGER: &str =
    "system:serviceaccount:open-cluster-management-hub:addon-manager-controller-sa";
/// As upstream marks them.
const TEMPLATE_LABEL: &str = "open-cluster-management.io/addon-template-name";

/// The groups of that account.
pub(super) fn manager_groups() -> Vec<String> {
    let groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:open-cluster-management-hub",
        "system:authenticated",
    ];
    groups.map(str::to_owned).into()
}

impl Registrar {
    /// Gives the agent of an instance its rights; which bindings it has by that, and why not all of them.
    pub async fn bind(
        &self,
        instance: &Arc<Stored>,
        registrations: &[Registration],
    ) -> Result<(Vec<Key>, Option<String>), Error> {
        let of = agent_of(&instance.key);
        let (mut kept, mut denied) = (Vec::new(), None);
        let subjects = of.bound(registrations);
        for binding in of.bindings(registrations) {
            let namespace = &binding.permission.namespace;
            if let Some(why) = self.why_not_in(of, namespace) {
                denied = denied.or(Some(why));
                continue;
            }
            let key = key_of(&self.bindings, &ClusterName::root(), namespace, &binding.name);
            let wanted = wanted(instance, (&key, &binding), &subjects);
            let refused = self.put(instance, &key, &wanted).await?;
            denied = denied.or(refused);
            kept.push(key);
        }
        Ok((kept, denied))
    }

    /// Why an agent gets nothing in a namespace: by ManifestWorks there its add-on would do on another cluster what nobody
    /// has asked for.
    fn why_not_in(&self, of: AgentOf<'_>, namespace: &str) -> Option<String> {
        let other = key_of(&self.clusters, &ClusterName::root(), "", namespace);
        let is_other = namespace != of.cluster && self.client.snapshot().get(&other).is_some();
        is_other.then(|| {
            format!(
                "the namespace {namespace:?} is of the cluster of that name, and the agent is of the cluster {:?}",
                of.cluster
            )
        })
    }

    /// Why upstream's manager of add-ons writes no binding.
    async fn may_not(&self, verb: &str, key: &Key) -> Option<String> {
        let (groups, namespace) = (manager_groups(), &*key.namespace);
        let asked = RightAsked {
            cluster: &key.cluster,
            user: MANAGER,
            groups: &groups,
            verb,
            group: self.bindings.group(),
            resource: self.bindings.plural(),
            namespace,
            name: if verb == "create" { "" } else { &key.name },
        };
        if self.hub.rights.may(asked).await {
            return None;
        }
        Some(format!(
            "rolebindings.rbac.authorization.k8s.io {:?} is forbidden: User {MANAGER:?} cannot {verb} resource \
             \"rolebindings\" in API group \"rbac.authorization.k8s.io\" in the namespace {namespace:?}",
            key.name
        ))
    }

    /// Makes a binding what it is to be; or why it is not.
    async fn put(
        &self,
        instance: &Stored,
        key: &Key,
        wanted: &Value,
    ) -> Result<Option<String>, Error> {
        let of = agent_of(&instance.key);
        let mut verb = "create";
        if let Some(there) = self.client.snapshot().get(key) {
            let value = there.object.value().map_err(Error::api("read a RoleBinding"))?;
            let is_same = |field: &str| value[field] == wanted[field];
            if is_same("roleRef") && is_same("subjects") && has_meta(&value, wanted) {
                return Ok(None);
            }
            match (Whose::stored(of, &there), is_same("roleRef")) {
                (Whose::Agents | Whose::Unmarked, true) => verb = "update",
                // A binding is of its role for good, and what that gives is asked for no more, whatever comes instead.
                (Whose::Agents, false) => {
                    let uid = &there.object.header.uid;
                    let gone =
                        self.client.delete(&self.bindings, key, uid, Propagation::Background);
                    gone.await.map_err(Error::api("replace the binding of an agent"))?;
                }
                (Whose::Others, _) | (Whose::Unmarked, false) => return Ok(Some(taken(key))),
            }
        }
        if let Some(why) = self.may_not(verb, key).await {
            return Ok(Some(why));
        }
        let change = |old: Option<Value>| changed(old, (of, key), wanted);
        let (how, place) = (as_manager(instance), object_ref(&self.bindings, key));
        match self.client.objects().create_or_modify(&how, &place, change).await {
            Ok(_) => Ok(None),
            Err(refused) if [403, 404, 422].contains(&refused.code) => Ok(Some(refused.message)),
            Err(other) => Err(Error::api("bind the agent of an add-on")(other)),
        }
    }
}

/// A binding as it is to be.
fn wanted(instance: &Stored, (place, binding): (&Key, &Binding), subjects: &[Value]) -> Value {
    let key = &instance.key;
    let mut meta = json!({"labels": {TEMPLATE_LABEL: ""}});
    for (label, value) in labels(agent_of(key), place) {
        meta["labels"][label] = json!(value);
    }
    if binding.permission.is_of_cluster {
        meta["ownerReferences"] = json!([{
            "apiVersion": "addon.open-cluster-management.io/v1beta1",
            "kind": "ManagedClusterAddOn", "name": &*key.name,
            "uid": instance.object.header.uid.as_str(),
        }]);
    }
    json!({"metadata": meta, "roleRef": binding.permission.role, "subjects": subjects})
}

/// What is there, with what is to be of it; nothing that is somebody else's.
fn changed(
    old: Option<Value>,
    (of, key): (AgentOf<'_>, &Key),
    wanted: &Value,
) -> Result<Value, ApiError> {
    if old.as_ref().is_some_and(|old| Whose::there(of, key, old) == Whose::Others) {
        return Err(ApiError::new(403, "Forbidden", taken(key)));
    }
    let mut value = old.unwrap_or_else(|| json!({"metadata": {}}));
    let labels = wanted["metadata"]["labels"].as_object().into_iter().flatten();
    for (name, label) in labels {
        value["metadata"]["labels"][name] = label.clone();
    }
    if !wanted["metadata"]["ownerReferences"].is_null() {
        value["metadata"]["ownerReferences"] = wanted["metadata"]["ownerReferences"].clone();
    }
    for field in ["roleRef", "subjects"] {
        value[field] = wanted[field].clone();
    }
    Ok(value)
}

/// Whether labels and owners are what they are to be.
fn has_meta(there: &Value, wanted: &Value) -> bool {
    let (there, wanted) = (&there["metadata"], &wanted["metadata"]);
    let mut labels = wanted["labels"].as_object().into_iter().flatten();
    let owners = &wanted["ownerReferences"];
    labels.all(|(name, label)| there["labels"][name] == *label)
        && (owners.is_null() || there["ownerReferences"][0]["uid"] == owners[0]["uid"])
}

fn as_manager(instance: &Stored) -> WriteOptions {
    let person = Person {
        name: MANAGER.to_owned(),
        groups: manager_groups(),
        manager: "addon-manager".to_owned(),
        by_controller: true,
        ..Person::default()
    };
    let (field_validation, expect) = (FieldValidation::Ignore, vec![Expect::still(instance)]);
    WriteOptions { field_validation, expect, ..WriteOptions::by(Actor::from(person)) }
}
