//! Who waits in one level, and whose turn it is.
//!
//! Each flow waits in the shortest queue of its [hand](crate::hand). Queues share the level's seats in virtual time: each
//! goes on in it by what it is served, and next is the one whose oldest request would be done first. It is now what the
//! first of those who waited would have begun at as somebody was served last, so that who uses what others leave is not
//! behind them for that, and where a request that comes begins at the earliest (start-time fair queueing). How long a request takes is known when it is over; until then a
//! short time stands for it.
//!
//! A part of the seats is kept for flows that have few: unlike upstream's, requests here last as long as their clients
//! are slow, and one flow would have all seats until they are over.
//!
//! Guarantees:
//! - no flow has the last quarter of the seats while it has many, and who has none is served with any that is free
//!   (`a_flow_leaves_seats_for_others`), also behind one who may have no more
//!   (`who_has_none_is_served_behind_one_who_may_have_no_more`);
//! - of two queues that always have something waiting each has half, however many wait in them, and however wide and
//!   long their requests are (`queues_share_the_seats`);
//! - who asks for little for long has no more for it later: no request begins before it has come
//!   (`who_asks_for_little_for_long_gains_no_credit`), also while somebody waits who may have no more seats
//!   (`who_may_have_no_more_seats_does_not_stop_time`);
//! - a request that takes more seats than are free is waited for: none that came later goes before it for ever
//!   (`a_wide_request_has_its_turn`);
//! - a queue takes so many and no more (`a_full_queue_refuses`); where there is none, nobody waits
//!   (`without_queues_nobody_waits`), and where there are no seats, nobody is served
//!   (`without_seats_nobody_is_served`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::priority_level::Shape;
use crate::shuffle_shard;

/// Stands for the time that a request takes until it is over.
const ESTIMATED_SERVICE_TIME: Duration = Duration::from_millis(3);

/// One part in so many of the seats is kept for flows that have few.
const KEPT_SEATS_DIVISOR: u64 = 4;
/// Of what is free then, a flow has one part in so many.
const FLOW_SHARE_DIVISOR: u64 = 3;

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// As many wait as may.
    QueueFull,
    /// All seats are taken, and nobody waits here.
    ConcurrencyLimit,
    /// It has waited for as long as any does.
    TimedOut,
}

impl Refusal {
    /// As upstream's figures call it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimedOut => "time-out",
        }
    }
}

/// The queues of one level, and what is served of it.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    shape: Option<Shape>,
    pub(crate) limit: u32,
    /// Those alone in which somebody waits or is served: there may be millions of others.
    queues: BTreeMap<u32, Queue>,
    requests: BTreeMap<u64, RequestState>,
    /// Seats that each flow has.
    flows: BTreeMap<u64, u64>,
    pub(crate) seats_in_use: u64,
    seats_waited_for: u64,
    pub(crate) waiting: usize,
    /// In seconds of seats: when the first of those who waited began, as somebody was served last.
    virtual_time: f64,
    /// The queue that was served last.
    last: u32,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    seats_waited_for: u64,
    seats_in_use: u64,
    served: usize,
    /// When those that are served began, of each of their seats, in seconds.
    since: f64,
    /// When its next request begins, in virtual time.
    begins: f64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    number: u64,
    flow: u64,
    width: u32,
    /// When it came, in virtual time.
    came: f64,
}

/// Whose turn it is.
struct Next {
    queue: u32,
    /// In that.
    place: usize,
    /// When the first of all that wait would begin, in virtual time.
    earliest: f64,
}

#[derive(Clone, Copy, Debug)]
struct RequestState {
    queue: Option<u32>,
    flow: u64,
    width: u32,
    /// Since when it is served.
    since: Option<Duration>,
}

