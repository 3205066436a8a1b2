//! How long somebody is let in: what they send and what they are sent breaks off when that is over.
//!
//! Guarantees:
//! - nothing comes or goes beyond it, and what was not whole before never is
//!   (`who_is_let_in_no_more_sends_and_is_sent_no_more`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use freewheel_hub_apiserver::BodyError;
use hyper::body::{Body, Frame, SizeHint};

/// Somebody who was let in.
pub struct LoginExpiry {
    lasts: Box<dyn Fn() -> bool + Send + Sync>,
    /// A body has broken off.
    broken: AtomicBool,
}

impl LoginExpiry {
    /// As long as `lasts` says so.
    pub fn new(lasts: impl Fn() -> bool + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { lasts: Box::new(lasts), broken: AtomicBool::new(false) })
    }

    /// Whether it was over before all of a body had passed.
    pub fn has_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// A body that passes as long as this lasts.
    pub fn during<B>(self: &Arc<Self>, body: B) -> ExpiringBody<B> {
        ExpiringBody { body, expiry: self.clone() }
    }
}

/// A body that is looked at piece by piece.
pub struct ExpiringBody<B> {
    body: B,
    expiry: Arc<LoginExpiry>,
}

impl<B> Body for ExpiringBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !(self.expiry.lasts)() {
            self.expiry.broken.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err("the login or the certificate has ended".into())));
        }
        Poll::Ready(next.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
