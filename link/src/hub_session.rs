//! The hub's half of a session as pure logic: what a spoke holds, what it should hold, what to send.
//!
//! ```text
//! hello ─▶ greeted ─▶ wanted(set) ─▶ one delta or snapshot in flight ─Took─▶ next newest set …
//! ```
//!
//! Guarantees:
//! - at most one plan is in flight, always the newest one, so a slow spoke grows no queue
//!   (`a_slow_spoke_gets_the_newest_plan_and_no_queue`);
//! - no part of it is longer than a message may be, however large a record is
//!   (`a_large_plan_comes_in_parts_that_fit_a_frame`, `a_record_of_any_size_that_a_hub_makes_is_carried`);
//! - a base that the hub cannot prove to know leads to a snapshot (`a_base_that_nobody_remembers_leads_to_a_snapshot`);
//! - generations never fall within an incarnation (`generations_never_fall_within_a_life`);
//! - what a spoke runs and its disk does not take is built on, and counts as nothing
//!   (`what_runs_and_is_not_durable_is_built_on_and_is_not_reached`);
//! - a report is passed on once per stamp, older ones are dropped (`an_older_report_is_dropped`);
//! - what a spoke was told of the hub's wall clock is put right when that is set, if by [`CLOCK_STEP_MIN`] or more
//!   (`a_clock_that_is_set_is_told_once`).
//!
//! Assumes: `now` comes from one monotonic clock. No I/O, no clock of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::SetDigest;
use crate::generation::Generation;
use crate::limits;
use crate::message::{HelloV1, HubToSpoke, PROTOCOLS, PlanV1, Reason, SpokeToHub, WelcomeV1};
use crate::names::ClusterName;
use crate::part;
use crate::plan::{Record, RecordKey};
use crate::record_set::{Delta, Held, PlanSet, RecordSet, Sealed};
use crate::report::{Report, ReportStamp, UnixMillis};

/// Without an answer for this long after its last part the plan in flight is taken for lost and sent as a
/// snapshot.
pub const PLAN_TIMEOUT: Duration = Duration::from_secs(30);
/// The slowest link that a plan must get through. What was written last may still wait on this side.
const SLOWEST_LINK_BYTES_PER_SECOND: usize = 8 << 10;
/// How much of a plan the transport may hold back.
const HELD_BACK_BYTES: usize = 1 << 20;

/// A wall clock that shows so much more or less than it would by itself was set.
pub const CLOCK_STEP_MIN: Duration = Duration::from_secs(3600);

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

struct Wanted<S> {
    generation: Generation,
    set: Arc<S>,
}

struct InFlight<S> {
    wanted: Wanted<S>,
    /// When its newest part went out.
    since: Duration,
    /// How long after that the answer may take.
    patience: Duration,
}

/// A plan on its way, part by part. Its records are shared with the set that is wanted.
struct Sending {
    base: Generation,
    to: Generation,
    snapshot: bool,
    part: u32,
    put: VecDeque<Arc<Sealed>>,
    /// Bytes of the first record's body that have gone out.
    from: usize,
    remove: VecDeque<RecordKey>,
}

/// A session with one spoke, from the greeting to the end.
pub struct HubSession<S: PlanSet = RecordSet> {
    cluster: ClusterName,
    welcome: WelcomeV1,
    /// What the spoke says it holds; `None` when the hub cannot tell its members.
    held: Option<Held<S::Members>>,
    spoke_held: (Generation, SetDigest),
    wanted: Option<Wanted<S>>,
    in_flight: Option<InFlight<S>>,
    sending: Option<Sending>,
    greeted: bool,
    /// What the spoke was told of the wall clock, and when.
    clock: Option<(UnixMillis, Duration)>,
    /// The wall clock was set, and the spoke does not know.
    set: Option<UnixMillis>,
    /// The wall clock when the spoke was last heard.
    heard: UnixMillis,
    /// A plan has gone out, is not needed, or was asked for: what is sent whole from here on is not for the greeting.
    planned: bool,
    /// Plans in a row that were not taken: lost, or taken for something else.
    failures: u32,
    /// What it says that it holds is not durable there.
    loose: bool,
    /// No plan goes out before this.
    rest: Option<Duration>,
    last_stamp: Option<ReportStamp>,
    /// The newest generation whose set the spoke is known to hold.
    reached: Generation,
}

