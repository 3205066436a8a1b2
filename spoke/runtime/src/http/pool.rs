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
//!   (`requests_wait_while_half_heads_have_the_memory_of_an_instance`);
//! - what makes an instance, the module's own word included, is within the time of the request that it is made for
//!   (`making_an_instance_is_within_the_request_s_time`);
//! - a trap or an instance that is out of memory ends the request that caused it and nothing else
//!   (`a_handler_that_traps_fails_its_request_alone`, `a_request_that_eats_memory_ends_alone`);
//! - an instance that gave no answer, or half of one, is not used again
//!   (`an_instance_that_gave_no_answer_is_not_used_again`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use freewheel_spoke_account::{Full, Held};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wasmtime::{Result, Store};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::connection_slots::ConnectionSlot;
use super::failure_counts::FailureCounts;
use super::request_body::RequestBody;
use super::request_heads::Waiting;
use crate::container::Container;
use crate::exit;
use crate::handler::Handler;
use crate::mappings::NoneLeft;
use crate::memory::{ContainerMemory, Share};
use crate::metered::{self, Ending};
use crate::world::{self, HasFields as _, StoreData};

/// Requests that wait for an instance; more are turned away at once.
const WAITING_REQUESTS_MAX: usize = 1024;

/// Seconds that a request waits for an instance.
const INSTANCE_WAIT_SECONDS: u32 = 5;

/// How long an instance is kept without work.
const INSTANCE_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a handler may go on once its client has gone or has everything.
const HANDLER_AFTER_CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request has no answer of the guest's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("too many requests wait for this pod")]
    Busy,
    #[error("the handler failed: {0}")]
    Trap(String),
    #[error("out of memory: {0}")]
    Memory(String),
    #[error("the handler returned without an answer")]
    Silent,
    #[error("the handler answered with an error: {0}")]
    Code(String),
    #[error("the handler was ended, it did not begin to answer in time")]
    Late,
    #[error("the pod was stopped")]
    Stopped,
}

type Answer = Result<Response<HyperOutgoingBody>, Failure>;

/// A request and who waits for its answer.
struct Job {
    request: Request<RequestBody>,
    /// Its head's place among those that wait.
    waiting: Option<Waiting>,
    answer: oneshot::Sender<Answer>,
    slot: Arc<ConnectionSlot>,
    over: CancellationToken,
    since: u32,
}

#[derive(Default)]
struct Inner {
    idle: Vec<oneshot::Sender<Job>>,
    waiting: VecDeque<Job>,
    instances: usize,
    /// Memory of the largest instance so far: whether another one fits.
    instance_bytes: usize,
}

/// The instances of one HTTP container.
pub(crate) struct Pool {
    container: Arc<Container>,
    handler: Arc<Handler>,
    /// What is held for clients, on the container's memory.
    clients: Arc<ContainerMemory>,
    inner: Mutex<Inner>,
    failure_counts: FailureCounts,
    failures: AtomicU64,
}

impl Pool {
    /// `least`: bytes of memory that an instance starts with.
    pub(crate) fn new(container: Arc<Container>, handler: Arc<Handler>, least: usize) -> Arc<Self> {
        let inner = Mutex::new(Inner { instance_bytes: least, ..Inner::default() });
        let (failure_counts, failures) = (FailureCounts::default(), AtomicU64::new(0));
        let clients = container.memory.part();
        Arc::new(Self { container, handler, clients, inner, failure_counts, failures })
    }

    /// Seconds that a request has until its answer begins.
    pub(super) fn timeout_seconds(&self) -> u32 {
        self.container.start.http.timeout_seconds
    }

