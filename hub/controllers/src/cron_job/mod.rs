//! Makes the Jobs of each CronJob when their times have come.
//!
//! ```text
//! schedule  the times, in their time zone
//! decide    which time is due, whether a Job is made for it
//! history   what its Jobs have come to, which of them are too old
//! ```
//!
//! Guarantees:
//! - a time makes one Job, whoever breaks off when (`a_cron_job_runs_at_its_times`);
//! - each Job runs what its tags stand for when it begins
//!   (`all_pods_of_a_job_run_one_build_and_the_next_job_the_next_one`);
//! - its times are those of the hub's clock, also after somebody has set it (`a_clock_that_was_set_back_holds_nothing_up`).

pub mod decide;
pub mod history;
pub mod schedule;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::pins::take_off;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::control::{is_a, owner_reference};
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::index::{IndexTerm, Indexes};
use crate::pods::controller_of;
use decide::{Remark, Start, Wanted};
use history::OwnJob;
use schedule::{Schedule, ScheduleError};

/// When a Job was to start, in the CronJob's time zone.
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// The controller.
pub struct CronJobs {
    client: Client,
    indexes: Indexes,
    crons: Arc<Kind>,
    jobs: Arc<Kind>,
}

impl CronJobs {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        let (crons, jobs) = (kind("batch", "v1", "cronjobs")?, kind("batch", "v1", "jobs")?);
        Ok(Self { client, indexes, crons, jobs })
    }

    /// The Jobs that it controls.
    fn own(&self, cron: &Stored) -> Result<Vec<OwnJob>, Error> {
        let uid = &cron.object.header.uid;
        let found = self.indexes.dependents.find(IndexTerm::Owner(uid));
        let mine = found.iter().map(|dependent| &dependent.stored).filter(|job| {
            job.key.resource == *self.jobs.storage()
                && job.key.cluster == cron.key.cluster
                && job.key.namespace == cron.key.namespace
                && controller_of(job) == Some(uid)
        });
        mine.map(|job| OwnJob::read(job.clone())).collect()
    }

    fn tell(&self, cron: &Stored, remark: Remark) {
        let (recorder, name) = (&self.client.recorder, self.client.name());
        let Remark { warns, reason, message } = remark;
        if warns {
            recorder.warning(&self.crons, cron, name, reason, message);
        } else {
            recorder.normal(&self.crons, cron, name, reason, message);
        }
    }

    /// Ends a Job and its pods; that it is gone is fine.
    async fn end(&self, cron: &Stored, name: &str, uid: &Uid) -> Result<(), Error> {
        let key = key_of(&self.jobs, &cron.key.cluster, &cron.key.namespace, name);
        match self.client.delete(&self.jobs, &key, uid, Propagation::Background).await {
            Ok(_) => {
                self.tell(cron, Remark::normal("SuccessfulDelete", format!("Deleted job {name}")));
                Ok(())
            }
            Err(error) => {
                self.tell(cron, Remark::warning("FailedDelete", format!("Deleted job: {error}")));
                Err(Error::api("delete a Job of a CronJob")(error))
            }
        }
    }

    /// What is too old goes, and the others say how they are.
    async fn look_after(&self, cron: &Stored, wanted: &mut Wanted) -> Result<(), Error> {
        let mut jobs = self.own(cron)?;
        for job in history::surplus(wanted, &jobs.clone()) {
            // One that resists is tried again, and holds up nothing.
            if self.end(cron, &job.stored.key.name, &job.stored.object.header.uid).await.is_ok() {
                jobs.retain(|other| other.uid() != job.uid());
                if let Some(active) = &mut wanted.status.active {
                    active.retain(|one| one.uid.as_deref() != Some(job.uid()));
                }
            }
        }
        let (status, remarks) = history::review(wanted, &jobs);
        wanted.status = status;
        remarks.into_iter().for_each(|remark| self.tell(cron, remark));
        Ok(())
    }

    /// Makes the Job of a time that is due, if there is one; when to look again.
    async fn run(&self, cron: &Stored, wanted: &mut Wanted) -> Result<Option<Duration>, Error> {
        if cron.object.header.deleting || wanted.spec.suspend.unwrap_or_default() {
            return Ok(None);
        }
        let zone = wanted.spec.time_zone.as_deref();
        let schedule = match Schedule::read(&wanted.spec.schedule, zone) {
            Ok(schedule) => schedule,
            Err(why) => {
                self.tell(cron, unreadable(wanted, &why));
                return Ok(None);
            }
        };
        let now = self.client.clock.now();
        let due = decide::due(wanted, &schedule, now);
        if let Some(why) = &due.odd {
            let text = format!("invalid schedule: {} : {why}", wanted.spec.schedule);
            self.tell(cron, Remark::warning("InvalidSchedule", text));
            return Ok(None);
        }
        if due.is_too_many() {
            let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.tell(cron, Remark::warning("TooManyMissedTimes", text.to_owned()));
        }
        let start = due.time.map(|time| (time, decide::start(wanted, time, now)));
        match start {
            None => {}
            Some((_, Start::No(remark))) => {
                remark.into_iter().for_each(|remark| self.tell(cron, remark));
            }
            Some((time, Start::Job { replace })) => {
                for (name, uid) in replace {
                    self.end(cron, &name, &Uid::from(uid.as_str())).await?;
                    if let Some(active) = &mut wanted.status.active {
                        active.retain(|one| one.uid.as_ref() != Some(&uid));
                    }
                }
                self.make(cron, wanted, time).await?;
            }
        }
        Ok(decide::look_again(wanted, &schedule, now))
    }

    /// Makes the Job of a time, or finds the one that an earlier run has made and not told of.
    async fn make(&self, cron: &Stored, wanted: &mut Wanted, time: Timestamp) -> Result<(), Error> {
        let name = wanted.job_name(time);
        let (cluster, namespace) = (&cron.key.cluster, &*cron.key.namespace);
        let value = cron.object.value().map_err(Error::api("read a CronJob"))?;
        let owner = owner_reference(&self.crons, cron);
        let job = job(&value, &name, &owner, &scheduled_at(wanted, time));
        let job = match self.client.create(&self.jobs, cluster, namespace, &job).await {
            Ok(made) => {
                let text = format!("Created job {name}");
                self.tell(cron, Remark::normal("SuccessfulCreate", text));
                made
            }
            Err(error) if error.reason == "AlreadyExists" => {
                let key = key_of(&self.jobs, cluster, namespace, &name);
                let found = self.client.snapshot().get(&key);
                let uid = &cron.object.header.uid;
                match found.filter(|job| controller_of(job) == Some(uid)) {
                    Some(job) if !wanted.runs(&job.object.header.uid) => job,
                    _ => return Ok(()),
                }
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let text = format!("Error creating job: {error}");
                    self.tell(cron, Remark::warning("FailedCreate", text));
                }
                return Err(Error::api("create a Job of a CronJob")(error));
            }
        };
        wanted.status.active.get_or_insert_default().push(self.reference(&job));
        wanted.status.last_schedule_time = Some(Time(time));
        Ok(())
    }

    fn reference(&self, job: &Stored) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.jobs.api_version().to_owned()),
            kind: Some(self.jobs.kind().to_owned()),
            name: Some(job.key.name.to_string()),
            namespace: Some(job.key.namespace.to_string()),
            uid: Some(job.object.header.uid.to_string()),
            resource_version: Some(job.revision.to_string()),
            field_path: None,
        }
    }

    async fn write_status(&self, cron: &Stored, wanted: &Wanted) -> Result<(), ApiError> {
        let status = json!(wanted.status);
        let change = |mut value: Value| {
            value["status"] = status.clone();
            Ok(value)
        };
        self.client.modify_at(&self.crons, cron, Some("status"), change).await.map(|_| ())
    }
}

