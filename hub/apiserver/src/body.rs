//! Bodies in both directions: what we send, and what we are willing to read.
//!
//! Guarantees:
//! - a request body is never buffered beyond [`MAX_BODY_BYTES`]
//!   (`a_body_that_declares_nothing_is_refused_where_it_gets_too_large`);
//! - one that declares more is refused before its first byte is read
//!   (`a_hundred_megabytes_are_refused_before_they_are_read`);
//! - one that comes slowly is waited for as long as it moves, up to [`MAX_BODY_TIME`]
//!   (`a_slow_link_has_time_and_one_that_stands_still_has_not`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use freewheel_hub_api::error::ApiError;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};

use crate::heavy::Outgoing;
use crate::places::Busy;
use crate::unsent::{Held, Sending};

/// Largest request body, as kube-apiserver's `MaxRequestBodyBytes`.
pub const MAX_BODY_BYTES: usize = freewheel_link::limits::API_BODY;

/// For a whole request body to arrive: the largest over 100 kbit/s. kube-apiserver gives up after 60 s,
/// which is a lot for what the kernel has received already and little for a device's own uplink.
pub const MAX_BODY_TIME: Duration = Duration::from_secs(300);

/// For the next bytes of a request body to arrive, as kube-apiserver's request timeout.
pub const MAX_BODY_PAUSE: Duration = Duration::from_secs(60);

/// How long what nobody wants of a request is read, so that its client comes to see the answer…
const LINGER: Duration = Duration::from_secs(10);
/// … and how long nothing of it may come: a client that has seen the answer stops.
const STILL_SENDING: Duration = Duration::from_secs(2);

/// Answers leave in pieces of this size: what is sent must not hold all the rest.
pub(crate) const PIECE: usize = 64 << 10;

/// Why a response body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A response body: one buffer, or chunks that come as they come.
pub struct Body {
    kind: Kind,
    /// The rest of a request that was answered before it was read.
    unread: Option<Unread>,
    /// What it takes of its connection's account.
    held: Option<Held>,
    /// It is read as it comes, by somebody who may stop to look at it.
    followed: bool,
    /// The request is over with its answer.
    sending: Option<Arc<Sending>>,
    _busy: Option<Busy>,
}

/// The last bytes of an answer, which is over when they are out.
struct Last {
    bytes: Bytes,
    _sending: Arc<Sending>,
}

impl AsRef<[u8]> for Last {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Unread {
    rest: Incoming,
    /// Until when it is read beside the answer, and the end of that at the latest; `None` to let it be.
    reading: Option<(Pin<Box<Sleep>>, Instant)>,
}

impl Unread {
    /// Ready when the client has stopped sending, or had its time.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((pause, latest)) = &mut self.reading else { return Poll::Ready(()) };
        while pause.as_mut().poll(cx).is_pending() {
            match http_body::Body::poll_frame(Pin::new(&mut self.rest), cx) {
                Poll::Ready(Some(Ok(_))) => {
                    pause.as_mut().reset((Instant::now() + STILL_SENDING).min(*latest));
                }
                Poll::Ready(_) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.reading = None;
        Poll::Ready(())
    }
}

enum Kind {
    Whole { rest: Bytes, cut: bool },
    Chunks(Pin<Box<dyn futures::Stream<Item = Result<Bytes, BodyError>> + Send>>),
    Foreign(UnsyncBoxBody<Bytes, BodyError>),
    Large(Outgoing),
}

impl Body {
    /// Everything at once.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Kind::Whole { rest: bytes, cut: false }.into()
    }

    /// Chunks until the stream ends.
    #[must_use]
    pub fn chunks<S>(stream: S) -> Self
    where
        S: futures::Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    {
        Kind::Chunks(Box::pin(stream)).into()
    }

    /// Somebody else's body, for handlers outside of this crate.
    #[must_use]
    pub fn foreign(body: UnsyncBoxBody<Bytes, BodyError>) -> Self {
        Kind::Foreign(body).into()
    }

