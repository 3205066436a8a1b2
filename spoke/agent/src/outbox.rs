//! What the hub has yet to be told: the newest state of each pod, the pods that are gone, and some events.
//!
//! Guarantees:
//! - no two events have one time, so that they sort as they happened (`events_sort_as_they_happened`);
//! - what the hub does not have is said again after a reconnect, with a newer stamp, and nothing else is
//!   (`a_reconnect_repeats_nothing_that_the_hub_has`), before anything newer: a hub that has one report has all before
//!   it (`what_a_lost_session_took_along_is_said_to_the_next_however_late_the_agent_hears_of_it`);
//! - what waits is bounded by the number of pods and [`WAITING_EVENTS_MAX`], however long the hub is away
//!   (`what_waits_for_a_hub_is_bounded`), of which a pod that tells much leaves others their part
//!   (`a_pod_that_tells_much_does_not_push_out_what_its_neighbours_tell`), and no farewell that the hub waits for is lost for that
//!   (`as_many_farewells_wait_as_the_plan_names_pods`);
//! - what the hub cannot keep is said again to its next session, or when its pod's record changes, and not before
//!   (`what_the_hub_cannot_keep_is_said_again_to_its_next_session`,
//!   `a_farewell_that_the_hub_could_not_keep_is_said_again_when_its_record_changes`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use freewheel_link::names::ClusterName;
use freewheel_link::report::{
    EventV1, NodeEventV1, NodeStatusV1, PodStatusV1, Report, ReportStamp, UnixMillis,
};
use tracing::debug;

use crate::event_quota::EventQuota;
use crate::ports::Uplink;

/// Events that wait for a hub; the oldest of the pod that has most go first.
pub const WAITING_EVENTS_MAX: usize = 256;
/// Milliseconds by which events of one moment are told apart at most.
const EVENT_TIME_SPREAD_MILLIS: UnixMillis = 10_000;
/// In place of the number of a report that the hub has refused: no answer counts for it.
const REFUSED_NUMBER: u64 = u64::MAX;

/// Reports on their way.
pub struct Outbox {
    uplink: Arc<dyn Uplink>,
    stamp: ReportStamp,
    /// The session that hears of everything.
    session: Option<u64>,
    /// The newest report that the hub has durably, as all before it.
    acknowledged_up_to: u64,
    node: Option<(u64, NodeStatusV1)>,
    pods: BTreeMap<String, (u64, PodStatusV1)>,
    /// Of pods that the plan still names: the hub waits for these, and for no others.
    gone: BTreeMap<String, (u64, ClusterName)>,
    /// Events, as they are told.
    events: VecDeque<(u64, Report)>,
    last_event: UnixMillis,
    quota: EventQuota,
}

impl Outbox {
    /// An empty one for this start of the agent.
    #[must_use]
    pub fn new(uplink: Arc<dyn Uplink>, boot_epoch: u64) -> Self {
        Self {
            uplink,
            stamp: ReportStamp { boot_epoch, sequence: 0 },
            session: None,
            acknowledged_up_to: 0,
            node: None,
            pods: BTreeMap::new(),
            gone: BTreeMap::new(),
            events: VecDeque::new(),
            last_event: 0,
            quota: EventQuota::default(),
        }
    }

    fn send(&mut self, report: Report) -> u64 {
        self.stamp.sequence += 1;
        if let Some(session) = self.session {
            self.uplink.report(session, self.stamp, report);
        }
        self.stamp.sequence
    }

    /// The state of the device. Without a session the uplink keeps it for its greeting.
    pub fn node(&mut self, status: NodeStatusV1) {
        if self.node.as_ref().is_none_or(|(_, reported)| *reported != status) {
            self.uplink.device(&status);
            let sequence = self.send(Report::Node(status.clone()));
            self.node = Some((sequence, status));
        }
    }

    /// The state of a pod.
    pub fn pod(&mut self, status: PodStatusV1) {
        let sequence = self.send(Report::Pod(status.clone()));
        self.pods.insert(status.uid.clone(), (sequence, status));
    }

    /// A pod is gone. The hub waits to hear of it while the plan still names it (`planned`).
    pub fn gone(&mut self, realm: &ClusterName, uid: &str, planned: bool) {
        self.pods.remove(uid);
        self.quota.forget(uid);
        let report = Report::PodGone { realm: realm.clone(), uid: uid.to_owned() };
        let sequence = self.send(report);
        if planned {
            self.gone.insert(uid.to_owned(), (sequence, realm.clone()));
        }
    }

