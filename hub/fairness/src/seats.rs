//! All seats of one cluster: its levels, what each of them may use at the moment, and who waits.
//!
//! ```text
//! ask ─▶ level's queues ─▶ Granted | Waits ─▶ granted │ Refused
//!                             leave: it is over, was given up, or has waited for too long ─▶ who comes next is granted
//! ```
//!
//! Every [`SHARED_EVERY`] levels lend and borrow anew, by what they needed since. A level that is configured no more goes
//! when nobody is left in it.
//!
//! Guarantees:
//! - what is in use and what waits adds up, whatever comes in whatever order; nothing waits while its level has room
//!   (`whatever_happens_seats_add_up`);
//! - who asks for much gets the seats that others do not need, and gives them back (`seats_are_lent_and_come_back`);
//! - a level that goes serves those who are in it (`a_level_that_goes_serves_who_is_in_it`);
//! - levels lend and borrow also when nobody comes or goes, if somebody [looks](Seats::adjust)
//!   (`who_waits_alone_gets_what_others_lend`);
//! - exempt requests never wait (`who_is_exempt_never_waits`), and where there is a bound on them, those beyond it are
//!   refused (`a_cluster_that_calls_all_its_requests_exempt_has_a_bound`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::configuration::{CATCH_ALL, Class, Configuration};
use crate::demand::Demand;
use crate::priority_level::PriorityLevel;
use crate::queues::{Queues, Refusal};
use crate::sharing::{Need, Share, share_out};

/// How often levels lend and borrow anew.
const SHARED_EVERY: Duration = Duration::from_secs(10);
/// One request takes at most so many percent of its level's own seats.
const WIDTH_PERCENT_MAX: u32 = 15;

/// Seats of one cluster.
#[derive(Debug)]
pub struct Seats {
    total: u32,
    /// What exempt requests may take beside them.
    exempt: u32,
    configuration: Arc<Configuration>,
    levels: BTreeMap<Arc<str>, Level>,
    next: u64,
    shared: Duration,
    granted: Vec<u64>,
}

#[derive(Debug)]
struct Level {
    level: Arc<PriorityLevel>,
    /// It is configured no more.
    goes: bool,
    share: Share,
    queues: Queues,
    demand: Demand,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    served: u64,
    refused: u64,
    timed_out: u64,
    given_up: u64,
}

/// A request that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Tells it from all others of its cluster.
    pub number: u64,
    level: Arc<str>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is served.
    Granted(Ticket),
    /// It is to wait until [`Seats::granted`] names it.
    Waits(Ticket),
    /// It is not served.
    Refused(Refusal),
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is over; of one that waited, its client went away.
    Over,
    /// It has waited for as long as any does.
    TimedOut,
}

/// One level at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelState {
    /// Its name.
    pub name: Arc<str>,
    /// Whether there is no limit.
    pub is_exempt: bool,
    /// It is configured no more, and goes when nobody is left.
    pub goes: bool,
    /// Queues with something to do.
    pub active_queues: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that are served.
    pub executing: usize,
    /// Seats that they take.
    pub seats_in_use: u64,
    /// Its own seats.
    pub nominal: u32,
    /// What it may use now, with what it has borrowed and without what it has lent.
    pub current: u32,
    /// So far: served, refused at once, refused after a wait, given up by their clients.
    pub counts: [u64; 4],
}

impl Seats {
    /// So many, shared as this says, and for exempt requests so many beside them.
    #[must_use]
    pub fn new((total, exempt): (u32, u32), configuration: Arc<Configuration>) -> Self {
        let (levels, shared, granted) = (BTreeMap::new(), Duration::ZERO, Vec::new());
        let own = configuration.clone();
        let mut seats =
            Self { total, exempt, configuration: own, levels, next: 0, shared, granted };
        seats.configure(Duration::ZERO, configuration);
        seats
    }

    /// What they are shared by.
    #[must_use]
    pub fn configuration(&self) -> &Arc<Configuration> {
        &self.configuration
    }

    /// Goes on with another configuration.
    pub fn configure(&mut self, now: Duration, configuration: Arc<Configuration>) {
        let limited = configuration.levels.values();
        let all_shares = limited.map(|level| u64::from(level.shares)).sum();
        for (name, level) in &mut self.levels {
            level.goes = !configuration.levels.contains_key(name);
        }
        self.levels.retain(|_, level| !level.goes || !level.queues.is_idle());
        for (name, spec) in &configuration.levels {
            let share = Share::of(spec, self.total, all_shares);
            let level = self.levels.entry(name.clone()).or_insert_with(|| Level::new(spec, share));
            (level.level, level.share) = (spec.clone(), share);
            let current = level.queues.limit.clamp(share.least, share.most);
            level.set(if spec.is_exempt { self.exempt } else { current });
        }
        self.configuration = configuration;
        for level in self.levels.values_mut() {
            level.serve(now, &mut self.granted);
        }
    }

