//! The spoke's half of a session as pure logic: greeting, heartbeat, putting plans together, order of reports.
//!
//! ```text
//! hello ─▶ waiting ─Welcome─▶ up: heartbeat every 10 s, plan parts in, Took and reports out
//! ```
//!
//! Guarantees:
//! - a plan is handed on only when its last part has come and all parts agree
//!   (`a_plan_is_handed_on_when_its_last_part_has_come`, `a_record_in_pieces_is_put_together_and_must_go_on`);
//! - what it holds until then is at most a plan, [`limits::PLAN_BYTES_MAX`] (`a_plan_without_end_is_refused`);
//! - what waits to be sent is bounded: one report per pod, the newest, and [`MAX_EVENTS`] events
//!   (`a_newer_report_of_the_same_pod_takes_the_older_ones_place`,
//!   `waiting_events_are_bounded_and_the_oldest_go_first`), and no pod's is lost for that
//!   (`as_many_pods_wait_as_a_plan_can_name`);
//! - a plan that builds on something else than what is held is answered by asking for everything
//!   (`a_plan_on_a_foreign_base_is_answered_by_asking_for_everything`).
//!
//! Assumes: `now` comes from one monotonic clock. No I/O, no clock of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::digest::SetDigest;
use crate::generation::Generation;
use crate::limits;
use crate::message::{
    HEARTBEAT_SECONDS, HelloV1, HubToSpoke, PROTOCOLS, PlanV1, Reason, RefusalV1, SpokeToHub,
    WelcomeV1, bounded,
};
use crate::plan::RecordKey;
use crate::report::{Report, ReportStamp, UnixMillis};

/// Events that wait while the link is slow; the oldest go first.
pub const MAX_EVENTS: usize = 256;
/// Pods whose reports wait while the link is slow: as many as a plan can name, and as many that one before it has
/// named. No report is lost here, as the next one that is taken counts for all before it.
const WAITING_PODS_MAX: usize = 2 * limits::PLAN_BYTES_MAX / limits::RECORD_OVERHEAD_BYTES;
/// The hub answers a greeting at once; one that does not for this long is not there.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of a notice that are logged.
const NOTICE_BYTES_MAX: usize = 1024;

/// What something heard means for the spoke.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The session is up.
    Welcome(WelcomeV1),
    /// The hub's wall clock was set, and shows this.
    Now(UnixMillis),
    /// A whole plan.
    Plan(Box<PlanV1>),
    /// The hub has these.
    ReportsTaken(ReportStamp),
    /// The hub cannot keep this one.
    ReportRefused(ReportStamp, RefusalV1),
    /// The people of the device are to know this.
    Notice(String),
    /// The hub closes.
    Left(Reason),
}

/// A session with the hub, from the greeting to the end.
pub struct SpokeSession {
    welcome: Option<WelcomeV1>,
    started: Duration,
    last_beat: Duration,
    holds: (Generation, SetDigest),
    /// What runs, and is not durable: the hub is to hear of it, and the next plan builds on it.
    runs: Option<(Generation, SetDigest)>,
    base: Generation,
    took: bool,
    untold: bool,
    resync: bool,
    gathered: Option<Gathered>,
    waiting: Waiting,
}

impl SpokeSession {
    /// Begins with a greeting, which the driver sends first.
    #[must_use]
    pub fn new(hello: &HelloV1, now: Duration) -> Self {
        Self {
            welcome: None,
            started: now,
            last_beat: now,
            holds: (hello.held, hello.digest),
            runs: None,
            base: hello.held,
            took: false,
            untold: false,
            resync: false,
            gathered: None,
            waiting: Waiting::default(),
        }
    }

    /// The hub's greeting, once it has come.
    #[must_use]
    pub const fn welcome(&self) -> Option<&WelcomeV1> {
        self.welcome.as_ref()
    }

    /// A report to send. A newer one about the same thing takes its place.
    pub fn report(&mut self, stamp: ReportStamp, report: Report) {
        self.waiting.put(stamp, report);
    }

    /// The agent has made a plan durable.
    pub fn took(&mut self, generation: Generation, digest: SetDigest) {
        self.holds = (generation, digest);
        (self.runs, self.base, self.took) = (None, generation, true);
    }

