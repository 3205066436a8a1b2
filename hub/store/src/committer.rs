//! One writer for a durable backend: checks, batches, makes durable, publishes, answers.
//!
//! ```text
//! commit ─ check against pending ─▶ waiting ─┐            (while a batch is being written,
//! commit ─ check against pending ─▶ waiting ─┤             the next one gathers)
//!                                            ▼
//!                 writer thread: one durable write ─▶ publish ─▶ answer all ─▶ call watchers
//! ```
//!
//! Guarantees:
//! - nothing is seen or answered before it is durable, also not that an expectation was unmet because of it
//!   (`nothing_is_answered_or_seen_before_it_is_durable`), or met
//!   (`what_was_relied_upon_is_durable_before_it_is_answered`);
//! - a batch that cannot be written takes those built upon it along
//!   (`a_lost_batch_takes_along_what_was_built_upon_it`), in whichever batch they are
//!   (`a_lost_batch_takes_along_all_that_are_in_line`);
//! - a batch is no larger than a part of what the history keeps, unless one transaction alone is: who has read what was
//!   before the last two of them can go on (`what_gathers_is_written_in_batches_of_a_bounded_size`);
//! - revisions that were skipped stay skipped, and what was in line before keeps the one that it was given
//!   (`what_was_skipped_stays_skipped_when_a_batch_is_lost`, `what_was_in_line_before_a_skip_keeps_its_revision`); nothing
//!   is durable beyond them without their mark (`the_first_write_beyond_a_skip_takes_its_mark_along`);
//! - what waits, is being written or is in doubt holds at most [`WAITING_BYTES_MAX`], what it takes away or replaces
//!   included, also when nobody waits for the answer any more
//!   (`so_much_waits_for_a_disk_that_stands_still_and_the_rest_is_refused`,
//!   `what_is_taken_away_waits_with_all_that_it_holds`); beside a batch in doubt
//!   there is always place for one transaction, as a try to write is what ends the doubt
//!   (`a_batch_in_doubt_has_its_place_in_line_and_one_that_ends_the_doubt_finds_one`);
//! - nobody waits for a writer that has died (`a_writer_that_died_leaves_nobody_waiting`).

mod steps;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::history::Wakeups;
use crate::prepare::{Skip, prepare_next};
use crate::store_state::StoreState;
use crate::watch_cache::WatchCache;
use crate::{CommitError, Committed, Event, Expect, Resealed, Revision, Txn};

/// Most bytes of memory that transactions hold between their check and the disk's answer. A disk may stand still for
/// as long as it likes, and who drops its request does not take the transaction back.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Most bytes of memory of the transactions that are written at a time, unless one alone has more: a third of the past
/// that all watchers share ([`crate::Limits`]).
const BATCH_BYTES_MAX: usize = 8 << 20;
/// What one of them holds beside its objects.
const WAITING_TXN_BYTES: usize = 1 << 10;
/// And each of its events.
const EVENT_BYTES: usize = 128;

/// What makes batches durable.
pub(crate) trait Log: Send + 'static {
    /// Writes the events of whole revisions, the last being `revision`, all or none.
    fn write(&mut self, events: &[Event], revision: Revision) -> Result<(), Failure>;

    /// Writes some of what lies otherwise on disk than it would be written now, beginning at this key.
    fn reseal(&mut self, from: &[u8]) -> Result<Resealed, Failure>;

    /// Counts how much of its file is in use.
    fn count_spare(&mut self) -> Result<(), Failure>;

    /// Those of a batch that failed and may be on disk nevertheless: they are held until that is known.
    fn doubtful(&self) -> &[Event];
}

/// Why a batch was not written.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The disk refused.
    Refused(String),
    /// An earlier batch that was thought lost turned out to be on disk. These are its events; this
    /// batch was built without it and was not written.
    Found(Vec<Event>),
}

type Answer = Result<Committed, CommitError>;

struct Waiting {
    caller: oneshot::Sender<Answer>,
    answer: Answer,
}

/// Somebody waits for a step of resealing.
struct ResealStep {
    from: Vec<u8>,
    caller: oneshot::Sender<Result<Resealed, CommitError>>,
}

/// Transactions that are written together.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    waiting: Vec<Waiting>,
    /// About how many bytes of memory it holds.
    bytes: usize,
}

