//! What agents of add-ons may do at the hub: RoleBindings in the root, written as upstream's manager of add-ons, so that
//! nobody gives away by a template what that one may not.
//!
//! Guarantees:
//! - what it may not give is not given, and told of (`rights_that_are_not_given_are_told_of`).

use std::sync::Arc;

use freewheel_hub_fleet::add_on::registration::{Binding, Registration};
use freewheel_hub_objects::{Actor, FieldValidation, Person, Propagation, WriteOptions};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Expect, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::registrar::{Registrar, agent_of};
use crate::engine::Error;
use crate::engine::client::{key as key_of, object_ref};
use crate::index::{AGENT_ADD_ON_LABEL, AGENT_CLUSTER_LABEL};

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
            let key = key_of(&self.bindings, &ClusterName::root(), namespace, &binding.name);
            let wanted = self.wanted(instance, &binding, &subjects);
            let refused = self.put(instance, &key, &wanted).await?;
            denied = denied.or(refused);
            kept.push(key);
        }
        Ok((kept, denied))
    }

    fn wanted(&self, instance: &Stored, binding: &Binding, subjects: &[Value]) -> Value {
        let key = &instance.key;
        let mut meta = json!({"labels": {
            AGENT_ADD_ON_LABEL: &*key.name, AGENT_CLUSTER_LABEL: &*key.namespace, TEMPLATE_LABEL: "",
        }});
        if binding.permission.is_of_cluster {
            meta["ownerReferences"] = json!([{
                "apiVersion": "addon.open-cluster-management.io/v1beta1",
                "kind": "ManagedClusterAddOn", "name": &*key.name,
                "uid": instance.object.header.uid.as_str(),
            }]);
        }
        json!({"metadata": meta, "roleRef": binding.permission.role, "subjects": subjects})
    }

    /// Makes a binding what it is to be; or why it is not.
    async fn put(
        &self,
        instance: &Stored,
        key: &Key,
        wanted: &Value,
    ) -> Result<Option<String>, Error> {
        let there = self.client.snapshot().get(key);
        if let Some(there) = &there {
            let value = there.object.value().map_err(Error::api("read a RoleBinding"))?;
            let is_same = |field: &str| value[field] == wanted[field];
            if is_same("roleRef") && is_same("subjects") && has_meta(&value, wanted) {
                return Ok(None);
            }
            // A binding is of its role for good.
            if !is_same("roleRef") {
                let uid = &there.object.header.uid;
                let gone = self.client.delete(&self.bindings, key, uid, Propagation::Background);
                gone.await.map_err(Error::api("replace the binding of an agent"))?;
            }
        }
        let change = |old: Option<Value>| {
            let mut value = old.unwrap_or_else(|| json!({"metadata": {}}));
            let labels = wanted["metadata"]["labels"].as_object().into_iter().flatten();
            for (name, label) in labels {
                value["metadata"]["labels"][name] = label.clone();
            }
            if !wanted["metadata"]["ownerReferences"].is_null() {
                value["metadata"]["ownerReferences"] =
                    wanted["metadata"]["ownerReferences"].clone();
            }
            for field in ["roleRef", "subjects"] {
                value[field] = wanted[field].clone();
            }
            Ok(value)
        };
        let (how, place) = (as_manager(instance), object_ref(&self.bindings, key));
        match self.client.objects().create_or_modify(&how, &place, change).await {
            Ok(_) => Ok(None),
            Err(refused) if [403, 404, 422].contains(&refused.code) => Ok(Some(refused.message)),
            Err(other) => Err(Error::api("bind the agent of an add-on")(other)),
        }
    }
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
