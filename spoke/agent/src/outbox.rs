//! What the hub has yet to be told: the newest state of each pod, the pods that are gone, and some events.
//!
//! Guarantees: reports carry rising stamps; no two events have one time, so that they sort as they happened; what was not taken is said again after a reconnect; what waits
//! is bounded by the number of pods and [`MAX_EVENTS`], however long the hub is away.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use freewheel_link::names::ClusterName;
use freewheel_link::report::{EventV1, NodeStatusV1, PodStatusV1, Report, ReportStamp, UnixMillis};

use crate::ports::Uplink;

/// Events that wait for a hub; the oldest go first.
pub const MAX_EVENTS: usize = 256;
/// Milliseconds by which events of one moment are told apart at most.
const AHEAD: UnixMillis = 10_000;
/// Farewells that wait for a hub. Each is one pod that was deleted while it was away, which is rare: only
/// a hub deletes pods.
const MAX_GONE: usize = 4096;

/// Reports on their way.
pub struct Outbox {
    uplink: Arc<dyn Uplink>,
    stamp: ReportStamp,
    connected: bool,
    node: Option<NodeStatusV1>,
    pods: BTreeMap<String, PodStatusV1>,
    gone: BTreeMap<String, (u64, ClusterName)>,
    events: VecDeque<(u64, EventV1)>,
    last_event: UnixMillis,
}

impl Outbox {
    /// An empty one for this start of the agent.
    #[must_use]
    pub fn new(uplink: Arc<dyn Uplink>, boot_epoch: u64) -> Self {
        Self {
            uplink,
            stamp: ReportStamp { boot_epoch, sequence: 0 },
            connected: false,
            node: None,
            pods: BTreeMap::new(),
            gone: BTreeMap::new(),
            events: VecDeque::new(),
            last_event: 0,
        }
    }

    fn send(&mut self, report: Report) -> u64 {
        self.stamp.sequence += 1;
        if self.connected {
            self.uplink.report(self.stamp, report);
        }
        self.stamp.sequence
    }

    /// The state of the device.
    pub fn node(&mut self, status: NodeStatusV1) {
        if self.node.as_ref() != Some(&status) {
            self.node = Some(status.clone());
            self.uplink.device(&status);
            self.send(Report::Node(status));
        }
    }

    /// The state of a pod.
    pub fn pod(&mut self, status: PodStatusV1) {
        self.pods.insert(status.uid.clone(), status.clone());
        self.send(Report::Pod(status));
    }

    /// A pod is gone.
    pub fn gone(&mut self, realm: &ClusterName, uid: &str) {
        self.pods.remove(uid);
        let report = Report::PodGone { realm: realm.clone(), uid: uid.to_owned() };
        let sequence = self.send(report);
        if self.gone.len() < MAX_GONE {
            self.gone.insert(uid.to_owned(), (sequence, realm.clone()));
        }
    }

    /// Something a user should read.
    pub fn event(&mut self, mut event: EventV1) {
        // Some milliseconds ahead of the clock at worst. A clock that was set back by more starts anew.
        if event.at <= self.last_event && self.last_event - event.at < AHEAD {
            event.at = self.last_event + 1;
        }
        self.last_event = event.at;
        self.keep_event(event);
    }

    fn keep_event(&mut self, event: EventV1) {
        let sequence = self.send(Report::Event(event.clone()));
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back((sequence, event));
    }

    /// The hub has everything up to here. Pod states stay: a hub that was restored asks again.
    pub fn taken(&mut self, stamp: ReportStamp) {
        if stamp.boot_epoch != self.stamp.boot_epoch {
            return;
        }
        self.gone.retain(|_, (sequence, _)| stamp.sequence < *sequence);
        self.events.retain(|(sequence, _)| stamp.sequence < *sequence);
    }

    /// The session is up or down. A new one hears the state of everything.
    pub fn connected(&mut self, up: bool) {
        self.connected = up;
        if !up {
            return;
        }
        if let Some(node) = self.node.clone() {
            self.send(Report::Node(node));
        }
        for status in self.pods.values().cloned().collect::<Vec<_>>() {
            self.send(Report::Pod(status));
        }
        for (uid, (_, realm)) in std::mem::take(&mut self.gone) {
            self.gone(&realm, &uid);
        }
        for (_, event) in std::mem::take(&mut self.events) {
            self.keep_event(event);
        }
    }
}
