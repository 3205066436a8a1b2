//! Instances of an HTTP container: made when requests come, used again, dropped when idle.
//!
//! An instance serves one request at a time and `reuse` of them in its life. The one that served last serves
//! next, so that those that a peak has made can go.
//!
//! Guarantees: no more than [`MAX_INSTANCES`] instances and no more memory than the container's limit; a
//! request waits for an instance rather than fail; a trap ends the request that caused it, and its instance.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use freewheel_spoke_net::Full;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::{Result, Store};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::census;
use crate::container::Container;
use crate::memory::Share;
use crate::metered;
use crate::state::State;

/// Instances of one container at a time.
const MAX_INSTANCES: usize = 64;

/// Requests that wait for an instance; more are answered with 503.
const MAX_WAITING: usize = 1024;

/// How long an instance is kept without work.
const IDLE: Duration = Duration::from_secs(1);

/// How long a request goes on for a client that has left before it answered.
const ABANDONED: Duration = Duration::from_secs(30);

/// Why a request has no answer of the guest's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("too many requests wait for this pod")]
    Busy,
    #[error("the handler failed: {0}")]
    Trap(String),
    #[error("the handler returned without an answer")]
    Silent,
    #[error("the handler answered with an error: {0}")]
    Code(String),
    #[error("no memory is left for the answer: {0}")]
    Memory(Full),
    #[error("the pod was stopped")]
    Stopped,
}

type Answer = Result<Response<HyperOutgoingBody>, Failure>;

/// A request and who waits for its answer.
struct Job {
    request: Request<Incoming>,
    answer: oneshot::Sender<Answer>,
    abandoned: CancellationToken,
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
    pre: ProxyPre<State>,
    reuse: u16,
    inner: Mutex<Inner>,
    /// The only instance was refused memory: the container is out of memory.
    pub(crate) oom: CancellationToken,
}

impl Pool {
    pub(crate) fn new(container: Arc<Container>, pre: ProxyPre<State>, reuse: u16) -> Arc<Self> {
        let (inner, oom) = (Mutex::default(), CancellationToken::new());
        Arc::new(Self { container, pre, reuse: reuse.max(1), inner, oom })
    }

    /// Has a request answered.
    pub(crate) async fn handle(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let abandoned = CancellationToken::new();
        let leaves = abandoned.clone().drop_guard();
        self.dispatch(Job { request, answer, abandoned })?;
        let answer = answered.await.unwrap_or(Err(Failure::Stopped));
        // Answered: whatever the client does from here on shows in the body.
        DropGuard::disarm(leaves);
        answer
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
        if self.may_grow(&inner) {
            inner.instances += 1;
            drop(inner);
            self.start(job);
            return Ok(());
        }
        if MAX_WAITING <= inner.waiting.len() {
            return Err(Failure::Busy);
        }
        inner.waiting.push_back(job);
        Ok(())
    }

    fn may_grow(&self, inner: &Inner) -> bool {
        let fits = self.container.memory.has_room_for(inner.instance_bytes);
        inner.instances == 0 || (inner.instances < MAX_INSTANCES && fits)
    }

    /// Starts an instance for this request; it is counted already.
    fn start(self: &Arc<Self>, job: Job) {
        let (pool, ended) = (self.clone(), self.clone());
        let work = async move { pool.work(job).await };
        let container = &self.container;
        metered::run(container.runtimes.clone(), container.meter.clone(), work, move |outcome| {
            ended.ended(outcome);
        });
    }

    /// An instance is gone: the next waiting request gets a new one.
    fn ended(self: &Arc<Self>, outcome: Option<Result<()>>) {
        let refused = self.container.memory.take_refused();
        let next = {
            let mut inner = self.inner.lock();
            inner.instances -= 1;
            if refused && inner.instances == 0 {
                self.oom.cancel();
            }
            if outcome.is_none() {
                // Killed: those who wait are told so by dropping them.
                inner.waiting.clear();
            }
            let next = inner.waiting.pop_front();
            inner.instances += usize::from(next.is_some());
            next
        };
        if let Some(Err(error)) = outcome {
            self.container.log.note(&format!("freewheel: HTTP handler failed: {error:#}"));
        }
        if let Some(job) = next {
            self.start(job);
        }
    }

    async fn work(self: &Arc<Self>, first: Job) -> Result<()> {
        let mut store = self.container.store()?;
        let proxy = match self.pre.instantiate_async(&mut store).await {
            Ok(proxy) => proxy,
            Err(error) => {
                let _ = first.answer.send(Err(Failure::Trap(format!("{error:#}"))));
                return Err(error);
            }
        };
        let mut job = first;
        let mut served = 0;
        loop {
            serve(&mut store, &proxy, job).await?;
            served += 1;
            let wait = {
                let mut inner = self.inner.lock();
                inner.instance_bytes = inner.instance_bytes.max(store.data().memory());
                if self.reuse <= served {
                    return Ok(());
                }
                match inner.waiting.pop_front() {
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
                Err(mut work) => match timeout(IDLE, &mut work).await {
                    Ok(Ok(next)) => next,
                    // From here on nobody can send; what was sent in this very moment is still done.
                    Ok(Err(_)) | Err(_) => {
                        work.close();
                        match work.try_recv() {
                            Ok(next) => next,
                            Err(_) => {
                                self.inner.lock().idle.retain(|idle| !idle.is_closed());
                                return Ok(());
                            }
                        }
                    }
                },
            };
        }
    }
}

/// The answer, on the container's memory until its client has it: the instance is at other requests by then.
fn held(response: Response<HyperOutgoingBody>, mut share: Share) -> Answer {
    let head: usize =
        response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    share.set(head + census::SENT).map_err(Failure::Memory)?;
    let keep = move |frame| {
        let _ = &share;
        frame
    };
    Ok(response.map(|body| body.map_frame(keep).boxed_unsync()))
}

/// Lets the instance answer one request.
async fn serve(store: &mut Store<State>, proxy: &Proxy, job: Job) -> Result<()> {
    let answer = Arc::new(Mutex::new(Some(job.answer)));
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, job.request)?;
    let (given, share) = (answer.clone(), store.data().share());
    let set = move |response: Result<_, ErrorCode>| {
        if let Some(answer) = given.lock().take() {
            // The client may be gone; the guest finishes all the same.
            let response = response.map_err(|code| Failure::Code(format!("{code:?}")));
            let _ = answer.send(response.and_then(|response| held(response, share)));
        }
    };
    let out = store.data_mut().http().new_response_outparam_from_callback(set)?;
    let call = proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out);
    let gone = async {
        job.abandoned.cancelled().await;
        tokio::time::sleep(ABANDONED).await;
    };
    let outcome = tokio::select! {
        biased;
        outcome = call => outcome,
        () = gone => Err(wasmtime::format_err!("the client left and the handler went on for 30 s")),
    };
    if let Some(answer) = answer.lock().take() {
        let failure = match &outcome {
            Ok(()) => Failure::Silent,
            Err(error) => Failure::Trap(error.root_cause().to_string()),
        };
        let _ = answer.send(Err(failure));
    }
    outcome
}
