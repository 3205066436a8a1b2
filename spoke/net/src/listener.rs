//! A listening port of a pod and the connections that wait on it.

use std::net::SocketAddr;
use std::sync::Weak;
use std::task::{Context, Poll, Waker};

use freewheel_spoke_account::Queue;
use parking_lot::Mutex;
use tokio::task::coop::cooperative;

use crate::conn::Conn;
use crate::sockets::{Lender, Slot};

/// Most connections that wait on one port, whatever the guest asks for.
pub const MAX_BACKLOG: usize = 4096;

#[derive(Default)]
struct ListenerState {
    /// Those that wait have sockets, which are counted; what was taken leaves no place behind.
    queue: Queue<Conn>,
    waker: Option<Waker>,
    backlog: usize,
    closed: bool,
}

/// The port takes no more connections: the pod is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// A listening port. Dropping it frees the port and breaks the connections that nobody took.
pub struct Listener {
    state: Mutex<ListenerState>,
    address: SocketAddr,
    lender: Weak<dyn Lender<Self>>,
    _slot: Slot,
}

impl Listener {
    pub(crate) fn new(
        address: SocketAddr,
        backlog: usize,
        lender: Weak<dyn Lender<Self>>,
        slot: Slot,
    ) -> Self {
        let state =
            ListenerState { backlog: backlog.clamp(1, MAX_BACKLOG), ..ListenerState::default() };
        Self { state: Mutex::new(state), address, lender, _slot: slot }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections may wait.
    pub fn set_backlog(&self, backlog: usize) {
        self.state.lock().backlog = backlog.clamp(1, MAX_BACKLOG);
    }

    /// Puts a connection into the queue, or gives it back when there is no room.
    pub(crate) fn offer(&self, conn: Conn) -> Result<(), Conn> {
        let waker = {
            let mut state = self.state.lock();
            if state.closed || state.backlog <= state.queue.len() {
                return Err(conn);
            }
            state.queue.push_back(conn);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The next connection, if one waits.
    ///
    /// # Errors
    /// When it was closed and nothing waits any more.
    pub fn try_accept(&self) -> Result<Option<Conn>, Closed> {
        let mut state = self.state.lock();
        match state.queue.pop_front() {
            Some(conn) => Ok(Some(conn)),
            None if state.closed => Err(Closed),
            None => Ok(None),
        }
    }

    /// Waits until [`Listener::try_accept`] has something to say.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.queue.is_empty() || state.closed {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The next connection.
    ///
    /// # Errors
    /// When it was closed and nothing waits any more.
    pub async fn accept(&self) -> Result<Conn, Closed> {
        loop {
            // Clients that never stop coming leave others of the thread a turn.
            cooperative(std::future::poll_fn(|cx| self.poll_ready(cx))).await;
            if let Some(conn) = self.try_accept()? {
                return Ok(conn);
            }
        }
    }

    /// Graceful stop: what waits is still served, new connections are refused, then accepting fails. The port
    /// is free for the next one at once.
    pub fn close(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.closed = true;
            state.waker.take()
        };
        if let Some(lender) = self.lender.upgrade() {
            lender.release(self.address.port(), self);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        while let Some(conn) = self.state.get_mut().queue.pop_front() {
            conn.reset();
        }
        if let Some(lender) = self.lender.upgrade() {
            lender.release(self.address.port(), self);
        }
    }
}
