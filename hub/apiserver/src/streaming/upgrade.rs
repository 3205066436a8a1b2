//! A connection that changes hands: HTTP/1.1 until the answer that says so, somebody's session from then on.
//!
//! Guarantees:
//! - a session is run by its connection's task, so that whoever ends the one ends the other
//!   (`a_session_ends_with_its_hub`).

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tracing::debug;

use crate::flow::Passage;
use crate::memory_account::Held;

/// What is spoken after HTTP.
pub(crate) type Raw = TokioIo<Upgraded>;

/// Of one connection.
#[derive(Default)]
pub(crate) struct Upgrade(Mutex<State>);

#[derive(Default)]
struct State {
    /// The connection, once the answer is out; of the request that is under way.
    offered: Option<OnUpgrade>,
    session: Option<BoxFuture<'static, ()>>,
    /// A session is under way as its request was.
    passage: Option<Passage>,
    /// What accounts for what it was asked with.
    heading: Option<Arc<Held>>,
}

impl Upgrade {
    /// A request comes, which may ask for it.
    pub(crate) fn offer<B>(&self, request: &mut Request<B>) {
        let offered = request.extensions_mut().remove::<OnUpgrade>();
        // Streams of HTTP/2 are none.
        let offered = offered.filter(|_| request.version() == Version::HTTP_11);
        *self.0.lock() = State { offered, ..State::default() };
    }

    /// Whether the request that is under way may have it.
    pub(crate) fn is_offered(&self) -> bool {
        self.0.lock().offered.is_some()
    }

    /// The connection is this one's when the answer is out.
    pub(crate) fn promise<F>(&self, session: impl FnOnce(Raw) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.0.lock();
        let Some(offered) = state.offered.take() else { return };
        state.session = Some(Box::pin(async move {
            match offered.await {
                Ok(upgraded) => session(TokioIo::new(upgraded)).await,
                Err(error) => debug!(%error, "a connection did not change hands"),
            }
        }));
    }

    /// Keeps the passage of a request whose session is promised.
    pub(crate) fn keep(&self, passage: &mut Option<Passage>) {
        let mut state = self.0.lock();
        if state.session.is_some() {
            state.passage = passage.take();
        }
    }

    /// Keeps what accounts for the request of a session that is promised.
    pub(crate) fn keep_heading(&self, heading: Option<&Arc<Held>>) {
        let mut state = self.0.lock();
        if state.session.is_some() {
            state.heading = heading.cloned();
        }
    }

    /// The connection is gone: what was promised of it is, too. A session has its connection, which would have it for ever.
    pub(crate) fn forget(&self) {
        let state = std::mem::take(&mut *self.0.lock());
        drop(state);
    }

    /// The session, if there is one.
    pub(crate) async fn run(&self) {
        let State { session, passage, heading, .. } = std::mem::take(&mut *self.0.lock());
        if let Some(session) = session {
            session.await;
        }
        drop((passage, heading));
    }
}