    /// An answer that takes room, piece by piece.
    pub(crate) fn large(answer: Outgoing) -> Self {
        Kind::Large(answer).into()
    }

    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// The same, holding what was not read of the request. With `read_on` this body ends when the client
    /// has sent all of it, or had its time: until then it can read the answer.
    #[must_use]
    pub(crate) fn holding(self, rest: Incoming, read_on: bool) -> Self {
        let reading = read_on.then(|| (Box::pin(sleep(STILL_SENDING)), Instant::now() + LINGER));
        Self { unread: Some(Unread { rest, reading }), ..self }
    }

    /// The same, read by somebody who may stop to look at it.
    #[must_use]
    pub(crate) fn followed(self) -> Self {
        Self { followed: true, ..self }
    }

    /// Keeps as much of this as it takes, unless it has something of its own.
    pub(crate) fn keep(&mut self, held: Option<Held>) {
        let bytes = self.uncounted();
        if let Some(mut held) = held.filter(|_| bytes != 0) {
            held.shrink(bytes);
            self.held = Some(held);
        }
    }

    /// The same, which [keeps](Self::keep) this.
    #[must_use]
    pub(crate) fn keeping(mut self, held: Option<Held>) -> Self {
        self.keep(held);
        self
    }

    /// Bytes that it holds and that no account knows of.
    pub(crate) fn uncounted(&self) -> usize {
        match &self.kind {
            Kind::Whole { rest, .. } if self.held.is_none() => rest.len(),
            _ => 0,
        }
    }

    /// The same, of a request that is over when this is sent.
    #[must_use]
    pub(crate) fn during(mut self, busy: Busy) -> Self {
        if http_body::Body::is_end_stream(&self) {
            return Self { _busy: Some(busy), ..self };
        }
        self.sending = Some(Sending::new(busy, self.followed, self.held.take()));
        self
    }

    /// Tells the door what became of a poll.
    fn tell(&mut self, next: Next) -> Next {
        match (&next, &self.sending) {
            (Poll::Pending, Some(sending)) => sending.waits(),
            (Poll::Ready(Some(Ok(_))), Some(sending)) => sending.gave(),
            _ => return next,
        }
        if next.is_pending() || !http_body::Body::is_end_stream(self) {
            return next;
        }
        let Some(sending) = self.sending.take() else { return next };
        next.map_ok(|frame| match frame.into_data() {
            Ok(bytes) => Frame::data(Bytes::from_owner(Last { bytes, _sending: sending })),
            Err(trailers) => trailers,
        })
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, unread: None, held: None, followed: false, sending: None, _busy: None }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::whole(bytes)
    }
}

