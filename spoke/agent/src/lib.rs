//! What the spoke does with its plan: pure decisions around ports that others implement.
//!
//! ```text
//! ports     traits: containers, pod network, modules, disk, clock, uplink
//! ledger    what survives `kill -9`: plan records, pod states, identity, acked generation
//! pods/     one pod's life: decide() from (record, observed) to actions
//! env, volumes   what a container sees
//! agent     the loop: one input after another, no locks
//! ```

pub mod ports;
