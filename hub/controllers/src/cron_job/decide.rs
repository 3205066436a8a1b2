//! What a CronJob does at a moment: pure.
//!
//! ```text
//! due    the time that has come last, and whether too many have
//! start  whether a Job is made for it
//! ```
//!
//! Guarantees:
//! - one time makes one Job: its name is the time's (`a_time_makes_one_job`);
//! - a clock that was set back by more than the schedule's next time holds nothing up until it is there again
//!   (`a_clock_that_was_set_back_holds_nothing_up`).

use std::time::Duration;

use freewheel_hub_store::Stored;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::schedule::Schedule;
use crate::engine::Error;
use crate::engine::client::typed;

/// After so many missed times somebody should look at the clock.
const MISSED_MAX: i64 = 100;
/// Looking a little later than the time that is due, clocks that differ by less agree that it has come.
const CLOCK_PADDING: SignedDuration = SignedDuration::from_millis(100);
/// Longest time until it looks again: whoever sets the clock is not waited for longer.
pub const LOOK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// A CronJob as read.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// metadata.name
    pub name: String,
    /// metadata.creationTimestamp
    pub created: Timestamp,
    /// spec
    pub spec: CronJobSpec,
    /// status
    pub status: CronJobStatus,
}

impl Wanted {
    /// Reads a stored CronJob.
    pub fn read(stored: &Stored) -> Result<Self, Error> {
        let cron: CronJob = typed(stored)?;
        let created = cron.metadata.creation_timestamp;
        Ok(Self {
            name: stored.key.name.to_string(),
            created: created.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            spec: cron.spec,
            status: cron.status.unwrap_or_default(),
        })
    }

    /// The name of the Job of this time.
    #[must_use]
    pub fn job_name(&self, time: Timestamp) -> String {
        format!("{}-{}", self.name, time.as_second().div_euclid(60))
    }

    /// Whether the Job with this UID is among those that run.
    #[must_use]
    pub fn runs(&self, uid: &str) -> bool {
        let active = self.status.active.as_deref().unwrap_or_default();
        active.iter().any(|job| job.uid.as_deref() == Some(uid))
    }
}

/// Something to tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Somebody should look at it.
    pub warns: bool,
    /// In one word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Remark {
    /// That something went as it should.
    #[must_use]
    pub fn normal(reason: &'static str, message: String) -> Self {
        Self { warns: false, reason, message }
    }

    /// Something to look at.
    #[must_use]
    pub fn warning(reason: &'static str, message: String) -> Self {
        Self { warns: true, reason, message }
    }
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The last time that has come and was not acted on.
    pub time: Option<Timestamp>,
    /// About how many have come since it acted last. Where they are not as far apart as the first two of them, the last
    /// one may not be found, as with Kubernetes.
    pub passed: i64,
    /// There is no telling what is due; why.
    pub odd: Option<String>,
}

impl Due {
    /// So many have come that there may be something wrong.
    #[must_use]
    pub fn is_too_many(&self) -> bool {
        MISSED_MAX < self.passed
    }
}

/// What has come since it acted last; of what is older than its starting deadline nobody asks.
#[must_use]
pub fn due(wanted: &Wanted, schedule: &Schedule, now: Timestamp) -> Due {
    let mut since = since(wanted, schedule, now);
    if let Some(deadline) = wanted.spec.starting_deadline_seconds {
        let earliest = now.checked_sub(SignedDuration::from_secs(deadline.max(0)));
        since = since.max(earliest.unwrap_or(Timestamp::MIN));
    }
    missed(since, schedule, now)
}

/// When it acted last, else when it was made. Who says that that is to come has had another clock, and what has come
/// since it was looked at last is due.
fn since(wanted: &Wanted, schedule: &Schedule, now: Timestamp) -> Timestamp {
    let last = wanted.status.last_schedule_time.as_ref().map_or(wanted.created, |time| time.0);
    let lately = now.checked_sub(2 * LOOK_AGAIN_MAX).unwrap_or(now);
    if schedule.next(now).is_some_and(|next| next < last) { lately } else { last }
}