/// What a poll of a body comes to.
type Next = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next {
        let me = &mut *self;
        let next = match &mut me.kind {
            Kind::Whole { rest, .. } if rest.is_empty() => Poll::Ready(None),
            Kind::Whole { rest, cut } => Poll::Ready(Some(Ok(Frame::data(piece(rest, cut))))),
            Kind::Chunks(stream) => stream.as_mut().poll_next(cx).map_ok(Frame::data),
            Kind::Foreign(body) => Pin::new(body).poll_frame(cx),
            Kind::Large(answer) => Poll::Ready(answer.next().map(|piece| piece.map(Frame::data))),
        };
        let next = match (next, &mut me.unread) {
            (Poll::Ready(None), Some(unread)) => unread.poll_end(cx).map(|()| None),
            (next, _) => next,
        };
        me.tell(next)
    }

    fn is_end_stream(&self) -> bool {
        if self.unread.as_ref().is_some_and(|unread| unread.reading.is_some()) {
            return false;
        }
        match &self.kind {
            Kind::Whole { rest, .. } => rest.is_empty(),
            Kind::Chunks(_) => false,
            Kind::Foreign(body) => body.is_end_stream(),
            Kind::Large(answer) => answer.left() == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole { rest, .. } => SizeHint::with_exact(rest.len() as u64),
            Kind::Chunks(_) => SizeHint::default(),
            Kind::Foreign(body) => body.size_hint(),
            Kind::Large(answer) => {
                answer.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

/// The next piece: a copy when it is one of several, for one that is shared holds all of them.
fn piece(rest: &mut Bytes, cut: &mut bool) -> Bytes {
    if !*cut && rest.len() <= PIECE {
        return std::mem::take(rest);
    }
    *cut = true;
    let piece = Bytes::copy_from_slice(&rest[..PIECE.min(rest.len())]);
    rest.advance(piece.len());
    if rest.is_empty() {
        *rest = Bytes::new();
    }
    piece
}

/// Bytes that a body will have at most, by what it says of itself.
pub(crate) fn declared<B: http_body::Body>(body: &B) -> usize {
    match body.size_hint().exact().map(usize::try_from) {
        None => MAX_BODY_BYTES,
        // More is refused before it is read.
        Some(bytes) => bytes.ok().filter(|bytes| *bytes <= MAX_BODY_BYTES).unwrap_or(0),
    }
}

/// Reads a request's body.
///
/// # Errors
/// 413 when it is, or says that it will be, larger than [`MAX_BODY_BYTES`]; 400 when it breaks off;
/// 504 when nothing comes for [`MAX_BODY_PAUSE`], or not all within [`MAX_BODY_TIME`].
pub async fn read<B>(body: &mut B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let late =
        |_| ApiError::new(504, "Timeout", "Timeout: the request's body did not come in time");
    let latest = Instant::now() + MAX_BODY_TIME;
    if (MAX_BODY_BYTES as u64) < body.size_hint().lower() {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    loop {
        let next = timeout(MAX_BODY_PAUSE, body.frame());
        let Some(frame) = timeout_at(latest, next).await.map_err(late)?.map_err(late)? else {
            break;
        };
        let frame = frame
            .map_err(|error| ApiError::bad_request(format!("unable to read body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let held = first.as_ref().map_or(rest.len(), Bytes::len);
        if MAX_BODY_BYTES < held.saturating_add(data.len()) {
            return Err(too_large());
        }
        // Most bodies are one frame, which then needs no copy.
        match first.take() {
            None if rest.is_empty() => first = Some(data),
            None => rest.extend_from_slice(&data),
            Some(before) => {
                rest.extend_from_slice(&before);
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

fn too_large() -> ApiError {
    ApiError::new(
        413,
        "RequestEntityTooLarge",
        format!("Request entity too large: limit is {MAX_BODY_BYTES}"),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused() {
        let mut big = http_body_util::Full::new(Bytes::from(vec![b' '; MAX_BODY_BYTES + 1]));
        let error = read(&mut big).await.unwrap_err();
        assert_eq!((error.code, error.reason), (413, "RequestEntityTooLarge"));
    }

    #[tokio::test]
    async fn a_body_that_declares_nothing_is_refused_where_it_gets_too_large() {
        let piece = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 64 * 1024])));
        let mut pieces = 0;
        let endless = futures::stream::poll_fn(|_| {
            pieces += 1;
            Poll::Ready(Some(piece()))
        });
        let error = read(&mut http_body_util::StreamBody::new(endless)).await.unwrap_err();
        assert_eq!(error.code, 413);
        assert_eq!(pieces, MAX_BODY_BYTES / (64 * 1024) + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_link_has_time_and_one_that_stands_still_has_not() {
        let trickle = |pause: Duration| {
            let pieces = futures::stream::unfold((), move |()| async move {
                sleep(pause).await;
                Some((Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 16 * 1024]))), ()))
            });
            http_body_util::StreamBody::new(Box::pin(futures::StreamExt::take(pieces, 190)))
        };
        let slow = read(&mut trickle(Duration::from_millis(1_500))).await.unwrap();
        assert_eq!(slow.len(), 190 * 16 * 1024);
        for too_slow in [Duration::from_secs(61), Duration::from_secs(2)] {
            assert_eq!(read(&mut trickle(too_slow)).await.unwrap_err().code, 504);
        }
    }

    #[tokio::test]
    async fn frames_are_joined() {
        let frames = ["a", "b", "c"]
            .map(|s| Ok::<_, Infallible>(Frame::data(Bytes::from_static(s.as_bytes()))));
        let mut body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        assert_eq!(read(&mut body).await.unwrap(), "abc");
    }
}