struct Inbox {
    /// The newest state that a transaction may be built upon; ahead of what is durable.
    pending: StoreState,
    /// What is skipped, also when a batch is lost and what follows is built anew.
    skip: Option<Skip>,
    /// Batches that take no more, with the states that they lead to.
    full: VecDeque<(Batch, StoreState)>,
    /// What is in line behind them.
    batch: Batch,
    /// To be taken after the next batch, or when there is none. Another one takes its place.
    reseal: Option<ResealStep>,
    /// Those who wait for a count, which comes then as well.
    counts: Vec<oneshot::Sender<Result<(), CommitError>>>,
    held: Line,
    /// Where who committed last runs; see [`call`].
    workers: Option<Handle>,
    closed: bool,
}

/// About how many bytes are held.
#[derive(Default)]
struct Line {
    waits: usize,
    /// What is being written.
    written: usize,
    doubtful: usize,
}

impl Line {
    /// Whether there is room for what holds so much.
    fn has_room(&self, bytes: usize) -> bool {
        let busy = self.waits + self.written;
        busy == 0 || busy + self.doubtful + bytes <= WAITING_BYTES_MAX
    }
}

impl Inbox {
    /// Makes room in line for what changes so much; false when there is none.
    fn takes(&mut self, events: &[Event]) -> bool {
        let bytes = WAITING_TXN_BYTES + bytes_of(events);
        let fits = self.held.has_room(bytes);
        if fits {
            if 0 < self.batch.bytes && BATCH_BYTES_MAX < self.batch.bytes + bytes {
                let full = std::mem::take(&mut self.batch);
                self.full.push_back((full, self.pending.clone()));
            }
            self.batch.bytes += bytes;
            self.held.waits += bytes;
        }
        fits
    }

    /// The next batch to write, with the state that it leads to.
    fn next_batch(&mut self) -> (Batch, StoreState) {
        let last = |inbox: &mut Self| (std::mem::take(&mut inbox.batch), inbox.pending.clone());
        let next = self.full.pop_front().unwrap_or_else(|| last(self));
        self.held.written = next.0.bytes;
        self.held.waits = self.held.waits.saturating_sub(next.0.bytes);
        next
    }

    fn is_idle(&self) -> bool {
        self.full.is_empty() && self.batch.waiting.is_empty()
    }

    /// Whether somebody waits for what is done between two batches.
    fn has_steps(&self) -> bool {
        self.reseal.is_some() || !self.counts.is_empty()
    }

    /// Takes all that wait out of line.
    fn turn_away(&mut self) -> Vec<Waiting> {
        let full = std::mem::take(&mut self.full).into_iter().map(|(batch, _)| batch);
        full.chain([std::mem::take(&mut self.batch)]).flat_map(|batch| batch.waiting).collect()
    }
}

fn bytes_of(events: &[Event]) -> usize {
    let both = events.iter().flat_map(|event| event.now.iter().chain(&event.before));
    events.len() * EVENT_BYTES + both.map(|stored| stored.held()).sum::<usize>()
}

struct Shared {
    cache: Arc<WatchCache>,
    inbox: Mutex<Inbox>,
    wake: Condvar,
}

