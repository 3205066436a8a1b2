//! Instances of an HTTP container: made when requests come, dropped after one or, where the pod or the module says
//! so, used again.
//!
//! An instance serves one request at a time and in its life as many as its pod or its module says. The one that served
//! last serves next, so that those that a peak has made can go.
//!
//! Guarantees:
//! - there are no more than `concurrency` instances, and a request waits [`INSTANCE_WAIT_SECONDS`] seconds for one
//!   before it is turned away (`a_full_handler_says_so_soon`, `requests_wait_for_instances_instead_of_failing`), also
//!   where the memory is taken by what clients have sent
//!   (`requests_wait_while_half_heads_have_the_memory_of_an_instance`), or by others of its pod and its node
//!   (`a_request_waits_while_its_pod_s_memory_is_with_others`);
//! - what an instance was started for stays its own, whatever clients send from then on
//!   (`heads_that_come_later_leave_instances_what_they_were_started_for`);
//! - who has no memory although its own share of the limit would do is told to come again, and not that it failed
//!   (`a_request_that_others_leave_no_memory_is_told_to_come_again`,
//!   `an_instance_that_others_leave_no_more_memory_has_its_client_come_again`);
//! - what makes an instance, the module's own word included, is within the time of the request that it is made for
//!   (`making_an_instance_is_within_the_request_s_time`);
//! - a trap or an instance that is out of memory ends the request that caused it and nothing else
//!   (`a_handler_that_traps_fails_its_request_alone`, `a_request_that_eats_memory_ends_alone`);
//! - an instance that gave no answer, or half of one, is not used again
//!   (`an_instance_that_gave_no_answer_is_not_used_again`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use freewheel_spoke_account::{Held, Queue};
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::answer_memory::{self, AnswerMemory};
use super::client_memory::ClientMemory;
use super::connection_slots::ConnectionSlot;
use super::failure::Failure;
use super::failure_counts::FailureCounts;
use super::request_body::RequestBody;
use super::request_heads::Waiting;
use crate::container::Container;
use crate::handler::Handler;
use crate::memory::ContainerMemory;
use crate::metered::{self, GuestEnd};
use crate::world;

mod instance;

/// Requests that wait for an instance; more are turned away at once.
const WAITING_REQUESTS_MAX: usize = 1024;

/// Seconds that a request waits for an instance.
const INSTANCE_WAIT_SECONDS: u32 = 5;

/// What a guest has answered, and the memory of that.
type Answer = Result<(Response<HyperOutgoingBody>, AnswerMemory), Failure>;

/// A request and who waits for its answer.
struct Job {
    request: Request<RequestBody>,
    /// Its head's place among those that wait.
    waiting: Option<Waiting>,
    answer: oneshot::Sender<Answer>,
    slot: Arc<ConnectionSlot>,
    over: CancellationToken,
    since: u32,
    /// What was not there when an instance was to be made for it.
    lacked: Option<String>,
}

#[derive(Default)]
struct Inner {
    idle: Vec<oneshot::Sender<Job>>,
    waiting: Queue<Job>,
    instances: usize,
    /// Memory of the largest instance so far: whether another one fits.
    instance_bytes: usize,
    /// An instance could not be made: none is, until something of the memory is free again, or at the next tick.
    short: bool,
}

impl Inner {
    /// What so many instances are started for: each will be as large as the largest was, and has an answer on its way,
    /// beside the next one, whose body counts as the guest's until it is given to its client.
    const fn promised(&self, instances: usize) -> usize {
        let answers = world::SENT_BODY_BYTES + answer_memory::BODY_BYTES;
        (self.instance_bytes + answers).saturating_mul(instances)
    }
}

/// The instances of one HTTP container.
pub(crate) struct Pool {
    container: Arc<Container>,
    handler: Arc<Handler>,
    clients: ClientMemory,
    inner: Mutex<Inner>,
    failure_counts: FailureCounts,
    failures: AtomicU64,
}

impl Pool {
    /// `least`: bytes of memory that an instance starts with.
    pub(crate) fn new(container: Arc<Container>, handler: Arc<Handler>, least: usize) -> Arc<Self> {
        let inner = Mutex::new(Inner { instance_bytes: least, ..Inner::default() });
        let (failure_counts, failures) = (FailureCounts::default(), AtomicU64::new(0));
        let clients = ClientMemory::new(&container.memory);
        Arc::new(Self { container, handler, clients, inner, failure_counts, failures })
    }

    /// Seconds that a request has until its answer begins.
    pub(super) fn timeout_seconds(&self) -> u32 {
        self.container.start.http.timeout_seconds
    }

    /// Sockets that its pod may have.
    pub(super) fn sockets(&self) -> usize {
        self.container.pod.sockets_max()
    }

    /// How many of them are free.
    pub(super) fn sockets_left(&self) -> usize {
        self.sockets().saturating_sub(self.container.pod.sockets())
    }

