//! One answer on its way out: its pieces, as hyper has them in hand.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::AbortHandle;

use crate::connection_slots::{Busy, ConnectionSlot};
use crate::memory_account::{Held, Shared};
use crate::send_backlog::Given;

/// One answer, until its last byte is out.
pub(crate) struct Sending {
    given: Arc<Given>,
    number: u64,
    busy: Busy,
    held: Option<Held>,
}

/// Who waits for room for the next piece.
pub(crate) type Turn = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// A piece that hyper has in hand; it is out, or given up, when this is dropped.
struct Piece {
    bytes: Bytes,
    sending: Arc<Sending>,
    _held: Option<Held>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Sending {
    /// An answer to this request, with what it holds, and how to end it alone.
    pub(crate) fn new(
        busy: Busy,
        followed: bool,
        held: Option<Held>,
        reset: Option<AbortHandle>,
    ) -> Arc<Self> {
        let (number, given) = busy.slot().backlog.begin(followed, reset);
        Arc::new(Self { given, number, busy, held })
    }

    /// Whether the answer is held as a whole.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// A part of the account for a piece.
    pub(crate) fn hold(&self, bytes: usize, shared: Option<Arc<Shared>>) -> Held {
        let account = &self.slot().backlog.account;
        match shared {
            Some(shared) => account.shared(shared),
            None => account.piece(bytes),
        }
    }

    /// Ready when a piece may be made.
    pub(crate) fn poll_room(&self, turn: &mut Turn, cx: &mut Context<'_>) -> Poll<()> {
        let account = &self.slot().backlog.account;
        if turn.is_none() && account.has_room() {
            return Poll::Ready(());
        }
        let waits = turn.get_or_insert_with(|| Box::pin(account.clone().room()));
        ready!(waits.as_mut().poll(cx));
        *turn = None;
        Poll::Ready(())
    }

    /// A piece as hyper gets it: it is followed until it is out.
    pub(crate) fn give(self: &Arc<Self>, bytes: Bytes, held: Option<Held>) -> Bytes {
        self.given.gave(&self.slot().backlog);
        Bytes::from_owner(Piece { bytes, sending: self.clone(), _held: held })
    }

    /// Ready when all that was given is out.
    pub(crate) fn poll_out(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.given.poll_out(cx)
    }

    fn slot(&self) -> &ConnectionSlot {
        self.busy.slot()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.sending.given.is_out(&self.sending.slot().backlog);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.slot().backlog.over(self.number);
    }
}
