//! How far an add-on is on its cluster with what it was given.

use std::sync::Arc;

use freewheel_hub_api::conditions::{
    ADD_ON_MANIFESTS_APPLIED, ADD_ON_PROGRESSING, Condition, find,
};
use freewheel_hub_fleet::add_on::agent::hashes;
use freewheel_hub_fleet::add_on::configs::{Config, Reference};
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::instances::AddOnInstances;
use super::manifest_works::{HASHES, NAME_LABEL};
use crate::engine::Error;
use crate::engine::client::in_namespace;
use crate::engine::clock::rfc3339;

impl AddOnInstances {
    /// Says how far its works are with what it was given.
    pub(super) async fn tell_progress(&self, stored: &Arc<Stored>) -> Result<(), Error> {
        let scope = in_namespace(&self.works, &ClusterName::root(), &stored.key.namespace);
        let is_own = |it: &Arc<Stored>| {
            it.object.header.labels.get(NAME_LABEL).is_some_and(|name| **name == *stored.key.name)
        };
        let hook = format!("addon-{}-pre-delete", stored.key.name);
        let now = self.client.snapshot();
        let own =
            now.range(&scope, None).filter(is_own).filter(|it| !it.key.name.starts_with(&hook));
        let works: Vec<Value> = own
            .map(|it| it.object.value())
            .collect::<Result<_, _>>()
            .map_err(Error::api("read a ManifestWork of an add-on"))?;
        let time = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            let condition = progress(&value, &works);
            if condition.reason == "Completed" {
                let list = value["status"]["configReferences"].as_array_mut();
                for reference in list.into_iter().flatten() {
                    reference["lastAppliedConfig"] = reference["desiredConfig"].clone();
                }
            }
            condition.put(&mut value["status"]["conditions"], &time);
            Ok(value)
        };
        let told = self.client.modify_this(&self.instances, stored, Some("status"), change).await;
        told.map(drop).map_err(Error::api("tell the progress of an add-on"))
    }
}

/// How far an instance is by its works.
fn progress(instance: &Value, works: &[Value]) -> Condition<'static> {
    let say = |is: bool, reason: &'static str, text: String| {
        Condition::new(&ADD_ON_PROGRESSING, is, reason, text)
    };
    let at_it = |why: &str| say(true, "Progressing", format!("progressing... {why}"));
    if let Some(config) = unsupported(instance) {
        let Config { group, resource, .. } = config;
        let text =
            format!("Configuration with gvr {group}/{resource} is not supported for this addon");
        return say(false, "ConfigurationUnsupported", text);
    }
    if ADD_ON_MANIFESTS_APPLIED.find(instance).is_none() {
        let text = "Waiting for ManagedClusterAddOn ManifestApplied condition";
        return say(false, "WaitingForManifestApplied", text.to_owned());
    }
    if works.is_empty() {
        return at_it("no addon works");
    }
    let references = Reference::all(&instance["status"]["configReferences"]);
    let wanted = hashes(&references);
    let is_whole = references.iter().all(|it| !it.desired.hash.is_empty());
    for work in works {
        let made_by = work["metadata"]["annotations"][HASHES].as_str();
        if made_by != wanted.as_deref() || !is_whole {
            return at_it("mca and work configs mismatch");
        }
        let generation = &work["metadata"]["generation"];
        let holds = |kind: &str| {
            find(&work["status"]["conditions"], kind)
                .is_some_and(|it| it["status"] == "True" && it["observedGeneration"] == *generation)
        };
        if !holds("Available") || !holds("Applied") {
            return at_it("work is not ready");
        }
    }
    say(false, "Completed", "completed with no errors.".to_owned())
}

/// A configuration of its own of a kind that it may not name.
fn unsupported(instance: &Value) -> Option<Config> {
    let supported = instance["status"]["supportedConfigs"].as_array();
    let supported = supported.map(Vec::as_slice).unwrap_or_default();
    let is_supported = |config: &Config| {
        supported
            .iter()
            .any(|it| it["group"] == *config.group && it["resource"] == *config.resource)
    };
    let own = instance["spec"]["configs"].as_array().into_iter().flatten();
    own.filter_map(Config::read).find(|config| !is_supported(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_instance_is_as_far_as_its_works() {
        let mut instance = json!({"spec": {}, "status": {"conditions": [{"type": "ManifestApplied", "status": "True"}],
            "configReferences": [{"group": "g", "resource": "r", "desiredConfig": {"name": "a", "specHash": "1"}}]}});
        let work = |hash: &str, observed: i64| {
            let said = |kind: &str| json!({"type": kind, "status": "True", "observedGeneration": observed});
            json!({"metadata": {"generation": 2, "annotations": {HASHES: format!("{{\"r.g//a\":\"{hash}\"}}")}},
                "status": {"conditions": [said("Applied"), said("Available")]}})
        };
        let of = |instance: &Value, works: &[Value]| {
            let said = progress(instance, works);
            (said.reason.into_owned(), said.message.into_owned())
        };
        let pair = |reason: &str, text: &str| (reason.to_owned(), text.to_owned());
        assert_eq!(of(&instance, &[]), pair("Progressing", "progressing... no addon works"));
        let other = pair("Progressing", "progressing... mca and work configs mismatch");
        assert_eq!(of(&instance, &[work("0", 2)]), other);
        let early = pair("Progressing", "progressing... work is not ready");
        assert_eq!(of(&instance, &[work("1", 1)]), early);
        let done = pair("Completed", "completed with no errors.");
        assert_eq!(of(&instance, &[work("1", 2)]), done);
        instance["spec"]["configs"] = json!([{"group": "x", "resource": "y", "name": "z"}]);
        assert_eq!(of(&instance, &[]).0, "ConfigurationUnsupported");
        assert_eq!(of(&json!({}), &[]).0, "WaitingForManifestApplied");
    }
}
