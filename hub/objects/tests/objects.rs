//! What whoever writes objects may rely on: births, changes, ends, and what Services hold.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod answers;
mod objects {
    pub(crate) mod actions;
    pub(crate) mod admission;
    pub(crate) mod applied;
    pub(crate) mod bindings;
    pub(crate) mod births;
    pub(crate) mod changes;
    pub(crate) mod crowd;
    pub(crate) mod ends;
    pub(crate) mod kit;
    pub(crate) mod labelled;
    pub(crate) mod owners;
    pub(crate) mod pod_security;
    pub(crate) mod quotas;
    pub(crate) mod services;
    pub(crate) mod together;
    pub(crate) mod written;
}
