//! Deletes Jobs that are over when their `ttlSecondsAfterFinished` has passed, with their pods.
//!
//! Guarantees:
//! - a Job stays until then, however the time is changed meanwhile (`a_job_goes_when_its_time_is_over`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Expect, Scope, Snapshot};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use tracing::info;

use crate::engine::client::{everywhere, kind, typed};
use crate::engine::{Client, Controller, Error};

/// The controller.
pub struct TtlAfterFinished {
    client: Client,
    jobs: Arc<Kind>,
}

impl TtlAfterFinished {
    /// Deletes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self { client, jobs: kind("batch", "v1", "jobs")? })
    }
}

/// When a Job is to go; `None` when it stays.
fn expires(job: &Job) -> Option<Timestamp> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let over = conditions
        .iter()
        .find(|one| ["Complete", "Failed"].contains(&&*one.type_) && one.status == "True")?;
    let since = over.last_transition_time.as_ref()?.0;
    since.checked_add(SignedDuration::from_secs(ttl.into())).ok()
}

#[async_trait]
impl Controller for TtlAfterFinished {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.jobs)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        event.now.iter().map(|stored| stored.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else { return Ok(None) };
        if stored.object.header.deleting {
            return Ok(None);
        }
        let Some(end) = expires(&typed(&stored)?) else { return Ok(None) };
        let left = Duration::try_from(end.duration_since(self.client.clock.now()));
        if let Ok(left) = left
            && !left.is_zero()
        {
            return Ok(Some(left));
        }
        info!(cluster = %key.cluster, namespace = %key.namespace, name = %key.name, "deletes a Job that is over");
        // As it was read: somebody may have given it more time.
        self.client
            .while_holds(Expect::Revision(key.clone(), stored.revision))
            .delete(&self.jobs, key, &stored.object.header.uid, Propagation::Foreground)
            .await
            .map_err(Error::api("delete a Job that is over"))?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "objects are written where they are used")]
    fn check(ttl: Value, conditions: Value, expected: Option<i64>) {
        let job = json!({"spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
            "status": {"conditions": conditions}});
        let found = expires(&serde_json::from_value(job).unwrap());
        assert_eq!(found.map(Timestamp::as_second), expected);
    }

    #[test]
    fn a_job_goes_when_its_time_is_over() {
        let said = |kind: &str, status: &str| {
            json!([{"type": "Suspended", "status": "False"},
                {"type": kind, "status": status, "lastTransitionTime": "1970-01-01T00:01:00Z"}])
        };
        check(json!(30), said("Complete", "True"), Some(90));
        check(json!(0), said("Failed", "True"), Some(60));
        check(json!(30), said("FailureTarget", "True"), None);
        check(json!(30), said("Complete", "False"), None);
        check(Value::Null, said("Complete", "True"), None);
    }
}