    /// The record of a pod that is gone has changed: if the hub could not keep its farewell, it is said again.
    pub fn repeat_farewell(&mut self, uid: &str) {
        let refused = self.gone.get(uid).filter(|(sequence, _)| *sequence == REFUSED_NUMBER);
        if let Some((_, realm)) = refused.cloned() {
            self.gone(&realm, uid, true);
        }
    }

    /// The plan does not name this pod any more, so the hub waits for nothing of it.
    pub fn unplanned(&mut self, uid: &str) {
        self.gone.remove(uid);
    }

    /// Something about a pod that a user should read, if it has not told too much.
    pub fn event(&mut self, event: EventV1) {
        if !self.quota.take(&event.uid, event.at) {
            debug!(pod = event.uid, reason = event.reason, "the pod tells too many events");
            return;
        }
        let at = self.time_of(event.at);
        self.keep_event(Report::Event(EventV1 { at, ..event }));
    }

    /// Something about the device that a user should read.
    pub fn node_event(&mut self, event: NodeEventV1) {
        let at = self.time_of(event.at);
        self.keep_event(Report::NodeEvent(NodeEventV1 { at, ..event }));
    }

    /// The time of the next event: some milliseconds ahead of the clock at worst. A clock that was set back by more
    /// starts anew.
    const fn time_of(&mut self, mut at: UnixMillis) -> UnixMillis {
        if at <= self.last_event && self.last_event - at < EVENT_TIME_SPREAD_MILLIS {
            at = self.last_event + 1;
        }
        self.last_event = at;
        at
    }

    fn keep_event(&mut self, event: Report) {
        let sequence = self.send(event.clone());
        if self.events.len() == WAITING_EVENTS_MAX {
            self.leave_out_an_event();
        }
        self.events.push_back((sequence, event));
    }

    /// Leaves out the oldest event of the pod of which most wait.
    fn leave_out_an_event(&mut self) {
        let mut counts = BTreeMap::<&str, usize>::new();
        for (_, event) in &self.events {
            *counts.entry(pod_of(event)).or_default() += 1;
        }
        let count = |(_, event): &(u64, Report)| counts.get(pod_of(event)).copied().unwrap_or(0);
        let most = self.events.iter().map(count).max();
        let oldest = self.events.iter().position(|event| Some(count(event)) == most);
        self.events.remove(oldest.unwrap_or(0));
    }

    /// The hub has everything up to here. Pod states stay: a hub that was restored has less, and says so in its
    /// welcome.
    pub fn acknowledged(&mut self, stamp: ReportStamp) {
        let ours = stamp.boot_epoch == self.stamp.boot_epoch;
        self.acknowledged_up_to = if ours { stamp.sequence } else { 0 };
        if !ours {
            return;
        }
        self.gone.retain(|_, (sequence, _)| stamp.sequence < *sequence);
        self.events.retain(|(sequence, _)| stamp.sequence < *sequence);
    }

    /// The hub cannot keep the report with this stamp. Answers with the UID of the pod that it was about; an event is
    /// done with.
    pub fn refused(&mut self, stamp: ReportStamp) -> Option<&str> {
        let its =
            |sequence: u64| stamp == ReportStamp { sequence, boot_epoch: self.stamp.boot_epoch };
        let pods = self.pods.iter_mut().map(|(uid, (sequence, _))| (uid, sequence));
        let gone = self.gone.iter_mut().map(|(uid, (sequence, _))| (uid, sequence));
        let (uid, sequence) = pods.chain(gone).find(|(_, sequence)| its(**sequence))?;
        *sequence = REFUSED_NUMBER;
        Some(uid)
    }