    /// A name for a request that failed: unique within the node, as good as unique beyond it.
    pub(super) fn request_id(&self) -> String {
        let number = self.failures.fetch_add(1, Relaxed);
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), number);
        format!("{random:016x}")
    }

    /// The container's memory, for what is held for its clients.
    pub(super) fn memory(&self) -> Arc<ContainerMemory> {
        self.clients.memory()
    }

    /// A line in the container's log.
    pub(super) fn note(&self, line: &str) {
        self.container.log.note(&format!("freewheel: {line}"));
    }

    /// Has a request answered. `waiting`: its head's place until an instance takes it; without one it is turned away.
    /// `over`: nobody waits for it any more, or it is late.
    pub(super) async fn handle(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        waiting: Option<Waiting>,
        slot: &Arc<ConnectionSlot>,
        over: &CancellationToken,
    ) -> Answer {
        if waiting.is_none() {
            self.failure_counts.turned_away();
            return Err(Failure::Busy);
        }
        let (answer, answered) = oneshot::channel();
        let (since, slot, over) = (slot.now(), slot.clone(), over.clone());
        self.dispatch(Job { request, waiting, answer, slot, over, since, lacked: None })?;
        answered.await.unwrap_or(Err(Failure::Stopped))
    }

    fn dispatch(self: &Arc<Self>, mut job: Job) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        while let Some(idle) = inner.idle.pop() {
            match idle.send(job) {
                Ok(()) => return Ok(()),
                // It gave up waiting a moment ago.
                Err(back) => job = back,
            }
        }
        match self.grow(&mut inner) {
            Ok(mapped) => {
                drop(inner);
                self.start(job, mapped);
                return Ok(());
            }
            Err(lacked) => job.lacked = lacked,
        }
        if WAITING_REQUESTS_MAX <= inner.waiting.len() {
            self.failure_counts.turned_away();
            return Err(Failure::Busy);
        }
        inner.waiting.push_back(job);
        Ok(())
    }

    /// Counts one more instance and takes its mappings. An error: there is room for no more than run, and what is not
    /// there for a first one.
    fn grow(&self, inner: &mut Inner) -> Result<Held, Option<String>> {
        let first = inner.instances == 0;
        if inner.short || usize::from(self.container.start.http.concurrency) <= inner.instances {
            return Err(None);
        }
        // Here and not where the instance is made: of two requests of one moment the second must see what the first
        // has.
        let mapped = self.container.map().map_err(|none| first.then(|| none.to_string()))?;
        if !self.promise(inner, inner.instances + 1) && !first {
            return Err(None);
        }
        inner.instances += 1;
        Ok(mapped)
    }

    /// Whether there is memory for so many instances. What clients have sent stays; what they send from now on is within
    /// the rest.
    fn promise(&self, inner: &Inner, instances: usize) -> bool {
        let promised = inner.promised(instances);
        let expected = promised.saturating_add(self.clients.used());
        self.container.memory.fits(expected) && self.clients.leaves(promised)
    }

    /// Starts an instance for this request; it is counted already.
    fn start(self: &Arc<Self>, job: Job, mapped: Held) {
        let (pool, ended) = (self.clone(), self.clone());
        let work = async move { pool.work(job, mapped).await };
        let container = &self.container;
        metered::run(container.runtimes.clone(), container.meter.clone(), work, move |outcome| {
            if let GuestEnd::Failed(why) = &outcome {
                ended.note(&format!("the agent failed under an instance: {why}"));
            }
            ended.ended(outcome == GuestEnd::Killed);
        });
    }

    /// An instance is gone: the next waiting request gets a new one.
    fn ended(self: &Arc<Self>, killed: bool) {
        let mut inner = self.inner.lock();
        inner.instances -= 1;
        self.clients.may_have_all_but(inner.promised(inner.instances));
        if killed {
            // Those who wait are told so by dropping them.
            inner.waiting = Queue::default();
        }
        drop(inner);
        self.start_next();
    }

    /// Starts an instance for the request that has waited longest; whether there is one, and room for it.
    fn start_next(self: &Arc<Self>) -> bool {
        let mut inner = self.inner.lock();
        let Some(mut job) = next(&mut inner.waiting) else { return false };
        match self.grow(&mut inner) {
            Ok(mapped) => {
                drop(inner);
                self.start(job, mapped);
                true
            }
            Err(lacked) => {
                job.lacked = lacked.or(job.lacked);
                inner.waiting.push_front(job);
                false
            }
        }
    }

    /// What its instance needs is with others: it goes on waiting.
    fn wait_for_room(&self, mut job: Job, lacked: String) {
        job.lacked = Some(lacked);
        let mut inner = self.inner.lock();
        inner.short = true;
        inner.waiting.push_front(job);
    }

    /// Tells who waits; the log, when nobody does.
    fn fail(&self, answer: oneshot::Sender<Answer>, failure: Failure) {
        self.count(&failure);
        if let Err(Err(failure)) = answer.send(Err(failure)) {
            self.note(&format!("a request whose client has gone: {failure}"));
        }
    }

    fn count(&self, failure: &Failure) {
        if matches!(failure, Failure::Memory(_) | Failure::NoRoom(_)) {
            self.failure_counts.out_of_memory(&self.container);
        }
    }

    /// A second has passed: who has waited too long is turned away, for the others it is tried again, and troubles are
    /// told.
    pub(super) fn tick(self: &Arc<Self>, now: u32) {
        let late =
            |job: &Job| INSTANCE_WAIT_SECONDS < now.saturating_sub(job.since) || job.slot.is_late();
        let mut tired = Vec::new();
        {
            let mut inner = self.inner.lock();
            inner.short = false;
            // In the order in which they came.
            while inner.waiting.front().is_some_and(late) {
                tired.extend(inner.waiting.pop_front());
            }
        }
        for job in tired {
            self.failure_counts.turned_away();
            let _ = job.answer.send(Err(job.lacked.map_or(Failure::Busy, Failure::NoRoom)));
        }
        while self.start_next() {}
        self.failure_counts.report(&self.container, now);
    }
}

/// The next request that somebody still waits for.
fn next(waiting: &mut Queue<Job>) -> Option<Job> {
    std::iter::from_fn(|| waiting.pop_front()).find(|job| !job.answer.is_closed())
}