fn missed(since: Timestamp, schedule: &Schedule, now: Timestamp) -> Due {
    // That of a day that never comes, too.
    let odd = || {
        let text = "time difference between two schedules is less than 1 second";
        Due { odd: Some(text.to_owned()), ..Due::default() }
    };
    let Some(first) = schedule.next(since) else { return odd() };
    if now < first {
        return Due::default();
    }
    let Some(second) = schedule.next(first).filter(|second| *second <= now) else {
        return Due { time: Some(first), passed: 1, odd: None };
    };
    let apart = second.duration_since(first).as_secs();
    if apart < 1 {
        return odd();
    }
    let count = now.duration_since(first).as_secs() / apart + 1;
    // Roughly the last but one, as if all were as far apart as the first two; those after it are looked at one by one.
    let near = SignedDuration::from_secs(apart.saturating_mul(count - 2));
    let mut time = schedule.next(first.checked_add(near).unwrap_or(first));
    let mut last = None;
    while let Some(found) = time.filter(|time| *time <= now) {
        last = Some(found);
        time = schedule.next(found);
    }
    Due { time: last, passed: count, odd: None }
}

/// How long until the next time.
#[must_use]
pub fn look_again(wanted: &Wanted, schedule: &Schedule, now: Timestamp) -> Option<Duration> {
    let since = since(wanted, schedule, now);
    let passed = missed(since, schedule, now);
    let last = match passed {
        Due { time: Some(time), .. } => time,
        Due { passed: 0, odd: None, .. } => since,
        Due { .. } => now,
    };
    let next = schedule.next(last)?.max(now).checked_add(CLOCK_PADDING).ok()?;
    let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
    Some(wait.min(LOOK_AGAIN_MAX))
}

/// What becomes of a time that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing; what is to be told of it.
    No(Option<Remark>),
    /// A Job, after these have gone: names and UIDs.
    Job {
        /// Jobs that run and make room.
        replace: Vec<(String, String)>,
    },
}

/// Whether a Job is made for this time.
#[must_use]
pub fn start(wanted: &Wanted, time: Timestamp, now: Timestamp) -> Start {
    let deadline = wanted.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let end = deadline.and_then(|deadline| time.checked_add(deadline).ok());
    if end.is_some_and(|end| end < now) {
        let text = format!("Missed scheduled time to start a job: {}", rfc1123(time));
        return Start::No(Some(Remark::warning("MissSchedule", text)));
    }
    let active = wanted.status.active.as_deref().unwrap_or_default();
    let name = wanted.job_name(time);
    let done = wanted.status.last_schedule_time == Some(Time(time));
    if done || active.iter().any(|job| job.name.as_ref() == Some(&name)) {
        return Start::No(None);
    }
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    match wanted.spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
            Start::No(Some(Remark::normal("JobAlreadyActive", text.to_owned())))
        }
        Some("Replace") => {
            let replace = active.iter().map(|job| (text(&job.name), text(&job.uid))).collect();
            Start::Job { replace }
        }
        _ => Start::Job { replace: Vec::new() },
    }
}

