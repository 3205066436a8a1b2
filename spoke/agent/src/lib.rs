//! What the spoke does with its plan: pure decisions around ports that others implement.
//!
//! ```text
//! ports      traits: containers, pod network, modules, disk, clock, uplink
//! ledger     what survives `kill -9`: plan records, pod states, acked generation, boot epoch
//! admission  what a spoke takes on at all
//! pods/      one pod's life: decide() from (record, observed) to actions, status() to words
//! limits     what a pod may have
//! addresses  pod IPs out of leased ranges
//! env, configs, volumes, files, host_dir   what a container sees
//! eviction   when the device is short, and which pod goes
//! remover    takes trees away beside the agent
//! usage      what of the disk a directory takes
//! outbox     reports until the hub has them      event_quota  how many events a pod may tell
//! uplink/    the session with the hub: dial, greet, report, fetch
//! agent      the loop: one input after another, no locks
//! fake       ports for simulations (feature `fake`)
//! ```

pub mod addresses;
pub mod admission;
pub mod agent;
mod configs;
pub mod env;
mod event_quota;
pub mod eviction;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod files;
pub mod host_dir;
pub mod ledger;
pub mod limits;
pub mod outbox;
pub mod pods;
pub mod ports;
pub mod remover;
pub mod uplink;
pub mod usage;
pub mod volumes;
