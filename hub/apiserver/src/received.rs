//! A request's body on its way to whoever reads it, and back to the door if nobody does.
//!
//! Guarantees:
//! - what is not read of a body is not lost with its reader. In HTTP/2, to let go of it before the answer is out
//!   would reset the stream, and the client would never see the answer
//!   (`a_refusal_arrives_even_when_the_body_has_not`, `a_refusal_over_http_2_leaves_its_client_the_time_to_send`);
//! - nothing that was sent beyond the end of a certificate is whole
//!   (`what_begins_before_a_certificate_ends_and_is_whole_after_is_not_done`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

use crate::body::BodyError;
use crate::places::Seat;

/// The body of a request.
pub struct Received {
    incoming: Option<Incoming>,
    back: Rest,
    seat: Arc<Seat>,
    /// Why its sender may send no more, once that is so.
    refused: Option<Refused>,
}

/// Asked at the end of a body.
type Refused = Box<dyn Fn() -> Option<BodyError> + Send + Sync>;

/// Where the rest of a body is found when its reader has let go of it.
#[derive(Clone, Default)]
pub(crate) struct Rest(Option<Arc<Mutex<Option<Incoming>>>>);

impl Rest {
    /// What was not read.
    pub(crate) fn take(&self) -> Option<Incoming> {
        self.0.as_ref()?.lock().take()
    }
}

impl Received {
    /// A body, and where its rest will be.
    pub(crate) fn new(incoming: Incoming, seat: Arc<Seat>) -> (Self, Rest) {
        // Most requests have none.
        let back = if incoming.is_end_stream() { Rest(None) } else { Rest(Some(Arc::default())) };
        (Self { incoming: Some(incoming), back: back.clone(), seat, refused: None }, back)
    }

    /// The same, which breaks off at its end when `refused` says why.
    #[must_use]
    pub(crate) fn unless<F>(mut self, refused: F) -> Self
    where
        F: Fn() -> Option<BodyError> + Send + Sync + 'static,
    {
        self.refused = Some(Box::new(refused));
        self
    }

    /// Where it comes from.
    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let (Some(rest), Some(back)) = (self.incoming.take(), &self.back.0)
            && !rest.is_end_stream()
        {
            *back.lock() = Some(rest);
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let me = &mut *self;
        let Some(incoming) = &mut me.incoming else { return Poll::Ready(None) };
        let next = ready!(Pin::new(&mut *incoming).poll_frame(cx)).map(|n| n.map_err(Into::into));
        // Who has all bytes that were announced asks for no more: the last of them must not come, either.
        let over = next.is_none() || incoming.is_end_stream();
        match me.refused.as_ref().filter(|_| over).and_then(|refused| refused()) {
            Some(why) => Poll::Ready(Some(Err(why))),
            None => Poll::Ready(next),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}