    /// Whether the hub could not keep the newest word about this pod.
    #[must_use]
    pub fn is_refused(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|(sequence, _)| *sequence == REFUSED_NUMBER)
    }

    /// The session with this number is up, or none is. A new one hears the state of everything that the hub does not
    /// have; of the device's, too, which may be newer than the greeting.
    pub fn connected(&mut self, session: Option<u64>) {
        self.session = session;
        if session.is_none() {
            return;
        }
        let acknowledged = self.acknowledged_up_to;
        if let Some((_, status)) = self.node.take_if(|(sequence, _)| acknowledged < *sequence) {
            self.node(status);
        }
        let untold = self.pods.values().filter(|(sequence, _)| acknowledged < *sequence);
        for status in untold.map(|(_, status)| status.clone()).collect::<Vec<_>>() {
            self.pod(status);
        }
        for (uid, (_, realm)) in std::mem::take(&mut self.gone) {
            self.gone(&realm, &uid, true);
        }
        for (_, event) in std::mem::take(&mut self.events) {
            self.keep_event(event);
        }
    }
}

/// The UID of the pod that an event is about; empty for the device.
fn pod_of(event: &Report) -> &str {
    match event {
        Report::Event(event) => &event.uid,
        _ => "",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use freewheel_link::part::Parts;
    use freewheel_link::report::PhaseV1;

    use super::*;
    use crate::fake::FakeUplink;

    pub(crate) fn pod(uid: &str, message: &str) -> PodStatusV1 {
        PodStatusV1 {
            realm: ClusterName::root(),
            namespace: "default".to_owned(),
            name: uid.to_owned(),
            uid: uid.to_owned(),
            phase: PhaseV1::Running,
            ip: None,
            started: None,
            reason: String::new(),
            message: message.to_owned(),
            conditions: Vec::new(),
            init: Vec::new(),
            containers: Vec::new(),
            parts: Parts::default(),
        }
    }

    fn event(at: UnixMillis) -> EventV1 {
        EventV1 {
            realm: ClusterName::root(),
            namespace: "default".to_owned(),
            pod: "a".to_owned(),
            uid: "a".to_owned(),
            field_path: String::new(),
            warning: false,
            reason: "Pulled".to_owned(),
            message: String::new(),
            at,
        }
    }

    /// An outbox, and what it sends; taken out when it is looked at.
    fn outbox() -> (Outbox, impl Fn() -> Vec<(u64, String)>) {
        let heard = Arc::new(FakeUplink::default());
        let sent = heard.clone();
        let look = move || {
            let all = std::mem::take(&mut *sent.reports.lock());
            let of = |(stamp, report): (ReportStamp, Report)| match report {
                Report::Pod(pod) => (stamp.sequence, pod.uid),
                Report::PodGone { uid, .. } => (stamp.sequence, format!("{uid} gone")),
                Report::Node(_) => (stamp.sequence, "node".to_owned()),
                Report::Event(event) => (stamp.sequence, event.reason),
                Report::NodeEvent(event) => (stamp.sequence, event.reason),
            };
            all.into_iter().map(of).collect()
        };
        (Outbox::new(heard, 3), look)
    }

    fn stamp(sequence: u64) -> ReportStamp {
        ReportStamp { boot_epoch: 3, sequence }
    }

    fn sent(list: &[(u64, &str)]) -> Vec<(u64, String)> {
        list.iter().map(|(sequence, what)| (*sequence, (*what).to_owned())).collect()
    }

    #[test]
    fn a_reconnect_repeats_nothing_that_the_hub_has() {
        let (mut outbox, look) = outbox();
        let reconnect = |outbox: &mut Outbox, told: ReportStamp| {
            outbox.connected(None);
            outbox.acknowledged(told);
            outbox.connected(Some(1));
        };
        reconnect(&mut outbox, ReportStamp::default());
        outbox.pod(pod("a", ""));
        outbox.pod(pod("b", ""));
        outbox.event(event(1));
        assert_eq!(look(), sent(&[(1, "a"), (2, "b"), (3, "Pulled")]));
        // It lost the last of them, and then nothing.
        reconnect(&mut outbox, stamp(1));
        assert_eq!(look(), sent(&[(4, "b"), (5, "Pulled")]));
        reconnect(&mut outbox, stamp(5));
        assert_eq!(look(), sent(&[]));
        // What happens meanwhile is all that is said.
        outbox.connected(None);
        outbox.pod(pod("a", "news"));
        outbox.gone(&ClusterName::root(), "b", true);
        outbox.acknowledged(stamp(5));
        assert_eq!(look(), sent(&[]));
        outbox.connected(Some(1));
        assert_eq!(look(), sent(&[(8, "a"), (9, "b gone")]));
        // A hub that was put back from a copy knows less, and another one nothing.
        reconnect(&mut outbox, stamp(7));
        assert_eq!(look(), sent(&[(10, "a"), (11, "b gone")]));
        reconnect(&mut outbox, ReportStamp { boot_epoch: 2, sequence: 90 });
        assert_eq!(look(), sent(&[(12, "a"), (13, "b gone")]));
    }

    #[test]
    fn events_sort_as_they_happened() {
        let (mut outbox, _) = outbox();
        for at in [50, 50, 40, 60, 60] {
            outbox.event(event(at));
        }
        let reason = "EvictionThresholdMet".to_owned();
        outbox.node_event(NodeEventV1 { warning: true, reason, message: String::new(), at: 61 });
        let time = |(_, event): &(u64, Report)| match event {
            Report::Event(event) => event.at,
            Report::NodeEvent(event) => event.at,
            other => panic!("{other:?}"),
        };
        assert_eq!(outbox.events.iter().map(time).collect::<Vec<_>>(), [50, 51, 52, 60, 61, 62]);
    }

    #[test]
    fn what_waits_for_a_hub_is_bounded() {
        let (mut outbox, look) = outbox();
        for at in 0..10_000 {
            outbox.pod(pod("a", "again"));
            outbox.event(EventV1 { uid: format!("g{at}"), ..event(at) });
            outbox.gone(&ClusterName::root(), &format!("g{at}"), false);
        }
        outbox.connected(Some(1));
        assert_eq!(look().len(), 1 + WAITING_EVENTS_MAX);
    }

    #[test]
    fn a_pod_that_tells_much_does_not_push_out_what_its_neighbours_tell() {
        let (mut outbox, look) = outbox();
        outbox.event(EventV1 { reason: "OOMKilling".to_owned(), ..event(1) });
        // One event each five minutes for a whole day is as much as a pod may tell.
        for at in (0..24 * 3600).map(|second| 1000 * second) {
            outbox.event(EventV1 {
                uid: "noisy".to_owned(),
                reason: "Unhealthy".to_owned(),
                ..event(at)
            });
        }
        outbox.event(EventV1 { uid: "quiet".to_owned(), ..event(90_000_000) });
        outbox.connected(Some(1));
        let told: Vec<String> = look().into_iter().map(|(_, what)| what).collect();
        assert_eq!(told.len(), WAITING_EVENTS_MAX);
        assert_eq!(
            (told[0].as_str(), told[WAITING_EVENTS_MAX - 1].as_str()),
            ("OOMKilling", "Pulled")
        );
    }

    #[test]
    fn as_many_farewells_wait_as_the_plan_names_pods() {
        let (mut outbox, look) = outbox();
        let uid = |number: usize| format!("g{number:05}");
        (0..10_000).for_each(|number| outbox.gone(&ClusterName::root(), &uid(number), true));
        outbox.unplanned(&uid(7));
        outbox.connected(Some(1));
        let told: Vec<String> = look().into_iter().map(|(_, what)| what).collect();
        let all = (0..10_000).filter(|number| *number != 7);
        assert_eq!(told, all.map(|number| format!("{} gone", uid(number))).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_hub_cannot_keep_is_said_again_to_its_next_session() {
        let (mut outbox, look) = outbox();
        outbox.connected(Some(1));
        outbox.pod(pod("a", ""));
        outbox.pod(pod("b", ""));
        outbox.gone(&ClusterName::root(), "c", true);
        outbox.event(event(1));
        look();
        assert_eq!(outbox.refused(stamp(1)), Some("a"));
        assert_eq!(outbox.refused(stamp(3)), Some("c"));
        assert_eq!(outbox.refused(stamp(4)), None, "an event is told once");
        assert_eq!(outbox.refused(ReportStamp { boot_epoch: 2, sequence: 2 }), None);
        outbox.acknowledged(stamp(4));
        assert!(outbox.is_refused("a") && !outbox.is_refused("b"));
        assert_eq!(look(), sent(&[]), "it is not repeated at once");
        outbox.connected(None);
        outbox.acknowledged(stamp(4));
        outbox.connected(Some(2));
        assert_eq!(look(), sent(&[(5, "a"), (6, "c gone")]));
        assert!(!outbox.is_refused("a"));
        outbox.acknowledged(stamp(6));
        outbox.connected(Some(3));
        assert_eq!(look(), sent(&[]), "it was kept this time");
    }
}
