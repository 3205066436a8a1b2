//! The kinds that are built in: what is filled in of a new object, and what is wrong with one.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod cluster;
mod defaults;
mod networking;
mod shared;
mod workloads;