fn seat_seconds(width: u32, time: Duration) -> f64 {
    f64::from(width) * time.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests are there")]
const fn real(number: u64) -> f64 {
    number as f64
}

impl Queue {
    /// When its next request begins if those that are served end now.
    fn would_begin(&self, now: Duration) -> f64 {
        let took =
            real(self.seats_in_use) * (now.as_secs_f64() - ESTIMATED_SERVICE_TIME.as_secs_f64());
        self.begins + (took - self.since).max(0.0)
    }

    /// A queue that never gets empty, and uses less than its part, would fall behind virtual time for ever, and then go
    /// before all others until it has caught up.
    fn begin_no_earlier_than_it_came(&mut self) {
        if let Some(first) = self.waiting.front() {
            self.begins = self.begins.max(first.came);
        }
    }
}

impl Queues {
    /// None yet, and so many seats.
    pub(crate) fn of(limit: u32) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Goes on with these queues and so many seats.
    pub(crate) fn set(&mut self, shape: Option<Shape>, limit: u32) {
        (self.shape, self.limit) = (shape, limit);
    }

    /// Seats that are used or waited for.
    pub(crate) fn demand(&self) -> f64 {
        real(self.seats_in_use + self.seats_waited_for)
    }

    /// How many queues have something to do.
    pub(crate) fn active(&self) -> usize {
        self.queues.len()
    }

    pub(crate) fn served(&self) -> usize {
        self.requests.len() - self.waiting
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// A request comes. Who is taken waits for [`Queues::serve`].
    pub(crate) fn ask(
        &mut self,
        now: Duration,
        (number, flow): (u64, u64),
        width: u32,
    ) -> Result<(), Refusal> {
        let Some(shape) = self.shape else {
            if self.limit == 0 || !self.fits(width) || !self.may_have(flow, width) {
                return Err(Refusal::ConcurrencyLimit);
            }
            self.requests
                .insert(number, RequestState { queue: None, flow, width, since: Some(now) });
            *self.flows.entry(flow).or_default() += u64::from(width);
            self.seats_in_use += u64::from(width);
            return Ok(());
        };
        let at = self.shortest(flow, shape).ok_or(Refusal::QueueFull)?;
        let virtual_time = self.virtual_time;
        let queue = self
            .queues
            .entry(at)
            .or_insert_with(|| Queue { begins: virtual_time, ..Queue::default() });
        queue.waiting.push_back(Waiting { number, flow, width, came: virtual_time });
        queue.begin_no_earlier_than_it_came();
        queue.seats_waited_for += u64::from(width);
        self.seats_waited_for += u64::from(width);
        self.waiting += 1;
        self.requests.insert(number, RequestState { queue: Some(at), flow, width, since: None });
        Ok(())
    }

    /// Whether there are so many seats. What is wider than all there are has its turn when it is alone.
    fn fits(&self, width: u32) -> bool {
        self.seats_in_use == 0 || self.seats_in_use + u64::from(width) <= u64::from(self.limit)
    }

    /// Whether a flow may have so many more.
    fn may_have(&self, flow: u64, width: u32) -> bool {
        let (width, limit) = (u64::from(width), u64::from(self.limit));
        let own = self.flows.get(&flow).copied().unwrap_or_default();
        let free = limit.saturating_sub(self.seats_in_use);
        own == 0 || limit / KEPT_SEATS_DIVISOR < free || FLOW_SHARE_DIVISOR * (own + width) <= free
    }

    /// Of those of a flow that have room, the one that has least to do.
    fn shortest(&self, flow: u64, shape: Shape) -> Option<u32> {
        let queue = |at: &u32| self.queues.get(at);
        let has_room =
            |at: &u32| queue(at).is_none_or(|queue| queue.waiting.len() < shape.length as usize);
        let work =
            |at: &u32| queue(at).map_or(0, |queue| queue.seats_waited_for + queue.seats_in_use);
        let hand = shuffle_shard::deal(flow, shape.queues, shape.hand_size);
        hand.into_iter().filter(has_room).min_by_key(work)
    }

    /// Whether it is served by now.
    pub(crate) fn is_served(&self, number: u64) -> bool {
        self.requests.get(&number).is_some_and(|place| place.since.is_some())
    }

    /// Serves all whose turn it is.
    pub(crate) fn serve(&mut self, now: Duration, granted: &mut Vec<u64>) {
        if self.waiting == 0 {
            return;
        }
        while self.seats_in_use < u64::from(self.limit)
            && let Some(Next { queue: at, place, earliest }) = self.next(now)
            && let Some(queue) = self.queues.get_mut(&at)
            && let Some(Waiting { number, flow, width, .. }) = queue.waiting.get(place).copied()
        {
            let seats = u64::from(width);
            // Those behind it would keep it waiting for ever.
            if self.seats_in_use != 0 && u64::from(self.limit) < self.seats_in_use + seats {
                return;
            }
            queue.waiting.remove(place);
            self.virtual_time = self.virtual_time.max(earliest);
            queue.served += 1;
            queue.since += seat_seconds(width, now);
            queue.begins += seat_seconds(width, ESTIMATED_SERVICE_TIME);
            queue.begin_no_earlier_than_it_came();
            (queue.seats_waited_for, queue.seats_in_use) =
                (queue.seats_waited_for - seats, queue.seats_in_use + seats);
            (self.seats_waited_for, self.seats_in_use) =
                (self.seats_waited_for - seats, self.seats_in_use + seats);
            (self.waiting, self.last) = (self.waiting - 1, at);
            if let Some(request) = self.requests.get_mut(&number) {
                request.since = Some(now);
                *self.flows.entry(flow).or_default() += seats;
            }
            granted.push(number);
        }
    }

    /// Of the oldest requests in each queue that may have their seats the one that would be done first; of several the next
    /// one round. And when the first of all that wait would begin, of those as well who may have no more seats. Those are
    /// told by what they use until now: time would stand still for as long as their clients are slow, and who comes later
    /// would go before those who were served meanwhile.
    fn next(&self, now: Duration) -> Option<Next> {
        let (mut best, mut earliest): (Option<(f64, u32, usize)>, _) = (None, f64::INFINITY);
        let behind = self.queues.range(self.last.saturating_add(1)..);
        for (at, queue) in behind.chain(self.queues.range(..=self.last)) {
            if queue.waiting.is_empty() {
                continue;
            }
            let place = self.first_that_may(queue);
            let is_first = place == Some(0);
            earliest = earliest.min(if is_first { queue.begins } else { queue.would_begin(now) });
            let Some((place, width)) =
                place.and_then(|at| Some((at, queue.waiting.get(at)?.width)))
            else {
                continue;
            };
            let done = queue.begins + seat_seconds(width, ESTIMATED_SERVICE_TIME);
            if best.is_none_or(|(first, ..)| done < first) {
                best = Some((done, *at, place));
            }
        }
        best.map(|(_, queue, place)| Next { queue, place, earliest })
    }

    /// The first in a queue whose flow may have its seats: one that may not is not in the way of those behind it.
    fn first_that_may(&self, queue: &Queue) -> Option<usize> {
        // Most of those in a row are of one flow.
        let mut refused = None;
        queue.waiting.iter().position(|one| {
            let asks = (one.flow, one.width);
            let may = refused != Some(asks) && self.may_have(one.flow, one.width);
            if !may {
                refused = Some(asks);
            }
            may
        })
    }

    /// A request is over, or waits no more: answers whether it was served.
    pub(crate) fn leave(&mut self, now: Duration, number: u64) -> Option<bool> {
        let place = self.requests.remove(&number)?;
        let seats = u64::from(place.width);
        if place.since.is_some() {
            self.seats_in_use -= seats;
            let own = self.flows.entry(place.flow).or_default();
            *own -= seats;
            if *own == 0 {
                self.flows.remove(&place.flow);
            }
        } else {
            self.seats_waited_for -= seats;
            self.waiting -= 1;
        }
        if let Some(at) = place.queue
            && let Some(queue) = self.queues.get_mut(&at)
        {
            if let Some(since) = place.since {
                queue.served -= 1;
                queue.since -= seat_seconds(place.width, since);
                queue.seats_in_use -= seats;
                let took = now.saturating_sub(since);
                queue.begins += seat_seconds(place.width, took)
                    - seat_seconds(place.width, ESTIMATED_SERVICE_TIME);
            } else {
                queue.seats_waited_for -= seats;
                queue.waiting.retain(|other| other.number != number);
            }
            queue.begin_no_earlier_than_it_came();
            if queue.served == 0 && queue.waiting.is_empty() {
                self.queues.remove(&at);
            }
        }
        Some(place.since.is_some())
    }
}

#[cfg(test)]
mod tests;
