//! The Jobs of a CronJob: what they have come to, and which of them are too old: pure.
//!
//! ```text
//! surplus  Jobs that are over, beyond the limits of its history
//! review   its status after a look at its Jobs, and what is to be told
//! ```

use std::sync::Arc;

use freewheel_hub_store::Stored;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJobStatus, Job};

use super::decide::{Remark, Wanted};
use crate::engine::Error;
use crate::engine::client::typed;
use crate::job::observe::{holds, is_finished};

/// One of its Jobs.
#[derive(Clone, Debug)]
pub struct OwnJob {
    /// The stored object.
    pub stored: Arc<Stored>,
    /// Its typed form.
    pub job: Job,
}

impl OwnJob {
    /// Reads a stored Job.
    pub fn read(stored: Arc<Stored>) -> Result<Self, Error> {
        Ok(Self { job: typed(&stored)?, stored })
    }

    fn name(&self) -> &str {
        &self.stored.key.name
    }

    /// Its UID.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.stored.object.header.uid.as_str()
    }

    fn has_condition(&self, condition: &str) -> bool {
        self.job.status.as_ref().is_some_and(|status| holds(status, condition))
    }

    fn is_finished(&self) -> bool {
        self.job.status.as_ref().is_some_and(is_finished)
    }

    fn started(&self) -> Option<Timestamp> {
        self.job.status.as_ref()?.start_time.as_ref().map(|time| time.0)
    }
}

/// The oldest of the Jobs that are over, beyond as many as are to be kept of each outcome.
#[must_use]
pub fn surplus<'a>(wanted: &Wanted, jobs: &'a [OwnJob]) -> Vec<&'a OwnJob> {
    let spec = &wanted.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    let mut going = Vec::new();
    for (outcome, limit) in limits {
        let Some(limit) = limit else { continue };
        let mut over: Vec<&OwnJob> = jobs.iter().filter(|job| job.has_condition(outcome)).collect();
        over.sort_by_key(|job| (job.started().is_none(), job.started(), job.name().to_owned()));
        let excess = over.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        over.truncate(excess);
        going.extend(over);
    }
    going
}

/// What its Jobs have come to since.
#[must_use]
pub fn review(wanted: &Wanted, jobs: &[OwnJob]) -> (CronJobStatus, Vec<Remark>) {
    let mut status = wanted.status.clone();
    let mut remarks = Vec::new();
    let mut active = status.active.take().unwrap_or_default();
    for job in jobs {
        let known = active.iter().any(|one| one.uid.as_deref() == Some(job.uid()));
        if !job.is_finished() {
            if !known {
                let text = format!(
                    "Saw a job that the controller did not create or forgot: {}",
                    job.name()
                );
                remarks.push(Remark::warning("UnexpectedJob", text));
            }
            continue;
        }
        if known {
            active.retain(|one| one.uid.as_deref() != Some(job.uid()));
            let how = if job.has_condition("Complete") { "Complete" } else { "Failed" };
            let text = format!("Saw completed job: {}, condition: {how}", job.name());
            remarks.push(Remark::normal("SawCompletedJob", text));
        }
        let end = job.job.status.as_ref().and_then(|status| status.completion_time.as_ref());
        if let Some(end) = end.filter(|_| job.has_condition("Complete")) {
            let last = status.last_successful_time.get_or_insert(end.clone());
            last.0 = last.0.max(end.0);
        }
    }
    active.retain(|one| {
        let there = jobs.iter().any(|job| one.uid.as_deref() == Some(job.uid()));
        if !there {
            let name = one.name.as_deref().unwrap_or_default();
            let text = format!("Active job went missing: {name}");
            remarks.push(Remark::normal("MissingJob", text));
        }
        there
    });
    status.active = (!active.is_empty()).then_some(active);
    (status, remarks)
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;
    use crate::cron_job::decide::tests::{at, cron};
    use crate::testing::stored;

    fn job(name: &str, conditions: &Value, started: &str) -> OwnJob {
        let value = json!({"metadata": {"name": name, "uid": name}, "spec": {"template": {}},
            "status": {"conditions": conditions, "startTime": started, "completionTime": started}});
        OwnJob::read(stored(&Resource::new("batch", "jobs"), name, value)).unwrap()
    }

    fn said(kind: &str) -> Value {
        json!([{"type": kind, "status": "True"}])
    }

    #[test]
    fn its_status_follows_its_jobs() {
        let status = json!({"active": [{"name": "a", "uid": "a"}, {"name": "gone", "uid": "gone"},
            {"name": "c", "uid": "c"}]});
        let jobs = [
            job("a", &said("Complete"), "2026-01-01T01:00:00Z"),
            job("b", &json!([]), "2026-01-01T02:00:00Z"),
            job("c", &json!([]), "2026-01-01T02:00:00Z"),
            job("d", &said("Complete"), "2026-01-01T03:00:00Z"),
            job("e", &said("Failed"), "2026-01-01T04:00:00Z"),
        ];
        let (status, remarks) = review(&cron(&json!({}), &status), &jobs);
        let active: Vec<_> = status.active.iter().flatten().map(|job| job.name.clone()).collect();
        assert_eq!(active, [Some("c".to_owned())]);
        assert_eq!(status.last_successful_time, Some(Time(at("2026-01-01T03:00:00Z"))));
        let reasons: Vec<_> = remarks.iter().map(|remark| remark.reason).collect();
        assert_eq!(reasons, ["SawCompletedJob", "UnexpectedJob", "MissingJob"]);
        assert_eq!(remarks[0].message, "Saw completed job: a, condition: Complete");
    }

    #[test]
    fn the_oldest_go_first() {
        let jobs = [
            job("c", &said("Complete"), "2026-01-01T03:00:00Z"),
            job("a", &said("Complete"), "2026-01-01T01:00:00Z"),
            job("b", &said("Complete"), "2026-01-01T02:00:00Z"),
            job("x", &said("Failed"), "2026-01-01T02:00:00Z"),
            job("r", &json!([]), "2026-01-01T00:00:00Z"),
        ];
        let limits = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
        let cron = cron(&limits, &json!({}));
        let going: Vec<_> = surplus(&cron, &jobs).iter().map(|job| job.name()).collect();
        assert_eq!(going, ["a", "b", "x"]);
    }
}