fn rfc1123(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use freewheel_hub_schema::object::Resource;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::stored;

    pub(in crate::cron_job) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Made at midnight, hourly.
    pub(in crate::cron_job) fn cron(spec: &Value, status: &Value) -> Wanted {
        let mut all = json!({"schedule": "0 * * * *", "jobTemplate": {}});
        for (field, value) in spec.as_object().unwrap() {
            all[field] = value.clone();
        }
        let meta = json!({"name": "hourly", "creationTimestamp": "2026-01-01T00:00:00Z"});
        let value = json!({"metadata": meta, "spec": all, "status": status});
        Wanted::read(&stored(&Resource::new("batch", "cronjobs"), "hourly", value)).unwrap()
    }

    #[track_caller]
    fn finds(wanted: &Wanted, now: &str, time: Option<&str>, too_many: bool) {
        let schedule = Schedule::read(&wanted.spec.schedule, None).unwrap();
        let found = due(wanted, &schedule, at(now));
        assert_eq!((found.time, found.is_too_many()), (time.map(at), too_many), "at {now}");
        assert_eq!(found.odd, None);
    }

    #[test]
    fn the_last_missed_time_is_due() {
        let new = cron(&json!({}), &json!({}));
        finds(&new, "2026-01-01T00:59:59Z", None, false);
        finds(&new, "2026-01-01T01:00:00Z", Some("2026-01-01T01:00:00Z"), false);
        finds(&new, "2026-01-01T05:30:00Z", Some("2026-01-01T05:00:00Z"), false);
        finds(&new, "2026-01-06T05:30:00Z", Some("2026-01-06T05:00:00Z"), true);
        finds(&new, "2036-01-06T05:30:00Z", Some("2036-01-06T05:00:00Z"), true);
        let ran = cron(&json!({}), &json!({"lastScheduleTime": "2026-01-01T05:00:00Z"}));
        finds(&ran, "2026-01-01T05:30:00Z", None, false);
        let strict = cron(&json!({"startingDeadlineSeconds": 7200}), &json!({}));
        finds(&strict, "2026-01-06T05:30:00Z", Some("2026-01-06T05:00:00Z"), false);
        let uneven = cron(&json!({"schedule": "30 6-16/4 * * 1-5"}), &json!({}));
        finds(&uneven, "2026-01-02T08:00:00Z", Some("2026-01-02T06:30:00Z"), false);
        finds(&uneven, "2026-01-12T01:00:00Z", None, false);
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let ahead = cron(&json!({}), &json!({"lastScheduleTime": "2027-06-01T05:00:00Z"}));
        finds(&ahead, "2026-01-01T05:30:00Z", None, false);
        finds(&ahead, "2026-01-01T06:00:30Z", Some("2026-01-01T06:00:00Z"), false);
        // By less than that, what was acted on is not acted on again.
        let nearly = cron(&json!({}), &json!({"lastScheduleTime": "2026-01-01T06:00:00Z"}));
        finds(&nearly, "2026-01-01T05:30:00Z", None, false);
        finds(&nearly, "2026-01-01T06:30:00Z", None, false);
    }

    #[test]
    fn it_is_looked_at_when_the_next_time_has_come() {
        let wait = |cron: &Wanted, now| {
            let schedule = Schedule::read(&cron.spec.schedule, None).unwrap();
            look_again(cron, &schedule, at(now))
        };
        let new = cron(&json!({}), &json!({}));
        assert_eq!(wait(&new, "2026-01-01T05:59:30Z"), Some(Duration::from_millis(30_100)));
        assert_eq!(wait(&new, "2026-01-01T05:30:00Z"), Some(LOOK_AGAIN_MAX));
        let every = cron(&json!({"schedule": "@every 5m"}), &json!({}));
        assert_eq!(wait(&every, "2026-01-01T00:04:40Z"), Some(Duration::from_millis(20_100)));
        let uneven = cron(&json!({"schedule": "30 6-16/4 * * 1-5"}), &json!({}));
        let monday = wait(&uneven, "2026-01-12T06:29:50Z");
        assert_eq!(monday, Some(Duration::from_millis(10_100)), "what it missed is not found");
        let never = cron(&json!({"schedule": "0 0 31 2 *"}), &json!({}));
        assert_eq!(wait(&never, "2026-01-01T00:04:40Z"), None);
        let schedule = Schedule::read(&never.spec.schedule, None).unwrap();
        assert!(due(&never, &schedule, at("2026-01-01T00:04:40Z")).odd.is_some());
    }

    #[test]
    fn a_time_makes_one_job() {
        let time = at("2026-01-01T05:00:00Z");
        let now = at("2026-01-01T05:00:01Z");
        let plain = cron(&json!({}), &json!({}));
        assert_eq!(plain.job_name(time), "hourly-29454060");
        assert_eq!(start(&plain, time, now), Start::Job { replace: Vec::new() });
        let done = cron(&json!({}), &json!({"lastScheduleTime": "2026-01-01T05:00:00Z"}));
        assert_eq!(start(&done, time, now), Start::No(None));
        let runs = json!({"active": [{"name": "hourly-29454060", "uid": "u"}]});
        assert_eq!(start(&cron(&json!({}), &runs), time, now), Start::No(None));
        let late = cron(&json!({"startingDeadlineSeconds": 0}), &json!({}));
        let Start::No(Some(remark)) = start(&late, time, now) else { panic!("it starts") };
        let text = "Missed scheduled time to start a job: Thu, 01 Jan 2026 05:00:00 UTC";
        assert_eq!(remark, Remark::warning("MissSchedule", text.into()));
    }

    #[test]
    fn who_runs_still_is_joined_waited_for_or_replaced() {
        let (time, now) = (at("2026-01-01T05:00:00Z"), at("2026-01-01T05:00:01Z"));
        let runs = json!({"active": [{"name": "hourly-1", "uid": "u"}]});
        let by =
            |policy: &str| start(&cron(&json!({"concurrencyPolicy": policy}), &runs), time, now);
        assert_eq!(by("Allow"), Start::Job { replace: Vec::new() });
        assert_eq!(by("Replace"), Start::Job { replace: vec![("hourly-1".into(), "u".into())] });
        let Start::No(Some(remark)) = by("Forbid") else { panic!("it starts") };
        assert_eq!(remark.reason, "JobAlreadyActive");
    }
}
