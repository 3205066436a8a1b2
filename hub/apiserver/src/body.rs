//! Bodies of answers, and what we are willing to read of requests.
//!
//! Guarantees:
//! - what is sent is made when its connection has room for it, in pieces that are followed until they are out
//!   (`pieces_are_made_as_there_is_room_for_them`, `small_answers_wait_for_room_as_well`);
//! - what has said its end is not asked again, however long the request takes to end after it
//!   (`a_pod_is_bound_once_and_its_log_comes_from_there`);
//! - what comes with a request and is not read is read and thrown away while its answer lasts
//!   (`a_body_that_nobody_wants_is_not_kept_while_its_answer_lasts`);
//! - what a request was asked with is on its connection's account for as long as an answer is made of it
//!   (`what_a_watch_is_asked_with_is_on_the_account_of_its_connection`);
//! - an answer over HTTP/2 of more than a frame does not end before it is out, so that it can be reset until then
//!   (`a_long_answer_ends_when_it_is_out`).

mod read;

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use freewheel_hub_metrics::Hold;
use futures::future::AbortHandle;
use futures::{Stream, StreamExt as _};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::connection_slots::Busy;
use crate::connection_slots::unread_window::InWindow;
use crate::flow::Passage;
use crate::flow::large_answers::{AnswerRoom, Outgoing, RoomedBytes};
use crate::memory_account::{Held, Shared};
use crate::piece::{BRIEF_ANSWER_BYTES, BodyError, ONE_FRAME_BYTES, PIECE_BYTES};
use crate::sending::{Sending, Turn};

pub(crate) use read::declared;
pub use read::{MAX_BODY_BYTES, MAX_BODY_PAUSE, MAX_BODY_TIME, read};

/// How long what nobody wants of a request is read, so that its client comes to see the answer…
const UNREAD_BODY_LINGER: Duration = Duration::from_secs(10);
/// … and how long nothing of it may come: a client that has seen the answer stops.
const UNREAD_BODY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Frames of it that are thrown away before others have their turn.
const UNREAD_FRAMES_AT_ONCE: usize = 32;

/// A response body: one buffer, or chunks that come as they come.
pub struct Body {
    kind: Kind,
    /// The rest of a request that was answered before it was read.
    unread: Option<Unread>,
    /// What it takes of its connection's account.
    held: Option<Held>,
    /// It is read as it comes, by somebody who may stop to look at it.
    followed: bool,
    /// The rest of a piece that was made larger than pieces are sent.
    rest: Bytes,
    /// The request is over with its answer.
    sending: Option<Arc<Sending>>,
    /// Waits for room for the next piece.
    turn: Turn,
    /// Its end comes when all else is out.
    ends_when_out: bool,
    /// The most that goes out at once.
    slice: usize,
    /// To be dropped when it is out.
    _until_out: Option<Box<dyn Any + Send>>,
    /// What accounts for what was asked, which is needed while the answer is made.
    _heading: Option<Arc<Held>>,
    /// It counts among the answers that last.
    _counted: Option<Hold>,
    /// Its request is under way as long as it is.
    _passage: Option<Passage>,
    _busy: Option<Busy>,
}

/// A piece of an answer that is made as it is read.
pub(crate) struct Made {
    pub(crate) bytes: Bytes,
    /// What counts them, when others may send the same bytes.
    pub(crate) shared: Option<Arc<Shared>>,
}

impl From<Bytes> for Made {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, shared: None }
    }
}

struct Unread {
    rest: Incoming,
    /// What accounts for what the transport keeps of it.
    _window: Option<InWindow>,
    /// Until when it is read beside the answer, and the end of that at the latest; `None` to let it be.
    reading: Option<(Pin<Box<Sleep>>, Instant)>,
}

impl Unread {
    /// Lets go of what has come, while the answer goes on; answers whether there may be more.
    fn throw_away(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..UNREAD_FRAMES_AT_ONCE {
            match http_body::Body::poll_frame(Pin::new(&mut self.rest), cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return false,
                Poll::Pending => return true,
            }
        }
        cx.waker().wake_by_ref();
        true
    }

