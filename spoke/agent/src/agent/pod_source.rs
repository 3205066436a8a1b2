//! What a source of pods says, and what is meant by it.
//!
//! ```text
//! plan_source ─PodUpdate─▶ updates ─▶ pods/: decide, status
//!      ▲──── is_wanted? ──────┘
//! ```
//!
//! Nothing of a pod's life asks for the plan: it asks whether its source still wants it. One more source (files, what a
//! workload makes) is a variant of [`PodSource`] and a file beside `plan_source`: it hands its updates to `updates`,
//! which asks it what it wants. What it does not know yet it has to want: what nobody wants is taken away at the start.

use freewheel_link::names::ClusterName;
use freewheel_link::plan::PodV1;

use crate::ledger::{PodSource, PodStateV1};
use crate::pods::Pod;

/// Which pod, and whose.
#[derive(Clone, Copy, Debug)]
pub(super) struct PodRef<'a> {
    pub(super) source: PodSource,
    pub(super) realm: &'a ClusterName,
    pub(super) uid: &'a str,
}

impl<'a> From<&'a Pod> for PodRef<'a> {
    fn from(pod: &'a Pod) -> Self {
        Self { source: pod.source, realm: &pod.realm, uid: &pod.spec.uid }
    }
}

impl<'a> From<&'a PodStateV1> for PodRef<'a> {
    fn from(state: &'a PodStateV1) -> Self {
        Self { source: state.source, realm: &state.realm, uid: &state.uid }
    }
}

/// What a source wants of a pod.
#[derive(Debug)]
pub(super) enum PodUpdate {
    /// It is to be like this. What this agent lacks for it, as (reason, message), keeps it from starting.
    Set(Box<PodV1>, Option<(String, String)>),
    /// It is deleted, with this many seconds to end in; nothing else can be read.
    Delete(u32),
    /// It stays; what it is to be cannot be read.
    Unreadable,
    /// It is not wanted any more.
    Remove,
}