impl<S: PlanSet> HubSession<S> {
    /// Takes the greeting. `known` is what the hub remembers of this spoke, if anything.
    ///
    /// # Errors
    /// With the reason to send back when this peer cannot be talked to.
    pub fn accept(
        hello: &HelloV1,
        certified: &ClusterName,
        welcome: WelcomeV1,
        known: Option<Held<S::Members>>,
    ) -> Result<Self, Reason> {
        let mut welcome = welcome;
        welcome.protocol = PROTOCOLS.common(hello.protocols).ok_or(Reason::Protocol(PROTOCOLS))?;
        if hello.cluster != *certified {
            return Err(Reason::NotYou(certified.to_string()));
        }
        if !hello.node.is_bounded() || part::PARTS_BYTES_MAX < hello.parts.weight() {
            return Err(Reason::Violation("the greeting is too large".into()));
        }
        let spoke_held = (hello.held, hello.digest);
        // Of another life of the store its number says nothing here.
        let same = hello.held.incarnation == welcome.incarnation;
        let reached = if same { hello.held } else { Generation::NONE };
        let held = known.filter(|held| (held.generation, held.digest) == spoke_held);
        Ok(Self {
            cluster: certified.clone(),
            welcome,
            held,
            spoke_held,
            wanted: None,
            in_flight: None,
            sending: None,
            greeted: false,
            clock: None,
            set: None,
            heard: welcome.now,
            planned: false,
            failures: 0,
            loose: false,
            rest: None,
            last_stamp: None,
            reached,
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

    /// When it began and when its spoke was last heard, by the hub's wall clock: for people.
    #[must_use]
    pub const fn seen(&self) -> (UnixMillis, UnixMillis) {
        (self.welcome.now, self.heard)
    }

    /// What the spoke is known to hold.
    #[must_use]
    pub const fn known(&self) -> Option<&Held<S::Members>> {
        self.held.as_ref()
    }

    /// What to remember of the spoke for its next session; this one is over.
    #[must_use]
    pub const fn take_known(&mut self) -> Option<Held<S::Members>> {
        self.held.take()
    }

    /// The newest generation of which the spoke is known to hold what it asks for. It may hold that by an older number,
    /// where nothing has changed for it since.
    #[must_use]
    pub const fn reached(&self) -> Generation {
        self.reached
    }

    /// What both sides agree on: the spoke holds it, and nothing newer is wanted or on its way.
    #[must_use]
    pub fn agreed(&self) -> Option<(Generation, SetDigest)> {
        let held = self.held.as_ref().filter(|_| self.is_quiet() && !self.loose);
        held.map(|held| (held.generation, held.digest))
    }

    /// Whether no plan is on its way to the spoke, nor waits to be: what is wanted next goes out at once.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.wanted.is_none() && self.in_flight.is_none()
    }

    /// The newest set that the spoke should hold. Replaces what was wanted before and is not yet sent.
    pub fn want(&mut self, generation: Generation, set: Arc<S>) {
        let sent = self.in_flight.as_ref().map(|sent| &sent.wanted);
        let newest =
            self.wanted.as_ref().or(sent).map_or(self.spoke_held.0, |wanted| wanted.generation);
        if newest.incarnation == generation.incarnation && generation.revision < newest.revision {
            return;
        }
        self.wanted = Some(Wanted { generation, set });
    }

    /// Takes what the spoke says.
    ///
    /// # Errors
    /// With the reason to close the session.
    pub fn receive(
        &mut self,
        message: SpokeToHub,
        now: Duration,
    ) -> Result<Option<Effect>, Reason> {
        match message {
            SpokeToHub::Hello(_) => Err(Reason::Violation("a second greeting".into())),
            SpokeToHub::Heartbeat { generation, digest } => Ok(self.beat(generation, digest)),
            SpokeToHub::Took { generation, digest } => {
                Ok(self.took(generation, digest, now).then_some(Effect::Acked(generation)))
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
            SpokeToHub::Runs { generation, digest } => {
                Ok((!self.runs(generation, digest)).then_some(Effect::Drifted))
            }
            SpokeToHub::Datagram(_) => {
                Err(Reason::Violation("a pod's datagram on the session's stream".into()))
            }
        }
    }

    /// The spoke says something while the wall clock shows this.
    pub const fn note_heard(&mut self, wall: UnixMillis) {
        self.heard = wall;
    }

    /// The wall clock shows this now. A device without a clock of its own lives by what it was told, and its certificates
    /// with it: where the hub's clock was set since, it has to know.
    pub fn keep_clock(&mut self, wall: UnixMillis, now: Duration) {
        let Some((announced, at)) = self.clock else { return };
        let by_itself = u128::from(announced) + now.saturating_sub(at).as_millis();
        if CLOCK_STEP_MIN.as_millis() <= u128::from(wall).abs_diff(by_itself) {
            (self.clock, self.set) = (Some((wall, now)), Some(wall));
        }
    }

    /// Whether [`HubSession::poll`] would now send all there is for nothing but the greeting. Whoever finds that too
    /// much lets it [`HubSession::rest_until`] later.
    #[must_use]
    pub fn owes_all(&self, now: Duration) -> bool {
        let rests = self.rest.is_some_and(|until| now < until);
        let first = self.greeted && !self.planned && !rests;
        first
            && self
                .wanted
                .as_ref()
                .is_some_and(|wanted| !self.holds(wanted) && self.is_whole(wanted))
    }

    /// No plan goes out before this.
    pub const fn rest_until(&mut self, until: Duration) {
        self.rest = Some(until);
    }

    /// Whether the spoke says that it holds just this.
    fn holds(&self, wanted: &Wanted<S>) -> bool {
        let (generation, digest) = self.spoke_held;
        generation.incarnation == wanted.generation.incarnation && digest == wanted.set.digest()
    }

    /// Whether this goes out whole: its difference to what the spoke holds is not known.
    fn is_whole(&self, wanted: &Wanted<S>) -> bool {
        let known = self.held.as_ref().is_some_and(|held| wanted.set.knows(&held.members));
        !known || self.spoke_held.0.incarnation != wanted.generation.incarnation
    }

    /// The next message to send, if one is due.
    pub fn poll(&mut self, now: Duration) -> Option<HubToSpoke> {
        if !std::mem::replace(&mut self.greeted, true) {
            self.clock = Some((self.welcome.now, now));
            return Some(HubToSpoke::Welcome(self.welcome));
        }
        if let Some(wall) = self.set.take() {
            return Some(HubToSpoke::Now(wall));
        }
        let due = |sent: &InFlight<S>| sent.since + sent.patience <= now;
        if self.sending.is_none() && self.in_flight.as_ref().is_some_and(due) {
            self.failures = self.failures.saturating_add(1);
            self.forget(self.spoke_held.0);
        }
        let rests = self.rest.is_some_and(|until| now < until);
        if self.sending.is_none() && self.in_flight.is_none() && !rests {
            self.rest = None;
            self.plan(now);
        }
        let part = self.sending.as_mut()?.next_part();
        if !part.more {
            self.sending = None;
        }
        if let Some(sent) = &mut self.in_flight {
            sent.since = now;
        }
        Some(HubToSpoke::Plan(part))
    }

    /// When [`HubSession::poll`] has something to say without anything happening before.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        self.in_flight.as_ref().map(|sent| sent.since + sent.patience).or(self.rest)
    }

    /// Whether plans go out and none of them is taken: the connection is alive, and what it is for is not done.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        0 < self.failures
    }

    /// How long an answer to a plan may take: a slow link and, the more often it failed, the device's flash and
    /// everybody's traffic are spared.
    fn patience(&self, bytes: usize) -> Duration {
        let slow = Duration::from_secs(
            (bytes.min(HELD_BACK_BYTES) / SLOWEST_LINK_BYTES_PER_SECOND) as u64,
        );
        PLAN_TIMEOUT * (1 << self.failures.min(4)) + slow
    }

    /// Drift: the same generation with other records can only be healed by sending all of them.
    fn beat(&mut self, generation: Generation, digest: SetDigest) -> Option<Effect> {
        // A datagram may be late: what it says of an older generation was true once.
        let late = self.spoke_held.0.covers(&generation) && generation != self.spoke_held.0;
        if late || self.in_flight.is_some() || self.spoke_held == (generation, digest) {
            return None;
        }
        self.spoke_held = (generation, digest);
        (self.held, self.planned) = (None, true);
        Some(Effect::Drifted)
    }

    /// Its disk does not take what it runs; whether that is what was sent. Else only everything helps.
    fn runs(&mut self, generation: Generation, digest: SetDigest) -> bool {
        let sent = self.in_flight.take_if(|sent| {
            sent.wanted.generation == generation && sent.wanted.set.digest() == digest
        });
        // It is here and does what is wanted, and nothing is done for good.
        self.failures = self.failures.max(1);
        self.loose = true;
        let Some(sent) = sent else {
            self.forget(generation);
            return false;
        };
        self.spoke_held = (generation, digest);
        self.held = Some(Held::of(generation, &*sent.wanted.set));
        true
    }

    fn took(&mut self, generation: Generation, digest: SetDigest, now: Duration) -> bool {
        self.spoke_held = (generation, digest);
        let was_loose = std::mem::take(&mut self.loose);
        let Some(sent) = self.in_flight.take_if(|sent| sent.wanted.generation == generation) else {
            let held = self.held.as_ref().map(|held| (held.generation, held.digest));
            let holds = was_loose && held == Some(self.spoke_held);
            if holds {
                (self.failures, self.reached) = (0, generation);
            }
            return holds;
        };
        if sent.wanted.set.digest() == digest {
            self.held = Some(Held::of(generation, &*sent.wanted.set));
            (self.failures, self.reached) = (0, generation);
            true
        } else {
            self.held = None;
            self.rewant(sent.wanted);
            // Once it may be the base that was mistaken: everything at once. Whoever makes something else of
            // that, too, will do so again.
            self.rest = (0 < self.failures).then(|| now + self.patience(0));
            self.failures = self.failures.saturating_add(1);
            false
        }
    }

    /// The hub no longer knows what the spoke holds: the newest set goes out whole.
    fn forget(&mut self, generation: Generation) {
        (self.held, self.planned) = (None, true);
        self.spoke_held = (generation, SetDigest::default());
        self.sending = None;
        if let Some(sent) = self.in_flight.take() {
            self.rewant(sent.wanted);
        }
    }

    fn rewant(&mut self, old: Wanted<S>) {
        if self.wanted.is_none() {
            self.wanted = Some(old);
        }
    }

    fn plan(&mut self, now: Duration) {
        let Some(wanted) = self.wanted.take() else { return };
        self.planned = true;
        let generation = self.spoke_held.0;
        // A number alone is not worth a write to the device's flash.
        if self.holds(&wanted) {
            if !self.loose {
                (self.failures, self.reached) = (0, wanted.generation);
            }
            // The next way is shorter from what is the newest of it.
            self.held = Some(Held::of(generation, &*wanted.set));
            return;
        }
        let same_life = generation.incarnation == wanted.generation.incarnation;
        let held = self.held.as_ref().filter(|_| same_life);
        let delta = held.and_then(|held| wanted.set.since(&held.members));
        let snapshot = delta.is_none();
        let whole = || Delta { put: wanted.set.whole(), remove: Vec::new() };
        let Delta { put, remove } = delta.unwrap_or_else(whole);
        let patience = self.patience(put.iter().map(|record| record.weight()).sum());
        self.sending = Some(Sending {
            base: generation,
            to: wanted.generation,
            snapshot,
            part: 0,
            put: put.into(),
            from: 0,
            remove: remove.into(),
        });
        self.in_flight = Some(InFlight { wanted, since: now, patience });
    }
}

impl Sending {
    /// The next part, of at most [`limits::PART_BYTES_MAX`] bytes.
    fn next_part(&mut self) -> PlanV1 {
        let Self { base, to, snapshot, part, .. } = *self;
        self.part += 1;
        let (mut put, mut remove, mut cut) = (Vec::new(), Vec::new(), false);
        let mut room = limits::PART_BYTES_MAX;
        while let Some(key) = self.remove.front() {
            if room < key.weight() && !remove.is_empty() {
                break;
            }
            room = room.saturating_sub(key.weight());
            remove.extend(self.remove.pop_front());
        }
        while let Some(record) = self.put.front() {
            let head = record.key.weight();
            let left = record.body.get(self.from..).unwrap_or_default();
            let fresh = put.is_empty() && remove.is_empty();
            // A record that fits into a part of its own is not worth cutting.
            if room < head + left.len() && !fresh {
                break;
            }
            let piece = left.len().min(room.saturating_sub(head).max(1));
            room = room.saturating_sub(head + piece);
            let (key, revision, needs) = (record.key.clone(), record.revision, record.needs);
            put.push(Record { key, revision, needs, body: left[..piece].to_vec() });
            if piece < left.len() {
                (self.from, cut) = (self.from + piece, true);
                break;
            }
            self.from = 0;
            self.put.pop_front();
        }
        let more = !(self.put.is_empty() && self.remove.is_empty());
        PlanV1 { base, to, snapshot, part, more, cut, put, remove }
    }
}

#[cfg(test)]
#[path = "hub_session_tests.rs"]
mod tests;
