//! One instance: how it is made, and the requests that it serves one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use freewheel_spoke_account::{Full, Held};
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::{Answer, Job, Pool, next};
use crate::exit;
use crate::http::answer_memory::AnswerMemory;
use crate::http::client_memory::rest_of;
use crate::http::connection_slots::ConnectionSlot;
use crate::http::failure::Failure;
use crate::http::request_body::RequestBody;
use crate::memory::Share;
use crate::world::{HasFields as _, StoreData};

/// How long an instance is kept without work.
const INSTANCE_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a handler may go on once its client has gone or has everything.
const HANDLER_AFTER_CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

impl Pool {
    /// Makes an instance for a request, and serves others with it as long as it may.
    pub(super) async fn work(self: &Arc<Self>, first: Job, mapped: Held) {
        let (mut store, proxy, mut left) = match self.make(&first, mapped).await {
            Ok(made) => made,
            Err(Failure::NoRoom(lacked)) => return self.wait_for_room(first, lacked),
            Err(failure) => return self.fail(first.answer, failure),
        };
        let mut job = first;
        loop {
            let sound = self.serve(&mut store, &proxy, job).await;
            left -= 1;
            let bytes = store.data_mut().memory();
            let wait = {
                let mut inner = self.inner.lock();
                inner.instance_bytes = inner.instance_bytes.max(bytes);
                inner.short = false;
                if !sound {
                    return;
                }
                if left == 0 {
                    store.data_mut().end();
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
                    None => {
                        store.data_mut().end();
                        return;
                    }
                },
            };
        }
    }

    /// An instance, and how many requests it may serve.
    async fn make(
        &self,
        job: &Job,
        mapped: Held,
    ) -> Result<(Store<StoreData>, Proxy, u16), Failure> {
        let mut store = self.container.handler_store(mapped).map_err(|error| why(0, &error))?;
        let reuse = self.container.start.http.reuse;
        let made = tokio::select! {
            biased;
            made = self.handler.instance(&mut store, reuse) => made,
            () = self.given_up(&job.slot, &job.over) => return Err(unanswered(&job.slot)),
        };
        match made {
            Ok((proxy, requests)) => Ok((store, proxy, requests)),
            Err(error) => Err(why(store.data().booked(), &error)),
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
            Err(Some(error)) => why(store.data().booked(), error),
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
}

/// The answer, on the container's memory until its client has it: the instance is at other requests by then.
fn held(response: Response<HyperOutgoingBody>, share: Share) -> Answer {
    // What was the guest's goes to its client: if there is no room for it, others have that.
    let full = |full: Full| Failure::NoRoom(full.to_string());
    let memory = AnswerMemory::new(response.headers(), share).map_err(full)?;
    Ok((response, memory))
}

/// Calls the handler with a request and what its head holds. `refused`: it answers with an error.
async fn call(
    store: &mut Store<StoreData>,
    proxy: &Proxy,
    (request, head): (Request<RequestBody>, usize),
    answer: Arc<Mutex<Option<oneshot::Sender<Answer>>>>,
    refused: Arc<AtomicBool>,
) -> wasmtime::Result<()> {
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

/// Why an instance that has so much memory failed.
fn why(booked: usize, error: &wasmtime::Error) -> Failure {
    match error.downcast_ref::<Full>() {
        // By itself it would have fitted: others have the rest.
        Some(full) if booked.saturating_add(full.more) <= rest_of(full.limit) => {
            Failure::NoRoom(full.to_string())
        }
        Some(full) => Failure::Memory(full.to_string()),
        None => Failure::Trap(exit::describe(error)),
    }
}