    /// The agent runs a plan that its disk does not take.
    pub const fn runs(&mut self, generation: Generation, digest: SetDigest) {
        (self.runs, self.base, self.untold) = (Some((generation, digest)), generation, true);
    }

    /// Takes what the hub says.
    ///
    /// # Errors
    /// With the reason to close the session.
    pub fn receive(&mut self, message: HubToSpoke) -> Result<Option<Effect>, Reason> {
        match (message, self.welcome.is_some()) {
            (HubToSpoke::Goodbye(reason), _) => Ok(Some(Effect::Left(reason))),
            (HubToSpoke::Welcome(welcome), false) => {
                if !PROTOCOLS.has(welcome.protocol) {
                    return Err(Reason::Protocol(PROTOCOLS));
                }
                self.welcome = Some(welcome);
                Ok(Some(Effect::Welcome(welcome)))
            }
            (HubToSpoke::Welcome(_), true) => Err(Reason::Violation("a second welcome".into())),
            (_, false) => Err(Reason::Violation("something came before the welcome".into())),
            (HubToSpoke::Plan(part), true) => self.gather(part),
            (HubToSpoke::ReportsTaken(stamp), true) => Ok(Some(Effect::ReportsTaken(stamp))),
            (HubToSpoke::ReportRefused(stamp, why), true) => {
                Ok(Some(Effect::ReportRefused(stamp, why)))
            }
            (HubToSpoke::Now(now), true) => Ok(Some(Effect::Now(now))),
            (HubToSpoke::Notice(text), true) => {
                Ok(Some(Effect::Notice(bounded(text, NOTICE_BYTES_MAX))))
            }
            (HubToSpoke::Datagram(_), true) => {
                Err(Reason::Violation("a pod's datagram on the session's stream".into()))
            }
        }
    }

    /// The next message for the session's stream, if one is due.
    ///
    /// # Errors
    /// When the hub did not answer the greeting in time.
    pub fn poll(&mut self, now: Duration) -> Result<Option<SpokeToHub>, Reason> {
        if self.welcome.is_none() {
            let late = self.started + WELCOME_TIMEOUT <= now;
            return if late { Err(Reason::Silent) } else { Ok(None) };
        }
        let (generation, digest) = self.holds;
        if std::mem::take(&mut self.resync) {
            return Ok(Some(SpokeToHub::Resync { generation }));
        }
        if std::mem::take(&mut self.took) {
            return Ok(Some(SpokeToHub::Took { generation, digest }));
        }
        if std::mem::take(&mut self.untold)
            && let Some((generation, digest)) = self.runs
        {
            return Ok(Some(SpokeToHub::Runs { generation, digest }));
        }
        Ok(self.waiting.pop().map(|(stamp, report)| SpokeToHub::Report { stamp, report }))
    }

    /// The heartbeat, if it is due; a datagram.
    pub fn beat(&mut self, now: Duration) -> Option<SpokeToHub> {
        let welcome = self.welcome.as_ref()?;
        if now < self.last_beat + every(welcome) {
            return None;
        }
        self.last_beat = now;
        let (generation, digest) = self.holds;
        Some(SpokeToHub::Heartbeat { generation, digest })
    }

    /// When [`SpokeSession::poll`] has to be asked again though nothing has happened.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        self.welcome.is_none().then(|| self.started + WELCOME_TIMEOUT)
    }

    /// When the next heartbeat is due, once the session is up.
    #[must_use]
    pub fn next_beat(&self) -> Option<Duration> {
        self.welcome.as_ref().map(|welcome| self.last_beat + every(welcome))
    }

    fn gather(&mut self, part: PlanV1) -> Result<Option<Effect>, Reason> {
        if part.part == 0 {
            // What was never finished is not wanted any more.
            self.gathered = Some(Gathered::default());
        }
        let Some(gathered) = &mut self.gathered else {
            return Err(Reason::Violation("a plan without its beginning".into()));
        };
        let Some(plan) = gathered.take(part)? else { return Ok(None) };
        self.gathered = None;
        if !plan.snapshot && plan.base != self.base {
            // The hub is mistaken about what is held: only everything helps.
            self.resync = true;
            return Ok(None);
        }
        Ok(Some(Effect::Plan(Box::new(plan))))
    }
}

