//! What a set says of its works.

use std::sync::Arc;

use freewheel_hub_api::conditions::{
    Condition, SET_PLACEMENT_VERIFIED, SET_ROLLED_OUT, SET_WORKS_APPLIED,
};
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

use super::WorkSets;
use super::phase::Told;
use super::summary::{RolledOut, Summary};
use crate::engine::Error;
use crate::engine::clock::rfc3339;

impl WorkSets {
    /// What is said of the rollout, and of a placement that is not there, without anything that is counted.
    pub(super) async fn write_told(
        &self,
        set: &Arc<Stored>,
        told: &Told,
        is_missing: bool,
    ) -> Result<(), Error> {
        let missing =
            Condition::new(&SET_PLACEMENT_VERIFIED, false, "PlacementDecisionNotFound", "");
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            let mut conditions = value.pointer("/status/conditions").cloned().unwrap_or_default();
            if is_missing {
                missing.put(&mut conditions, &now);
            }
            told.put(&mut conditions, &now);
            if !conditions.is_null() {
                value["status"]["conditions"] = conditions;
            }
            Ok(value)
        };
        let said = self.client.modify_this(&self.sets, set, Some("status"), change).await;
        said.map(drop).map_err(Error::api("write the status of a ManifestWorkReplicaSet"))
    }

    pub(super) async fn write_status(
        &self,
        set: &Arc<Stored>,
        rolled_out: &[RolledOut],
        told: &Told,
    ) -> Result<(), Error> {
        let all = rolled_out.iter().fold(Summary::default(), |sum, one| sum.plus(&one.summary));
        let wrong = rolled_out.iter().find_map(|one| one.wrong.as_ref());
        let verified = match wrong {
            Some(_) => "NotAsExpected",
            None if all.desired == 0 => "PlacementDecisionEmpty",
            None => "AsExpected",
        };
        let (is_verified, why) =
            (verified == "AsExpected", wrong.map(ToString::to_string).unwrap_or_default());
        let is_done = all.succeeded == all.desired;
        let is_well = all.available == all.total && all.progressing == 0 && all.degraded == 0;
        let works = match (is_well, 0 < all.progressing && all.degraded == 0) {
            (true, _) => "AsExpected",
            (false, true) => "Processing",
            (false, false) => "NotAsExpected",
        };
        let rolled = if is_done { "Complete" } else { "Progressing" };
        let conditions = [
            Condition::new(&SET_PLACEMENT_VERIFIED, is_verified, verified, &*why),
            Condition::new(&SET_ROLLED_OUT, is_done, rolled, ""),
            Condition::new(&SET_WORKS_APPLIED, is_well, works, ""),
        ];
        let of_placement = |one: &Summary| {
            json!({
                "name": one.placement, "summary": one.to_status(),
                "availableDecisionGroups": format!("{} ({} / {} clusters applied)", one.groups, one.total, one.desired),
            })
        };
        let placements: Vec<Value> =
            rolled_out.iter().map(|one| of_placement(&one.summary)).collect();
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            let status = &mut value["status"];
            status["summary"] = all.to_status();
            status["placementSummary"] = json!(placements);
            for condition in &conditions {
                condition.put(&mut status["conditions"], &now);
            }
            told.put(&mut status["conditions"], &now);
            Ok(value)
        };
        let said = self.client.modify_this(&self.sets, set, Some("status"), change).await;
        said.map(drop).map_err(Error::api("write the status of a ManifestWorkReplicaSet"))
    }
}
