//! The hub's half of a session as pure logic: what a spoke holds, what it should hold, what to send.
//!
//! ```text
//! hello ─▶ greeted ─▶ wanted(set) ─▶ one delta or snapshot in flight ─Took─▶ next newest set …
//! ```
//!
//! Guarantees: at most one plan is in flight, always the newest one, so a slow spoke grows no queue;
//! a base that the hub cannot prove to know leads to a snapshot; generations never fall within an
//! incarnation; a report is passed on once per stamp, older ones are dropped.
//! Assumes: `now` comes from one monotonic clock. No I/O, no clock of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::SetDigest;
use crate::generation::Generation;
use crate::message::{
    HelloV1, HubToSpoke, MAX_PART, PROTOCOL, PlanV1, Reason, SpokeToHub, WelcomeV1,
};
use crate::names::ClusterName;
use crate::plan::{Record, RecordKey};
use crate::record_set::{Held, RecordSet};
use crate::report::{Report, ReportStamp};

/// Without an answer for this long the plan in flight is taken for lost and sent as a snapshot.
pub const PLAN_TIMEOUT: Duration = Duration::from_secs(30);

/// What something heard means for the hub.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The spoke holds this durably now.
    Acked(Generation),
    /// News to write.
    Report(ReportStamp, Box<Report>),
    /// The spoke holds other records than the hub believed: say again what it should hold.
    Drifted,
    /// The spoke leaves in order.
    Left(Reason),
}

struct Wanted {
    generation: Generation,
    set: Arc<RecordSet>,
}

struct InFlight {
    wanted: Wanted,
    since: Duration,
}

/// A session with one spoke, from the greeting to the end.
pub struct HubSession {
    cluster: ClusterName,
    welcome: WelcomeV1,
    /// What the spoke says it holds; `None` when the hub cannot tell its members.
    held: Option<Held>,
    says: (Generation, SetDigest),
    wanted: Option<Wanted>,
    in_flight: Option<InFlight>,
    parts: VecDeque<HubToSpoke>,
    last_heard: Duration,
    last_stamp: Option<ReportStamp>,
    /// Held already, but perhaps never acknowledged: the answer may have been lost with a session.
    confirmed: Option<Generation>,
}

impl HubSession {
    /// Takes the greeting. `known` is what the hub remembers of this spoke, if anything.
    ///
    /// # Errors
    /// With the reason to send back when this peer cannot be talked to.
    pub fn greet(
        hello: &HelloV1,
        certified: &ClusterName,
        welcome: WelcomeV1,
        known: Option<Held>,
        now: Duration,
    ) -> Result<Self, Reason> {
        if hello.protocol != PROTOCOL {
            return Err(Reason::Protocol(hello.protocol));
        }
        if hello.cluster != *certified {
            return Err(Reason::NotYou(certified.to_string()));
        }
        if !hello.node.is_bounded() {
            return Err(Reason::Violation("the greeting is too large".into()));
        }
        let says = (hello.held, hello.digest);
        let held = known.filter(|held| (held.generation, held.digest) == says);
        Ok(Self {
            cluster: certified.clone(),
            welcome,
            held,
            says,
            wanted: None,
            in_flight: None,
            parts: VecDeque::from([HubToSpoke::Welcome(welcome)]),
            last_heard: now,
            last_stamp: None,
            confirmed: None,
        })
    }