    /// A request of this class comes, which takes so many seats.
    pub fn ask(&mut self, now: Duration, class: &Class, width: u32) -> Asked {
        self.share(now);
        self.next += 1;
        let number = self.next;
        // A configuration may have come since it was classified.
        let name = match self.levels.get_key_value(&class.level.name) {
            Some((name, level)) if !level.goes => name.clone(),
            Some(_) | None => CATCH_ALL.into(),
        };
        let Some(level) = self.levels.get_mut(&name) else {
            return Asked::Refused(Refusal::ConcurrencyLimit);
        };
        let of = if level.level.is_exempt { self.total } else { level.share.nominal };
        let most = (u64::from(of) * u64::from(WIDTH_PERCENT_MAX)).div_ceil(100).max(1);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        if let Err(refusal) = level.queues.ask(now, (number, class.flow), width.clamp(1, most)) {
            level.counts.refused += 1;
            return Asked::Refused(refusal);
        }
        let ticket = Ticket { number, level: name };
        let before = self.granted.len();
        level.serve(now, &mut self.granted);
        if !level.queues.is_served(number) {
            return Asked::Waits(ticket);
        }
        let own = self.granted.iter().skip(before).position(|other| *other == number);
        match own {
            Some(own) => {
                self.granted.remove(before + own);
            }
            None => level.counts.served += 1,
        }
        Asked::Granted(ticket)
    }

    /// A request is over, or waits no more.
    pub fn leave(&mut self, now: Duration, ticket: &Ticket, end: End) {
        self.share(now);
        let Some(level) = self.levels.get_mut(&ticket.level) else { return };
        let was_served = level.queues.leave(now, ticket.number);
        match (was_served, end) {
            (Some(false), End::TimedOut) => level.counts.timed_out += 1,
            (Some(false), End::Over) => level.counts.given_up += 1,
            (Some(true) | None, _) => {}
        }
        level.serve(now, &mut self.granted);
        if level.goes && level.queues.is_idle() {
            self.levels.remove(&ticket.level);
        }
    }

    /// Has levels lend and borrow anew, when it is time: somebody has to call it while somebody waits. Answers when it is
    /// time again.
    pub fn adjust(&mut self, now: Duration) -> Duration {
        self.share(now);
        self.shared + SHARED_EVERY
    }

    /// Numbers of those who waited and are served now.
    pub fn granted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.granted)
    }

    /// Whether nobody is here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.levels.values().all(|level| level.queues.is_idle())
    }

    /// All levels, by name.
    pub fn levels(&self) -> impl Iterator<Item = LevelState> {
        self.levels.values().map(Level::state)
    }

    /// Has levels lend and borrow anew, when it is time.
    fn share(&mut self, now: Duration) {
        if now < self.shared + SHARED_EVERY {
            return;
        }
        self.shared = now;
        let stay = self.levels.values().filter(|level| !level.goes);
        let mut seats: f64 = stay.map(|level| f64::from(level.share.nominal)).sum();
        let (mut needs, mut names) = (Vec::new(), Vec::new());
        for (name, level) in self.levels.iter_mut().filter(|(_, level)| !level.goes) {
            let peak = level.demand.take_peak(now);
            let least = f64::from(level.share.least);
            if level.level.is_exempt {
                // It takes what it needs, of what others could have.
                seats -= least.max(peak);
                continue;
            }
            let own = least.max(peak.min(f64::from(level.share.nominal)));
            let (most, target) = (f64::from(level.share.most), own.max(level.demand.smoothed));
            needs.push(Need { least, own, most, target });
            names.push(name.clone());
        }
        for (name, given) in names.into_iter().zip(share_out(seats, &needs)) {
            if let Some(level) = self.levels.get_mut(&name) {
                // Who has shares is never without a seat.
                level.set(whole(given).max(level.share.nominal.min(1)));
                level.serve(now, &mut self.granted);
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seats are few")]
fn whole(seats: f64) -> u32 {
    seats.round().max(0.0) as u32
}

impl Level {
    fn new(spec: &Arc<PriorityLevel>, share: Share) -> Self {
        let queues = Queues::of(share.nominal);
        let (demand, counts) = (Demand::default(), Counts::default());
        Self { level: spec.clone(), goes: false, share, queues, demand, counts }
    }

    fn set(&mut self, current: u32) {
        self.queues.set(self.level.shape, current);
    }

    fn serve(&mut self, now: Duration, granted: &mut Vec<u64>) {
        let before = granted.len();
        self.queues.serve(now, granted);
        self.counts.served += (granted.len() - before) as u64;
        self.demand.set(now, self.queues.demand());
    }

    fn state(&self) -> LevelState {
        let Counts { served, refused, timed_out, given_up } = self.counts;
        LevelState {
            name: self.level.name.clone(),
            is_exempt: self.level.is_exempt,
            goes: self.goes,
            active_queues: self.queues.active(),
            waiting: self.queues.waiting,
            executing: self.queues.served(),
            seats_in_use: self.queues.seats_in_use,
            nominal: self.share.nominal,
            current: if self.level.is_exempt { self.share.nominal } else { self.queues.limit },
            counts: [served, refused, timed_out, given_up],
        }
    }
}

#[cfg(test)]
mod tests;