    /// A name for a request that failed: unique within the node, as good as unique beyond it.
    pub(super) fn request_id(&self) -> String {
        let number = self.failures.fetch_add(1, Relaxed);
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), number);
        format!("{random:016x}")
    }

    /// The container's memory, for what is held for its clients.
    pub(super) fn memory(&self) -> Arc<ContainerMemory> {
        self.clients.clone()
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
        self.dispatch(Job { request, waiting, answer, slot, over, since })?;
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
            Ok(Some(mapped)) => {
                drop(inner);
                self.start(job, mapped);
                return Ok(());
            }
            Ok(None) => {}
            Err(none) => return Err(Failure::Trap(none.to_string())),
        }
        if WAITING_REQUESTS_MAX <= inner.waiting.len() {
            self.failure_counts.turned_away();
            return Err(Failure::Busy);
        }
        inner.waiting.push_back(job);
        Ok(())
    }

    /// Counts one more instance and takes its mappings; `None`: there is room for no more than run, an error: for none.
    fn grow(&self, inner: &mut Inner) -> std::result::Result<Option<Held>, NoneLeft> {
        let first = inner.instances == 0;
        if !first && !self.may_grow(inner) {
            return Ok(None);
        }
        // Here and not where the instance is made: of two requests of one moment the second must see what the first
        // has.
        let mapped = match self.container.map() {
            Ok(mapped) => mapped,
            Err(none) if first => return Err(none),
            Err(_) => return Ok(None),
        };
        inner.instances += 1;
        Ok(Some(mapped))
    }

    fn may_grow(&self, inner: &Inner) -> bool {
        // Those that run will be as large as the largest was, and each has an answer on its way, whose body counts as
        // the guest's, too, until it has finished it. What clients have sent stays.
        let each = inner.instance_bytes + 2 * world::SENT_BODY_BYTES;
        let expected = each.saturating_mul(inner.instances + 1).saturating_add(self.clients.used());
        let most = usize::from(self.container.start.http.concurrency);
        inner.instances < most && self.container.memory.fits(expected)
    }

    /// Starts an instance for this request; it is counted already.
    fn start(self: &Arc<Self>, job: Job, mapped: Held) {
        let (pool, ended) = (self.clone(), self.clone());
        let work = async move { pool.work(job, mapped).await };
        let container = &self.container;
        metered::run(container.runtimes.clone(), container.meter.clone(), work, move |outcome| {
            if let Ending::Failed(why) = &outcome {
                ended.note(&format!("the agent failed under an instance: {why}"));
            }
            ended.ended(outcome == Ending::Killed);
        });
    }

    /// An instance is gone: the next waiting request gets a new one.
    fn ended(self: &Arc<Self>, killed: bool) {
        let mut inner = self.inner.lock();
        inner.instances -= 1;
        if killed {
            // Those who wait are told so by dropping them.
            inner.waiting.clear();
        }
        let Some(job) = next(&mut inner.waiting) else { return };
        match self.grow(&mut inner) {
            Ok(Some(mapped)) => {
                drop(inner);
                self.start(job, mapped);
            }
            Ok(None) => inner.waiting.push_front(job),
            Err(none) => {
                // No instance is left that would take the others when it is done.
                let waiting = std::mem::take(&mut inner.waiting);
                drop(inner);
                for job in std::iter::once(job).chain(waiting) {
                    self.fail(job.answer, Failure::Trap(none.to_string()));
                }
            }
        }
    }

    async fn work(self: &Arc<Self>, first: Job, mapped: Held) {
        let mut store = match self.container.handler_store(mapped) {
            Ok(store) => store,
            Err(error) => return self.fail(first.answer, Failure::Trap(format!("{error:#}"))),
        };
        let reuse = self.container.start.http.reuse;
        let made = tokio::select! {
            biased;
            made = self.handler.instance(&mut store, reuse) => made.map_err(Some),
            () = self.given_up(&first.slot, &first.over) => Err(None),
        };
        let (proxy, mut left) = match made {
            Ok(made) => made,
            Err(Some(error)) => return self.fail(first.answer, failure(&store, &error)),
            Err(None) => return self.fail(first.answer, unanswered(&first.slot)),
        };
        let mut job = first;
        loop {
            let sound = self.serve(&mut store, &proxy, job).await;
            left -= 1;
            let bytes = store.data_mut().memory();
            let wait = {
                let mut inner = self.inner.lock();
                inner.instance_bytes = inner.instance_bytes.max(bytes);
                if !sound || left == 0 {
                    return;
                }
                match next(&mut inner.waiting) {
                    Some(next) => Ok(next),
                    None => {
                        let (wake, work) = oneshot::channel();
                        inner.idle.push(wake);
                        Err(work)
                    }
                }
            };
            job = match wait {
                Ok(next) => next,
                Err(work) => match self.rest(work).await {
                    Some(next) => next,
                    None => return,
                },
            };
        }
    }

    /// Waits for the next request; `None`: none came for a while.
    async fn rest(&self, mut work: oneshot::Receiver<Job>) -> Option<Job> {
        if let Ok(Ok(next)) = timeout(INSTANCE_IDLE_TIMEOUT, &mut work).await {
            return Some(next);
        }
        // From here on nobody can send; what was sent in this very moment is still done.
        work.close();
        let last = work.try_recv().ok();
        if last.is_none() {
            self.inner.lock().idle.retain(|idle| !idle.is_closed());
        }
        last
    }

    /// Lets the instance answer one request; whether it may be given another.
    async fn serve(&self, store: &mut Store<StoreData>, proxy: &Proxy, job: Job) -> bool {
        let Job { request, waiting, answer, slot, over, .. } = job;
        // From here on it is with what the guest holds.
        let head = waiting.map_or(0, |waiting| waiting.bytes());
        let answer = Arc::new(Mutex::new(Some(answer)));
        let refused = Arc::new(AtomicBool::new(false));
        let called = call(store, proxy, (request, head), answer.clone(), refused.clone());
        let given = || answer.lock().is_none();
        let outcome = tokio::select! {
            biased;
            outcome = called => outcome.map_err(Some),
            () = self.given_up(&slot, &over) => Err(None),
        };
        let whole = !store.data_mut().abort_unfinished();
        let failure = match &outcome {
            Ok(()) if given() => {
                if !whole {
                    self.note("the handler left a body unfinished: its connection was broken off");
                }
                if whole && !refused.load(Relaxed) {
                    return self.keeps(store);
                }
                return false;
            }
            Ok(()) => Failure::Silent,
            Err(Some(error)) => failure(store, error),
            Err(None) => unanswered(&slot),
        };
        let answer = answer.lock().take();
        match answer {
            Some(answer) => self.fail(answer, failure),
            None => {
                self.count(&failure);
                self.note(&format!("after its answer had begun: {failure}"));
            }
        }
        false
    }

    /// Counts what the guest keeps between two requests; whether it may.
    fn keeps(&self, store: &mut Store<StoreData>) -> bool {
        let kept = store.data_mut().count_kept();
        if let Err(full) = kept {
            self.count(&Failure::Memory(full.to_string()));
            self.note(&format!("the instance is ended with what it keeps of its requests: {full}"));
        }
        kept.is_ok()
    }

    /// Until a request has had its time, or its client is gone and it has gone on for long enough.
    async fn given_up(&self, slot: &ConnectionSlot, over: &CancellationToken) {
        over.cancelled().await;
        if !slot.is_late() {
            let most = Duration::from_secs(self.timeout_seconds().into());
            tokio::time::sleep(HANDLER_AFTER_CLIENT_TIMEOUT.min(most)).await;
        }
    }

    /// Tells who waits; the log, when nobody does.
    fn fail(&self, answer: oneshot::Sender<Answer>, failure: Failure) {
        self.count(&failure);
        if let Err(Err(failure)) = answer.send(Err(failure)) {
            self.note(&format!("a request whose client has gone: {failure}"));
        }
    }

    fn count(&self, failure: &Failure) {
        if matches!(failure, Failure::Memory(_)) {
            self.failure_counts.out_of_memory(&self.container);
        }
    }

    /// A second has passed: who has waited too long is turned away, and troubles are told.
    pub(super) fn look(&self, now: u32) {
        let late =
            |job: &Job| INSTANCE_WAIT_SECONDS < now.saturating_sub(job.since) || job.slot.is_late();
        let tired: Vec<Job> = {
            let mut inner = self.inner.lock();
            // In the order in which they came.
            let count = inner.waiting.iter().take_while(|job| late(job)).count();
            inner.waiting.drain(..count).collect()
        };
        for job in tired {
            self.failure_counts.turned_away();
            let _ = job.answer.send(Err(Failure::Busy));
        }
        self.failure_counts.tell(&self.container, now);
    }
}