    /// Whose session it is.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Its epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.welcome.epoch
    }

    /// What to remember of the spoke for its next session; this one is over.
    #[must_use]
    pub const fn take_known(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// What both sides agree on: the spoke holds it, and nothing newer is wanted or on its way.
    #[must_use]
    pub fn agreed(&self) -> Option<(Generation, SetDigest)> {
        let held = self.held.as_ref().filter(|_| self.is_quiet());
        held.map(|held| (held.generation, held.digest))
    }

    /// Whether no plan is on its way to the spoke, nor waits to be: what is wanted next goes out at once.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.wanted.is_none() && self.in_flight.is_none()
    }

    /// The newest set that the spoke should hold. Replaces what was wanted before and is not yet sent.
    pub fn want(&mut self, generation: Generation, set: Arc<RecordSet>) {
        let newest = self.wanted.as_ref().map_or(self.says.0, |wanted| wanted.generation);
        if newest.incarnation == generation.incarnation && generation.revision < newest.revision {
            return;
        }
        self.wanted = Some(Wanted { generation, set });
    }

    /// Takes what the spoke says.
    ///
    /// # Errors
    /// With the reason to close the session.
    pub fn hear(&mut self, message: SpokeToHub, now: Duration) -> Result<Option<Effect>, Reason> {
        self.last_heard = now;
        match message {
            SpokeToHub::Hello(_) => Err(Reason::Violation("a second greeting".into())),
            SpokeToHub::Heartbeat { generation, digest } => Ok(self.beat(generation, digest)),
            SpokeToHub::Took { generation, digest } => {
                Ok(self.took(generation, digest).then_some(Effect::Acked(generation)))
            }
            SpokeToHub::Report { stamp, report } => {
                if self.last_stamp.is_some_and(|last| stamp <= last) {
                    return Ok(None);
                }
                self.last_stamp = Some(stamp);
                Ok(Some(Effect::Report(stamp, Box::new(report))))
            }
            SpokeToHub::Goodbye(reason) => Ok(Some(Effect::Left(reason))),
            SpokeToHub::Resync { generation } => {
                self.forget(generation);
                Ok(Some(Effect::Drifted))
            }
            SpokeToHub::Datagram(_) => {
                Err(Reason::Violation("a pod's datagram on the session's stream".into()))
            }
        }
    }

    /// The next message to send, if one is due.
    pub fn poll(&mut self, now: Duration) -> Option<HubToSpoke> {
        let lost = self.in_flight.as_ref().is_some_and(|sent| sent.since + PLAN_TIMEOUT <= now);
        if lost && self.parts.is_empty() {
            self.forget(self.says.0);
        }
        if self.parts.is_empty() && self.in_flight.is_none() {
            self.plan(now);
        }
        self.parts.pop_front()
    }

    /// A generation that turned out to be held, once: to be remembered like an acknowledged one.
    pub fn confirmed(&mut self) -> Option<Generation> {
        self.confirmed.take()
    }

    /// When [`HubSession::poll`] has something to say without anything happening before.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        self.in_flight.as_ref().map(|sent| sent.since + PLAN_TIMEOUT)
    }

    /// How long nothing was heard.
    #[must_use]
    pub fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last_heard)
    }

    /// Drift: the same generation with other records can only be healed by sending all of them.
    fn beat(&mut self, generation: Generation, digest: SetDigest) -> Option<Effect> {
        // A datagram may be late: what it says of an older generation was true once.
        let late = self.says.0.covers(&generation) && generation != self.says.0;
        if late || self.in_flight.is_some() || self.says == (generation, digest) {
            return None;
        }
        self.says = (generation, digest);
        self.held = None;
        Some(Effect::Drifted)
    }

    fn took(&mut self, generation: Generation, digest: SetDigest) -> bool {
        self.says = (generation, digest);
        let Some(sent) = self.in_flight.take_if(|sent| sent.wanted.generation == generation) else {
            return false;
        };
        if sent.wanted.set.digest() == digest {
            self.held = Some(Held::of(generation, &sent.wanted.set));
            true
        } else {
            self.held = None;
            self.rewant(sent.wanted);
            false
        }
    }

    /// The hub no longer knows what the spoke holds: the newest set goes out whole.
    fn forget(&mut self, generation: Generation) {
        self.held = None;
        self.says = (generation, SetDigest::default());
        self.parts.retain(|part| !matches!(part, HubToSpoke::Plan(_)));
        if let Some(sent) = self.in_flight.take() {
            self.rewant(sent.wanted);
        }
    }

    fn rewant(&mut self, old: Wanted) {
        if self.wanted.is_none() {
            self.wanted = Some(old);
        }
    }

    fn plan(&mut self, now: Duration) {
        let Some(wanted) = self.wanted.take() else { return };
        let (generation, digest) = self.says;
        let same_life = generation.incarnation == wanted.generation.incarnation;
        // A number alone is not worth a write to the device's flash.
        if same_life && digest == wanted.set.digest() {
            if self.held.is_none() {
                self.held = Some(Held::of(generation, &wanted.set));
                self.confirmed = Some(generation);
            }
            return;
        }
        let (snapshot, put, remove) = match &self.held {
            Some(held) if same_life => {
                let delta = held.delta(&wanted.set);
                (false, delta.put, delta.remove)
            }
            _ => (true, wanted.set.iter().cloned().collect(), Vec::new()),
        };
        self.parts = cut(generation, wanted.generation, snapshot, &put, remove);
        self.in_flight = Some(InFlight { wanted, since: now });
    }
}

/// Cuts a plan into parts of at most [`MAX_PART`] bytes (one record may be larger by itself).
fn cut(
    base: Generation,
    to: Generation,
    snapshot: bool,
    put: &[Arc<Record>],
    remove: Vec<RecordKey>,
) -> VecDeque<HubToSpoke> {
    let empty = || PlanV1 { base, to, snapshot, more: true, put: Vec::new(), remove: Vec::new() };
    let mut parts = Vec::new();
    let mut part = empty();
    let mut size = 0;
    let mut room = |part: &mut PlanV1, parts: &mut Vec<PlanV1>, bytes: usize| {
        if 0 < size && MAX_PART < size + bytes {
            parts.push(std::mem::replace(part, empty()));
            size = 0;
        }
        size += bytes;
    };
    for key in remove {
        room(&mut part, &mut parts, key.key.len() + 80);
        part.remove.push(key);
    }
    for record in put {
        room(&mut part, &mut parts, record.body.len() + record.key.key.len() + 100);
        part.put.push(Record::clone(record));
    }
    part.more = false;
    parts.push(part);
    parts.into_iter().map(HubToSpoke::Plan).collect()
}

#[cfg(test)]
#[path = "hub_session_tests.rs"]
mod tests;
