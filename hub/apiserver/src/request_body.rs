//! A request's body on its way to whoever reads it, and back to the door if nobody does.
//!
//! Guarantees:
//! - what is not read of a body is not lost with its reader. In HTTP/2, to let go of it before the answer is out
//!   would reset the stream, and the client would never see the answer
//!   (`a_refusal_arrives_even_when_the_body_has_not`, `a_refusal_over_http_2_leaves_its_client_the_time_to_send`);
//! - what the transport keeps of it is on its connection's account until all of it has come
//!   (`bodies_that_wait_are_on_the_account_once`);
//! - who waits for something before it is read leaves others of the connection their room
//!   (`bodies_that_wait_leave_the_room_of_one`);
//! - a refusal over HTTP/1.1 says that its connection ends where it does, which is not so where little was left of the
//!   request and came (`a_refusal_says_whether_its_connection_goes_on`); so does an answer that comes while somebody else still
//!   has the body (`an_answer_that_comes_before_its_request_was_read_says_that_its_connection_ends`).

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use futures::FutureExt as _;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::connection_slots::ConnectionSlot;
use crate::connection_slots::unread_window::InWindow;
use crate::piece::BodyError;

/// As much of a body that nobody wants is read before the answer, as Go's server does, so that its connection can go on…
const DRAINED_BYTES_MAX: u64 = 256 << 10;
/// … and no longer: nobody is to wait for an answer because its client does not send.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads what is left of a body over HTTP/1.1, where that is little and on its way. What is left of it then.
pub(crate) async fn drained((mut rest, window): Unread) -> Option<Unread> {
    if DRAINED_BYTES_MAX < rest.size_hint().lower() {
        return Some((rest, window));
    }
    let reading = async {
        let mut bytes = 0;
        while let Some(frame) = rest.frame().await {
            bytes += frame.ok()?.data_ref().map_or(0, |data| data.len() as u64);
            if DRAINED_BYTES_MAX < bytes {
                return None;
            }
        }
        Some(())
    };
    match timeout(DRAIN_TIMEOUT, reading).await {
        Ok(Some(())) => None,
        Ok(None) | Err(_) => Some((rest, window)),
    }
}

/// The body of a request.
pub struct RequestBody {
    incoming: Option<Incoming>,
    back: Rest,
    window: Option<InWindow>,
    slot: Arc<ConnectionSlot>,
}

/// Where the rest of a body is found when its reader has let go of it.
#[derive(Clone, Default)]
pub(crate) struct Rest(Option<Arc<Mutex<Leftover>>>);

/// What was not read, and what accounts for it.
pub(crate) type Unread = (Incoming, Option<InWindow>);

/// What is left of a body.
#[derive(Default)]
pub(crate) enum Leftover {
    /// As much as its reader has not read yet: nobody else knows how much that is.
    #[default]
    WithItsReader,
    /// Nothing.
    Nothing,
    /// This.
    Unread(Unread),
}

impl Rest {
    /// What is left at this moment.
    pub(crate) fn take(&self) -> Leftover {
        let Some(back) = &self.0 else { return Leftover::Nothing };
        std::mem::take(&mut *back.lock())
    }

    fn put(&self, left: Leftover) {
        if let Some(back) = &self.0 {
            *back.lock() = left;
        }
    }
}

impl RequestBody {
    /// A body, and where its rest will be.
    pub(crate) fn new(
        incoming: Incoming,
        window: Option<InWindow>,
        slot: Arc<ConnectionSlot>,
    ) -> (Self, Rest) {
        // Most requests have none.
        let back = if incoming.is_end_stream() { Rest(None) } else { Rest(Some(Arc::default())) };
        (Self { incoming: Some(incoming), back: back.clone(), window, slot }, back)
    }

    /// What is waited for before it is read, while what comes of it stays with the transport.
    ///
    /// # Errors
    /// Those of the wait; 429 where too much of its connection waits already.
    pub(crate) async fn unread_until<T>(
        &self,
        wait: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let mut wait = pin!(wait);
        // Hardly anybody has to.
        if let Some(ready) = wait.as_mut().now_or_never() {
            return ready;
        }
        let _waiting = self.slot.window.wait(self)?;
        wait.await
    }

    /// All of it, to be read by somebody else.
    pub(crate) fn take(&mut self) -> Self {
        let (incoming, window) = (self.incoming.take(), self.window.take());
        Self { incoming, back: self.back.clone(), window, slot: self.slot.clone() }
    }

    /// Where it comes from.
    pub(crate) fn slot(&self) -> &Arc<ConnectionSlot> {
        &self.slot
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(rest) = self.incoming.take() else { return };
        self.back.put(if rest.is_end_stream() {
            Leftover::Nothing
        } else {
            Leftover::Unread((rest, self.window.take()))
        });
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let next = Pin::new(&mut *incoming).poll_frame(cx);
        if incoming.is_end_stream() || matches!(next, Poll::Ready(None)) {
            self.window = None;
            self.back.put(Leftover::Nothing);
        }
        next.map(|next| next.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}