    /// Ready when the client has stopped sending, or had its time.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((pause, latest)) = &mut self.reading else { return Poll::Ready(()) };
        while pause.as_mut().poll(cx).is_pending() {
            match http_body::Body::poll_frame(Pin::new(&mut self.rest), cx) {
                Poll::Ready(Some(Ok(_))) => {
                    pause.as_mut().reset((Instant::now() + UNREAD_BODY_PAUSE_MAX).min(*latest));
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
    Chunks(Pin<Box<dyn Stream<Item = Result<Made, BodyError>> + Send>>),
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
        S: Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    {
        Self::made(stream.map(|chunk| chunk.map(Made::from)))
    }

    /// The same, of chunks that may be shared.
    #[must_use]
    pub(crate) fn made<S>(stream: S) -> Self
    where
        S: Stream<Item = Result<Made, BodyError>> + Send + 'static,
    {
        Kind::Chunks(Box::pin(stream)).into()
    }

    /// Somebody else's body, for handlers outside of this crate.
    #[must_use]
    pub fn foreign(body: UnsyncBoxBody<Bytes, BodyError>) -> Self {
        Kind::Foreign(body).into()
    }

    /// An answer with room of its own, which it keeps until the last of it is taken.
    pub(crate) fn in_room(bytes: Bytes, room: AnswerRoom) -> Self {
        match room.take(bytes) {
            RoomedBytes::Small(bytes, held) => Self::whole(bytes).keeping(held),
            RoomedBytes::Large(answer) => Kind::Large(answer).into(),
        }
    }

    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// The same, holding what was not read of the request. With `read_on` this body ends when the client
    /// has sent all of it, or had its time: until then it can read the answer.
    #[must_use]
    pub(crate) fn holding(
        self,
        (rest, window): (Incoming, Option<InWindow>),
        read_on: bool,
    ) -> Self {
        let reading = read_on
            .then(|| (Box::pin(sleep(UNREAD_BODY_PAUSE_MAX)), Instant::now() + UNREAD_BODY_LINGER));
        Self { unread: Some(Unread { rest, _window: window, reading }), ..self }
    }

    /// The same, which keeps what accounts for its request for as long as it is made as it is read.
    #[must_use]
    pub(crate) fn asked_with(mut self, heading: Option<Arc<Held>>) -> Self {
        if matches!(self.kind, Kind::Chunks(_) | Kind::Foreign(_)) {
            self._heading = heading;
        }
        self
    }

    /// The same, read by somebody who may stop to look at it.
    #[must_use]
    pub(crate) fn followed(self) -> Self {
        Self { followed: true, ..self }
    }

    /// The same, which counts in this gauge as long as it lasts.
    #[must_use]
    pub(crate) fn counted(self, gauge: Hold) -> Self {
        Self { _counted: Some(gauge), ..self }
    }

    /// The same, which drops this when it is out, or nobody wants it any more.
    #[must_use]
    pub(crate) fn keeping_until_out(self, it: Box<dyn Any + Send>) -> Self {
        Self { _until_out: Some(it), ..self }
    }

    /// All of it, where it is made.
    pub(crate) fn in_one_piece(&self) -> Option<&Bytes> {
        match &self.kind {
            Kind::Whole { rest, .. } => Some(rest),
            Kind::Chunks(_) | Kind::Foreign(_) | Kind::Large(_) => None,
        }
    }

    /// The same, of a request with this passage, which is free when this is out.
    #[must_use]
    pub(crate) fn passing(self, passage: Option<Passage>) -> Self {
        Self { _passage: passage, ..self }
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
            Kind::Whole { .. } | Kind::Chunks(_) | Kind::Foreign(_) | Kind::Large(_) => 0,
        }
    }

    /// The same, of a request that is over when this is sent, over a stream that can be reset or over none.
    #[must_use]
    pub(crate) fn during(mut self, busy: Busy, stream: Option<AbortHandle>) -> Self {
        if http_body::Body::is_end_stream(&self) {
            return Self { _busy: Some(busy), ..self };
        }
        let length = http_body::Body::size_hint(&self).exact();
        self.ends_when_out =
            stream.is_some() && length.is_none_or(|length| (ONE_FRAME_BYTES as u64) < length);
        self.slice = if stream.is_some() { ONE_FRAME_BYTES } else { PIECE_BYTES };
        self.sending = Some(Sending::new(busy, self.followed, self.held.take(), stream));
        self
    }

    /// The next of what it says, and what counts that when others may hold the same bytes.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> (Next, Option<Arc<Shared>>) {
        let mut shared = None;
        let next = match &mut self.kind {
            Kind::Whole { rest, .. } if rest.is_empty() => Poll::Ready(None),
            Kind::Whole { rest, cut } => Poll::Ready(Some(Ok(Frame::data(piece(rest, cut))))),
            Kind::Chunks(stream) => stream.as_mut().poll_next(cx).map_ok(|made| {
                shared = made.shared;
                Frame::data(made.bytes)
            }),
            Kind::Foreign(body) => http_body::Body::poll_frame(Pin::new(body), cx),
            Kind::Large(answer) => Poll::Ready(answer.next().map(|piece| piece.map(Frame::data))),
        };
        if next.is_pending()
            && let Some(unread) = self.unread.as_mut().filter(|unread| unread.reading.is_some())
            && !unread.throw_away(cx)
        {
            self.unread = None;
        }
        if !matches!(next, Poll::Ready(None)) {
            return (next, shared);
        }
        // Who has said its end is not asked again.
        self.kind = Kind::Whole { rest: Bytes::new(), cut: false };
        let end = self.unread.as_mut().map_or(Poll::Ready(()), |unread| unread.poll_end(cx));
        (end.map(|()| None), None)
    }

    /// The same as its connection gets it.
    fn poll_counted(&mut self, cx: &mut Context<'_>) -> Next {
        let Some(sending) = self.sending.take() else { return self.poll_next(cx).0 };
        let next = self.poll_sending(&sending, cx);
        self.sending = Some(sending);
        next
    }

    fn poll_sending(&mut self, sending: &Arc<Sending>, cx: &mut Context<'_>) -> Next {
        if !self.rest.is_empty() {
            let slice = self.rest.split_to(self.slice.min(self.rest.len()));
            return Poll::Ready(Some(Ok(Frame::data(sending.give(slice, None)))));
        }
        // What has its room as a whole would only wait for itself.
        let is_brief =
            matches!(&self.kind, Kind::Whole { rest, .. } if rest.len() <= BRIEF_ANSWER_BYTES);
        if !sending.is_held() && !is_brief {
            ready!(sending.poll_room(&mut self.turn, cx));
        }
        let (next, shared) = self.poll_next(cx);
        let frame = match ready!(next) {
            Some(Ok(frame)) => frame,
            None if self.ends_when_out => return sending.poll_out(cx).map(|()| None),
            end => return Poll::Ready(end),
        };
        let bytes = match frame.into_data() {
            Ok(bytes) if !bytes.is_empty() => bytes,
            Ok(empty) => return Poll::Ready(Some(Ok(Frame::data(empty)))),
            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
        };
        let is_counted = matches!(self.kind, Kind::Whole { cut: false, .. }) && sending.is_held();
        let held = (!is_counted).then(|| sending.hold(bytes.len(), shared));
        let mut bytes = sending.give(bytes, held);
        if self.slice < bytes.len() {
            self.rest = bytes;
            bytes = sending.give(self.rest.split_to(self.slice), None);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            unread: None,
            held: None,
            followed: false,
            rest: Bytes::new(),
            sending: None,
            turn: None,
            ends_when_out: false,
            slice: PIECE_BYTES,
            _until_out: None,
            _heading: None,
            _counted: None,
            _passage: None,
            _busy: None,
        }
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
        self.poll_counted(cx)
    }

    fn is_end_stream(&self) -> bool {
        let reads = self.unread.as_ref().is_some_and(|unread| unread.reading.is_some());
        if reads || self.ends_when_out || !self.rest.is_empty() {
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
    if !*cut && rest.len() <= PIECE_BYTES {
        return std::mem::take(rest);
    }
    *cut = true;
    let piece = Bytes::copy_from_slice(&rest[..PIECE_BYTES.min(rest.len())]);
    rest.advance(piece.len());
    if rest.is_empty() {
        *rest = Bytes::new();
    }
    piece
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::connection_slots::{ConnectionPermit, ConnectionSlots};
    use crate::memory_account::CONNECTION_BYTES_MAX;

    async fn place() -> ConnectionPermit {
        ConnectionSlots::new(1, 1, Arc::default()).take([127, 0, 0, 1].into()).await
    }

    /// The next bytes, if there are some now.
    fn next(body: &mut Body) -> Option<Bytes> {
        body.frame().now_or_never()?.map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn pieces_are_made_as_there_is_room_for_them() {
        let (place, made) = (place().await, Arc::new(AtomicUsize::new(0)));
        let mut bodies: Vec<_> = (0..100)
            .map(|_| {
                let made = made.clone();
                let large = futures::stream::repeat_with(move || {
                    made.fetch_add(1, Ordering::SeqCst);
                    Ok(Bytes::from(vec![7; 1 << 20]))
                });
                Body::chunks(large.take(3)).during(place.slot.busy(), None)
            })
            .collect();
        // hyper gives what it has to its streams, and asks for more.
        let mut sent: Vec<Vec<_>> = bodies
            .iter_mut()
            .map(|body| std::iter::from_fn(|| next(body)).take(40).collect())
            .collect();
        assert_eq!(
            made.load(Ordering::SeqCst),
            CONNECTION_BYTES_MAX >> 20,
            "megabytes for one connection"
        );
        assert!(sent[0].iter().all(|piece| piece.len() <= PIECE_BYTES));
        sent.clear();
        assert_eq!(
            place.slot.backlog.account.held(),
            5 << 20,
            "what was begun is there as a whole"
        );
        let (mut bytes, mut last) = (0, bodies.pop().unwrap());
        drop(bodies);
        assert_eq!(place.slot.backlog.account.held(), 0);
        while let Some(piece) = next(&mut last) {
            bytes += piece.len();
        }
        assert_eq!(bytes, 3 << 20, "nothing is lost on the way");
    }

    #[tokio::test]
    async fn a_long_answer_ends_when_it_is_out() {
        let place = place().await;
        let over = |bytes: usize, reset| {
            Body::whole(vec![7; bytes].into()).during(place.slot.busy(), reset)
        };
        for (bytes, http2, late) in
            [(1 << 20, true, true), (100, true, false), (1 << 20, false, false)]
        {
            let reset = http2.then(|| AbortHandle::new_pair().0);
            let mut body = over(bytes, reset);
            let slice = if http2 { ONE_FRAME_BYTES } else { PIECE_BYTES };
            let pieces: Vec<_> =
                (0..bytes.div_ceil(slice)).map(|_| next(&mut body).unwrap()).collect();
            assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), bytes);
            assert_eq!(http_body::Body::is_end_stream(&body), !late);
            assert_eq!(body.frame().now_or_never().is_none(), late, "{bytes} bytes are not out");
            let end = tokio::spawn(async move { body.frame().await.is_none() });
            tokio::task::yield_now().await;
            drop(pieces);
            assert!(end.await.unwrap());
        }
        // What is made as it is read ends once.
        let chunks = futures::stream::unfold(3, |left| async move {
            (0 < left).then(|| (Ok(Bytes::from_static(b"line")), left - 1))
        });
        let reset = Some(AbortHandle::new_pair().0);
        let mut body = Body::chunks(chunks).during(place.slot.busy(), reset);
        let lines = [(); 3].map(|()| next(&mut body).unwrap());
        assert!(body.frame().now_or_never().is_none());
        drop(lines);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn small_answers_wait_for_room_as_well() {
        let place = place().await;
        let mut bodies: Vec<_> = (0..1_000)
            .map(|_| {
                let reset = Some(AbortHandle::new_pair().0);
                Body::whole(vec![7; 60 << 10].into()).during(place.slot.busy(), reset)
            })
            .collect();
        let sent: Vec<_> = bodies.iter_mut().filter_map(next).collect();
        assert!(place.slot.backlog.account.held() <= CONNECTION_BYTES_MAX + (1 << 20));
        // What says that something is wrong is not held up by what is.
        let mut brief = Body::whole(vec![7; 500].into()).during(place.slot.busy(), None);
        assert_eq!(next(&mut brief).unwrap().len(), 500);
        drop(sent);
        drop(bodies);
        drop(brief);
        assert_eq!(place.slot.backlog.account.held(), 0);
    }
}
