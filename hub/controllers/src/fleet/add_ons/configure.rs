//! Gives a ManagedClusterAddOn what it is to be set up by.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_api::conditions::{ADD_ON_CONFIGURED, Condition};
use freewheel_hub_fleet::add_on::configs::{Config, Desired, Reference};
use freewheel_hub_store::{Snapshot, Stored};
use serde_json::{Value, json};

use super::catalogue::AddOns;
use super::progression::{Change, Instance};
use crate::engine::Error;
use crate::engine::clock::rfc3339;

impl AddOns {
    /// Gives it what it is to be set up by now.
    pub(super) async fn configure(
        &self,
        stored: &Arc<Stored>,
        instance: &Instance,
        change: &Change,
        now: &dyn Snapshot,
    ) -> Result<(), Error> {
        let mut generations = BTreeMap::new();
        let given = change.given.as_deref();
        let all = given.into_iter().flat_map(|it| it.iter().map(|one| &one.config));
        for config in all.chain(instance.references.iter().map(|it| &it.desired.config)) {
            let generation = self.configs.generation(now, config);
            generations.extend(generation.map(|it| (config.clone(), it)));
        }
        let time = rfc3339(self.client.clock.now());
        let condition = change.is_configured.map(configured);
        let change = |mut value: Value| {
            let list = &mut value["status"]["configReferences"];
            put_own(list, &instance.own);
            if let Some(given) = given {
                *list = given.references(list).into();
            }
            put_generations(list, &generations);
            if let Some(condition) = &condition {
                condition.put(&mut value["status"]["conditions"], &time);
            }
            Ok(value)
        };
        let said = self.client.modify_this(&self.instances, stored, Some("status"), change).await;
        said.map(drop).map_err(Error::api("configure a ManagedClusterAddOn"))
    }
}

fn configured(is: bool) -> Condition<'static> {
    let (reason, text) = if is {
        ("ConfigurationsConfigured", "Configurations configured")
    } else {
        ("ConfigurationsNotConfigured", "Configurations updated and not configured yet")
    };
    Condition::new(&ADD_ON_CONFIGURED, is, reason, text)
}

/// What an instance names itself is wanted as it is now.
fn put_own(list: &mut Value, own: &[Desired]) {
    for item in list.as_array_mut().into_iter().flatten() {
        let config = Reference::read(item).map(|it| it.desired.config);
        if let Some(own) = own.iter().find(|own| Some(&own.config) == config.as_ref()) {
            item["desiredConfig"] = own.to_status();
        }
    }
}

fn put_generations(list: &mut Value, generations: &BTreeMap<Config, i64>) {
    for item in list.as_array_mut().into_iter().flatten() {
        let config = Reference::read(item).map(|it| it.desired.config);
        if let Some(generation) = config.and_then(|config| generations.get(&config)) {
            item["lastObservedGeneration"] = json!(generation);
        }
    }
}
