//! Kinds of batch: pods that come to an end.
//!
//! ```text
//! job        pods until enough of them have succeeded
//! job_spec   what Job and CronJob share: defaults, rules
//! job_status what a Job's status may say
//! cron_job   Jobs at certain times
//! ```

pub(super) mod cron_job;
pub(super) mod job;
mod job_spec;
mod job_status;