fn unreadable(wanted: &Wanted, why: &ScheduleError) -> Remark {
    match why {
        ScheduleError::UnknownTimeZone(zone) => {
            Remark::warning("UnknownTimeZone", format!("invalid timeZone: {zone:?}: {why}"))
        }
        ScheduleError::Unparseable(why) => {
            let text = format!("unparseable schedule: {:?} : {why}", wanted.spec.schedule);
            Remark::warning("UnparseableSchedule", text)
        }
    }
}

fn scheduled_at(wanted: &Wanted, time: Timestamp) -> String {
    let name = wanted.spec.time_zone.as_deref().unwrap_or("UTC");
    let rules = freewheel_hub_api::time_zone::rules(name);
    let zone = rules.and_then(|rules| TimeZone::tzif(name, rules).ok()).unwrap_or(TimeZone::UTC);
    let local = time.to_zoned(zone);
    let form = if local.offset().is_zero() { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    local.strftime(form).to_string()
}

/// The Job that a CronJob describes.
fn job(cron: &Value, name: &str, owner: &Value, scheduled_at: &str) -> Value {
    let template = &cron["spec"]["jobTemplate"];
    let meta = &template["metadata"];
    let mut notes = meta["annotations"].as_object().cloned().unwrap_or_default();
    notes.insert(SCHEDULED_AT.to_owned(), scheduled_at.into());
    let mut job = json!({
        "metadata": {"name": name, "labels": meta["labels"], "annotations": notes,
            "ownerReferences": [owner]},
        "spec": template["spec"],
    });
    // Each Job looks its images up itself, whatever somebody has written into the template.
    take_off(&mut job);
    job
}

#[async_trait]
impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.crons), everywhere(&self.jobs)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.crons.storage() {
            return vec![key.clone()];
        }
        let sides = event.now.iter().chain(event.before.iter());
        let owners = sides.flat_map(|job| job.object.header.owners.iter().filter(|o| o.controller));
        let crons = owners.filter(|owner| is_a(owner, &self.crons));
        let mut keys: Vec<Key> = crons
            .map(|owner| key_of(&self.crons, &key.cluster, &key.namespace, &owner.name))
            .collect();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(cron) = self.client.snapshot().get(key) else { return Ok(None) };
        let mut wanted = Wanted::read(&cron)?;
        let before = wanted.status.clone();
        self.look_after(&cron, &mut wanted).await?;
        let again = self.run(&cron, &mut wanted).await;
        if wanted.status != before {
            let written = self.write_status(&cron, &wanted).await;
            written.map_err(Error::api("write the status of a CronJob"))?;
        }
        again
    }
}
