//! A request's body on its way to the guest: until it has ended, what comes over the connection is no next head.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::request_heads::Served;

/// The body of a request.
pub(super) struct RequestBody {
    body: Incoming,
    /// Until there is no more of it.
    served: Option<Arc<Served>>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, served: Arc<Served>) -> Self {
        let served = (!body.is_end_stream()).then_some(served);
        Self { body, served }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || self.body.is_end_stream() {
            self.served = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