/// The front of the writer; dropping it writes what waits and ends the thread.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the writer thread over what the watch cache shows.
    pub(crate) fn start(cache: Arc<WatchCache>, mut log: impl Log) -> std::io::Result<Self> {
        let inbox = Inbox {
            pending: StoreState::clone(&cache.state()),
            skip: None,
            full: VecDeque::new(),
            batch: Batch::default(),
            reseal: None,
            counts: Vec::new(),
            held: Line::default(),
            workers: None,
            closed: false,
        };
        let shared = Arc::new(Shared { cache, inbox: Mutex::new(inbox), wake: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let writer =
            std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
                // Also when the writer panics, nobody may wait for it any more.
                let gone = Gone(theirs);
                while gone.0.write_one(&mut log) {}
            })?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// The next transaction gets a revision beyond these, and takes their mark along.
    pub(crate) fn skip_to(&self, skip: Skip) {
        let beyond = skip.beyond;
        skip.put_into(&mut self.shared.inbox.lock().skip);
        self.shared.cache.skip_to(beyond);
    }

    /// The next transaction gets a revision beyond these, of which this life has none.
    pub(crate) fn leave_out(&self, beyond: Revision) {
        Skip { beyond, mark: None }.put_into(&mut self.shared.inbox.lock().skip);
        self.shared.cache.leave_out(beyond);
    }

    /// Answers when the transaction is durable or refused.
    pub(crate) async fn commit(&self, txn: Txn) -> Answer {
        let answer = match self.shared.enter(txn) {
            Entered::Answered(answer) => return answer,
            Entered::Waits(answer) => answer,
        };
        answer.await.unwrap_or(Err(CommitError::Stopped))
    }

    /// Answers when the step is done.
    pub(crate) async fn reseal(&self, from: Vec<u8>) -> Result<Resealed, CommitError> {
        let (caller, answer) = oneshot::channel();
        {
            let mut inbox = self.shared.inbox.lock();
            if inbox.closed {
                return Err(CommitError::Stopped);
            }
            inbox.reseal = Some(ResealStep { from, caller });
        }
        self.shared.wake.notify_one();
        answer.await.unwrap_or(Err(CommitError::Stopped))
    }

    /// Answers when it is counted how much of the file is in use.
    pub(crate) async fn count_spare(&self) -> Result<(), CommitError> {
        let (caller, answer) = oneshot::channel();
        {
            let mut inbox = self.shared.inbox.lock();
            if inbox.closed {
                return Err(CommitError::Stopped);
            }
            inbox.counts.push(caller);
        }
        self.shared.wake.notify_one();
        answer.await.unwrap_or(Err(CommitError::Stopped))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.inbox.lock().closed = true;
        self.shared.wake.notify_all();
        if let Some(Err(_)) = self.writer.take().map(JoinHandle::join) {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Turns everybody away when the writer's thread ends.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox.lock();
        inbox.closed = true;
        // Dropping the senders answers who waits.
        drop(inbox.turn_away());
        inbox.reseal = None;
        inbox.counts.clear();
    }
}

enum Entered {
    Answered(Answer),
    Waits(oneshot::Receiver<Answer>),
}

impl Shared {
    /// Checks a transaction against the pending state and puts it in line.
    fn enter(&self, txn: Txn) -> Entered {
        let mut inbox = self.inbox.lock();
        if inbox.closed {
            return Entered::Answered(Err(CommitError::Stopped));
        }
        // This hub is the only one that writes here. What is in line already keeps the revision that it has.
        let prepared = prepare_next(&inbox.pending, 1, inbox.skip.as_ref(), txn);
        let (answer, expect) = match prepared {
            Err(error) => (Err(error), Vec::new()),
            Ok(prepared) => {
                let revision = prepared.state.revision;
                if !prepared.events.is_empty() {
                    if !inbox.takes(&prepared.events) {
                        return Entered::Answered(Err(CommitError::Busy));
                    }
                    inbox.pending = prepared.state;
                    inbox.batch.events.extend(prepared.events);
                    let answer = Ok(Committed { revision, results: prepared.results });
                    return Self::line_up(&mut inbox, &self.wake, answer);
                }
                (Ok(Committed { revision, results: prepared.results }), prepared.expect)
            }
        };
        // Nothing to write. Who learned of something that is not durable yet waits until it is.
        match self.settle(answer, &expect, &inbox.pending) {
            Ok(answer) => Entered::Answered(answer),
            Err(_) if !inbox.takes(&[]) => Entered::Answered(Err(CommitError::Busy)),
            Err(answer) => Self::line_up(&mut inbox, &self.wake, answer),
        }
    }

    fn line_up(inbox: &mut Inbox, wake: &Condvar, answer: Answer) -> Entered {
        let (caller, receiver) = oneshot::channel();
        inbox.batch.waiting.push(Waiting { caller, answer });
        inbox.workers = workers();
        wake.notify_one();
        Entered::Waits(receiver)
    }

    /// The answer, when it follows from durable state alone; else it comes back.
    fn settle(
        &self,
        answer: Answer,
        expect: &[Expect],
        pending: &StoreState,
    ) -> Result<Answer, Answer> {
        let durable = self.cache.state();
        if durable.revision == pending.revision {
            return Ok(answer);
        }
        let is_durable = |key| match (durable.find(key), pending.find(key)) {
            (Some(durable), Some(pending)) => Arc::ptr_eq(durable, pending),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        match answer {
            Err(
                CommitError::TooLarge(_)
                | CommitError::Busy
                | CommitError::Unavailable(_)
                | CommitError::Stopped,
            ) => Ok(answer),
            Err(CommitError::Unmet { found: Some(ref found), .. }) => {
                let same = durable.find(&found.key).is_some_and(|now| Arc::ptr_eq(now, found));
                if same { Ok(answer) } else { Err(answer) }
            }
            Err(
                CommitError::Unmet { found: None, .. }
                | CommitError::ClusterFull { .. }
                | CommitError::Malformed(_),
            ) => Err(answer),
            Ok(committed) => {
                let old = |stored: &Option<Arc<crate::Stored>>| {
                    stored.as_ref().is_some_and(|stored| stored.revision <= durable.revision)
                };
                let relied = expect.iter().all(|expected| is_durable(expected.key()));
                if relied && committed.results.iter().all(old) {
                    return Ok(Ok(Committed { revision: durable.revision, ..committed }));
                }
                Err(Ok(committed))
            }
        }
    }

    /// Writes what waits; false when there will be nothing more.
    fn write_one(&self, log: &mut impl Log) -> bool {
        let (Batch { events, waiting, .. }, state, workers) = {
            let mut inbox = self.inbox.lock();
            while inbox.is_idle() {
                if inbox.closed {
                    return false;
                }
                if inbox.has_steps() {
                    break;
                }
                self.wake.wait(&mut inbox);
            }
            let (batch, state) = inbox.next_batch();
            let workers =
                if inbox.is_idle() { inbox.workers.take() } else { inbox.workers.clone() };
            (batch, state, workers)
        };
        if waiting.is_empty() {
            self.take_steps(log);
            return true;
        }
        let written = if events.is_empty() { Ok(()) } else { log.write(&events, state.revision) };
        match written {
            Ok(()) => {
                let calls = (!events.is_empty()).then(|| self.cache.publish(state, &events));
                let held = &mut self.inbox.lock().held;
                (held.written, held.doubtful) = (0, 0);
                for Waiting { caller, answer } in waiting {
                    // Who asked may have gone meanwhile.
                    let _ = caller.send(answer);
                }
                call(calls, workers);
            }
            Err(failure) => self.fail(failure, bytes_of(log.doubtful()), waiting),
        }
        self.take_steps(log);
        true
    }

    /// Goes back to what is durable and tells everybody who built upon more.
    fn fail(&self, failure: Failure, doubtful: usize, mut waiting: Vec<Waiting>) {
        let why = match failure {
            Failure::Refused(why) => why,
            Failure::Found(events) => {
                let mut state = StoreState::clone(&self.cache.state());
                for event in &events {
                    state.apply(event);
                }
                drop(self.cache.publish(state, &events));
                "the disk has just come back".to_owned()
            }
        };
        tracing::warn!(error = why, commits = waiting.len(), "the store could not write");
        {
            let mut inbox = self.inbox.lock();
            inbox.pending = StoreState::clone(&self.cache.state());
            waiting.extend(inbox.turn_away());
            inbox.held = Line { doubtful, ..Line::default() };
        }
        for Waiting { caller, .. } in waiting {
            let _ = caller.send(Err(CommitError::Unavailable(why.clone())));
        }
    }
}

/// The runtime that the caller runs in, when it has threads of its own: what is given to one that
/// its owner drives would wait for the owner.
fn workers() -> Option<Handle> {
    let runtime = Handle::try_current().ok()?;
    (runtime.runtime_flavor() == RuntimeFlavor::MultiThread).then_some(runtime)
}

/// Calls the watchers from inside the runtime if possible: a worker puts those whom it wakes into its
/// own queue, everybody else goes through a lock and a system call for each of them.
fn call(calls: Option<Wakeups>, workers: Option<Handle>) {
    match (calls, workers) {
        // A runtime that is shutting down drops the task, which calls them as well.
        (Some(calls), Some(workers)) if !calls.is_empty() => {
            drop(workers.spawn(async move { drop(calls) }));
        }
        (calls, _) => drop(calls),
    }
}

#[cfg(test)]
mod tests;