/// The parts of one plan that have come.
#[derive(Default)]
struct Gathered {
    plan: Option<PlanV1>,
    /// What is to be put, and what is to be removed, as [`limits::PLAN_BYTES_MAX`] counts it.
    weight: (usize, usize),
}

impl Gathered {
    /// Adds a part; the whole plan after the last one.
    fn take(&mut self, part: PlanV1) -> Result<Option<PlanV1>, Reason> {
        let goes_on = self.plan.as_ref().is_some_and(|plan| plan.cut);
        let heads = part.put.iter().skip(usize::from(goes_on)).map(|r| r.key.weight());
        let bodies = part.put.iter().map(|record| record.body.len());
        self.weight.0 += heads.chain(bodies).sum::<usize>();
        self.weight.1 += part.remove.iter().map(RecordKey::weight).sum::<usize>();
        if limits::PLAN_BYTES_MAX < self.weight.0.max(self.weight.1) {
            let text = format!("a plan of more than {} bytes", limits::PLAN_BYTES_MAX);
            return Err(Reason::Violation(text));
        }
        if part.cut && (!part.more || part.put.is_empty()) {
            return Err(Reason::Violation("a plan that ends within a record".into()));
        }
        let plan = match self.plan.take() {
            None => part,
            Some(plan) => join(plan, part)?,
        };
        if plan.more {
            self.plan = Some(plan);
            return Ok(None);
        }
        Ok(Some(plan))
    }
}

/// A plan's beginning with its next part.
fn join(mut plan: PlanV1, part: PlanV1) -> Result<PlanV1, Reason> {
    let same = (plan.base, plan.to, plan.snapshot) == (part.base, part.to, part.snapshot);
    if !same || plan.part.checked_add(1) != Some(part.part) {
        return Err(Reason::Violation("parts of different plans".into()));
    }
    let mut put = part.put.into_iter();
    if plan.cut {
        match (plan.put.last_mut(), put.next()) {
            (Some(begun), Some(rest)) if begun.key == rest.key => begun.body.extend(rest.body),
            _ => return Err(Reason::Violation("a record that does not go on".into())),
        }
    }
    plan.put.extend(put);
    plan.remove.extend(part.remove);
    (plan.part, plan.more, plan.cut) = (part.part, part.more, part.cut);
    Ok(plan)
}

/// The hub may ask for anything between a second and five minutes.
fn every(welcome: &WelcomeV1) -> Duration {
    let seconds = match welcome.heartbeat_seconds {
        0 => HEARTBEAT_SECONDS,
        seconds => seconds.min(300),
    };
    Duration::from_secs(u64::from(seconds))
}

/// Reports in the order of their stamps, the newest of each thing only.
#[derive(Default)]
struct Waiting {
    reports: BTreeMap<ReportStamp, Report>,
    newest: BTreeMap<String, ReportStamp>,
    events: usize,
}

impl Waiting {
    fn put(&mut self, stamp: ReportStamp, report: Report) {
        match subject(&report) {
            Some(subject) => {
                if let Some(old) = self.newest.insert(subject, stamp) {
                    self.reports.remove(&old);
                }
            }
            None => {
                self.events += 1;
                if MAX_EVENTS < self.events {
                    self.drop_oldest_event();
                }
            }
        }
        self.reports.insert(stamp, report);
        if WAITING_PODS_MAX < self.reports.len() {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<(ReportStamp, Report)> {
        let (stamp, report) = self.reports.pop_first()?;
        match subject(&report) {
            Some(subject) => {
                self.newest.remove(&subject);
            }
            None => self.events = self.events.saturating_sub(1),
        }
        Some((stamp, report))
    }

    fn drop_oldest_event(&mut self) {
        let oldest = self.reports.iter().find(|(_, r)| subject(r).is_none()).map(|(s, _)| *s);
        if let Some(stamp) = oldest {
            self.reports.remove(&stamp);
            self.events -= 1;
        }
    }
}

/// What a report is about, where a newer one says all that an older one did.
fn subject(report: &Report) -> Option<String> {
    match report {
        Report::Pod(pod) => Some(pod.uid.clone()),
        Report::PodGone { uid, .. } => Some(uid.clone()),
        Report::Node(_) => Some(String::new()),
        Report::Event(_) | Report::NodeEvent(_) => None,
    }
}

#[cfg(test)]
#[path = "spoke_session_tests.rs"]
mod tests;
