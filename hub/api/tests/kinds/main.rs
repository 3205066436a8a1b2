//! The kinds that are built in: what is filled in of a new object, and what is wrong with one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]
#![expect(
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    reason = "tables of objects, which are written where they are given"
)]

mod cluster;
mod defaults;
mod fleet;
mod networking;
mod shared;
mod views;
mod workloads;