/// The answer, on the container's memory until its client has it: the instance is at other requests by then.
fn held(response: Response<HyperOutgoingBody>, mut share: Share) -> Answer {
    let head: usize =
        response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let full = |full: Full| Failure::Memory(full.to_string());
    share.set(head + world::SENT_BODY_BYTES).map_err(full)?;
    let keep = move |frame| {
        let _ = &share;
        frame
    };
    Ok(response.map(|body| body.map_frame(keep).boxed_unsync()))
}

/// The next request that somebody still waits for.
fn next(waiting: &mut VecDeque<Job>) -> Option<Job> {
    std::iter::from_fn(|| waiting.pop_front()).find(|job| !job.answer.is_closed())
}

/// Calls the handler with a request and what its head holds. `refused`: it answers with an error.
async fn call(
    store: &mut Store<StoreData>,
    proxy: &Proxy,
    (request, head): (Request<RequestBody>, usize),
    answer: Arc<Mutex<Option<oneshot::Sender<Answer>>>>,
    refused: Arc<AtomicBool>,
) -> Result<()> {
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    store.data_mut().holds_head(&request, head)?;
    let share = store.data().share();
    let set = move |response: Result<_, ErrorCode>| {
        let response = response.map_err(|code| Failure::Code(exit::shortened(&code)));
        let response = response.and_then(|response| held(response, share));
        refused.store(response.is_err(), Relaxed);
        if let Some(answer) = answer.lock().take() {
            // The client may be gone; the guest finishes all the same.
            let _ = answer.send(response);
        }
    };
    let out = store.data_mut().http().new_response_outparam_from_callback(set)?;
    proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out).await
}

/// Why a request was given up.
fn unanswered(slot: &ConnectionSlot) -> Failure {
    if slot.is_late() {
        return Failure::Late;
    }
    Failure::Trap("its client is gone, and it went on for too long".to_owned())
}

fn failure(store: &Store<StoreData>, error: &wasmtime::Error) -> Failure {
    match exit::memory(error, store.data().was_refused()) {
        Some(text) => Failure::Memory(text),
        None => Failure::Trap(exit::describe(error)),
    }
}
