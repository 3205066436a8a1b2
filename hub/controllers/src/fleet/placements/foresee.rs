//! What a Placement would choose if it were written as it is, and why not others.

use std::collections::BTreeMap;

use freewheel_hub_fleet::refusals::Refusal;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::{Placements, is_left_to_others};
use crate::engine::Error;
use crate::engine::client::key as key_of;

/// What a Placement would choose.
pub(in crate::fleet) struct Foreseen {
    /// Names of clusters, best first.
    pub chosen: Vec<String>,
    /// Names of the others, by why they are not chosen.
    pub refused: BTreeMap<Refusal, Vec<String>>,
    /// Why it chooses less than it asks for, if it does.
    pub problem: Option<String>,
}

impl Placements {
    /// What it would choose; `None` where others decide.
    pub(in crate::fleet) async fn foresee(
        &self,
        (namespace, name): (&str, &str),
        object: &Value,
    ) -> Result<Option<Foreseen>, Error> {
        if is_left_to_others(object) {
            return Ok(None);
        }
        let key = key_of(&self.placements, &ClusterName::root(), namespace, name);
        let stored = self.client.snapshot().get(&key);
        let observed = self.observe((namespace, name), stored.as_deref(), object)?;
        let (decided, refused) = observed.explain().await?;
        let (is_satisfied, _, why) = decided.satisfied;
        let (is_misconfigured, _, wrong) = decided.misconfigured;
        let problem = if is_misconfigured { Some(wrong) } else { (!is_satisfied).then_some(why) };
        let chosen = decided.schedule.chosen.into_iter().map(|one| one.name).collect();
        Ok(Some(Foreseen { chosen, refused, problem }))
    }

    /// The same of one that is stored; `None` where there is none.
    pub(in crate::fleet) async fn foresee_stored(
        &self,
        (namespace, name): (&str, &str),
    ) -> Result<Option<Foreseen>, Error> {
        let key = key_of(&self.placements, &ClusterName::root(), namespace, name);
        let Some(stored) = self.client.snapshot().get(&key) else { return Ok(None) };
        let object = stored.object.value().map_err(Error::api("read a Placement"))?;
        self.foresee((namespace, name), &object).await
    }
}
