//! What the transport keeps of requests' bodies that nobody has read yet: over HTTP/2 a window of so many bytes, which
//! all requests of a connection share.
//!
//! Guarantees:
//! - it is on its connection's account for as long as a body is there that may fill it, once for all of them
//!   (`bodies_that_wait_are_on_the_account_once`), as far as those which are there may fill it
//!   (`it_is_as_large_as_the_bodies_in_it`), and as large as that connection has it
//!   (`strangers_who_send_nothing_leave_room_for_the_known`);
//! - bodies that wait for something before they are read leave room in it for others, as many as come: who would fill it is
//!   told to ask again (`bodies_that_wait_leave_the_room_of_one`,
//!   `bodies_that_wait_for_seats_hold_up_no_other_level_of_their_connection`,
//!   `a_body_that_waits_leaves_others_of_a_token_s_connection_their_room`,
//!   `bodies_that_wait_for_an_authorizer_hold_up_nobody_else`,
//!   `bodies_that_wait_for_room_do_not_hold_up_those_that_have_some`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use freewheel_hub_schema::error::ApiError;
use http_body::Body;
use parking_lot::Mutex;

use crate::memory_account::{Full, Held, MemoryAccount, WINDOW_BYTES_MAX};
use crate::piece::BRIEF_ANSWER_BYTES;

/// How much comes before it is read.
#[derive(Clone, Copy)]
pub(crate) struct WindowSizes {
    /// Of one body.
    pub(crate) body: u32,
    /// Of all bodies of a connection.
    pub(crate) connection: u32,
}

/// For those whom we know. Over a line of 100 ms it lets 2.5 MB a second of one body through; those that wait for their
/// turn leave room for others, which may be of another priority.
pub(crate) const OF_THE_KNOWN: WindowSizes =
    WindowSizes { body: 256 * 1024, connection: 1024 * 1024 };
const _: () = assert!(OF_THE_KNOWN.connection as usize <= WINDOW_BYTES_MAX);
/// For strangers, of whom most send what is never read. Whoever shows a token with each request is one to the transport, and
/// a body of theirs that waits leaves room for another.
pub(crate) const OF_STRANGERS: WindowSizes =
    WindowSizes { body: 64 * 1024, connection: 128 * 1024 };
const _: () = assert!(2 * OF_STRANGERS.body <= OF_STRANGERS.connection);

/// Of one connection.
#[derive(Default)]
pub(crate) struct UnreadWindow {
    /// As the connection was opened with, whoever shows to be at its other end later.
    sizes: OnceLock<WindowSizes>,
    /// Held while the first body makes what all of them share, and then that: of two who come first one makes it. Who goes
    /// takes the inner one alone.
    bodies: Mutex<Weak<Mutex<Bodies>>>,
    /// What bodies may keep in it that nobody reads before something else is over.
    waiting: AtomicUsize,
}

/// A body that waits, until this is dropped.
pub(crate) struct Waiting<'w> {
    window: &'w UnreadWindow,
    bytes: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.window.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What is held for the bodies that are in it.
struct Bodies {
    held: Held,
    /// All that they may keep in it, each alone.
    bytes: usize,
    /// All that fits in it.
    most: usize,
}

impl Bodies {
    fn account(&mut self) {
        let bytes = self.bytes.min(self.most);
        self.held.grow_to(bytes);
        self.held.shrink(bytes);
    }
}

/// One body's part in it.
pub(crate) struct InWindow {
    bodies: Arc<Mutex<Bodies>>,
    bytes: usize,
}

impl Drop for InWindow {
    fn drop(&mut self) {
        let mut bodies = self.bodies.lock();
        bodies.bytes -= self.bytes;
        bodies.account();
    }
}

impl UnreadWindow {
    /// The connection is opened with these.
    pub(crate) fn opens(&self, sizes: WindowSizes) {
        let _ = self.sizes.set(sizes);
    }

    /// A body is not read before something else is over. Those that wait leave the room of one in it, or else those that
    /// are read would not come either. A single one may wait in any case. What has no body takes no room.
    ///
    /// # Errors
    /// 429 where it would leave less.
    pub(crate) fn wait<B: Body>(&self, body: &B) -> Result<Option<Waiting<'_>>, ApiError> {
        let Some(WindowSizes { body: one, connection }) = self.sizes.get() else { return Ok(None) };
        let bytes = in_window(body, *one as usize);
        let most = (connection - one) as usize;
        let more = |waiting: usize| {
            let fits = bytes == 0 || waiting == 0 || waiting + bytes <= most;
            fits.then_some(waiting + bytes)
        };
        let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(|_| Some(Waiting { window: self, bytes })).map_err(|_| Full::Unread.into())
    }

    /// A body comes, which may fill it; none that is brief, and none of which all is there. Its bytes come whether
    /// there is room for them or not, and who they are from is not known yet: nobody is refused for them, and who makes
    /// us hold too much has to go.
    pub(crate) fn hold<B: Body>(&self, account: &Arc<MemoryAccount>, body: &B) -> Option<InWindow> {
        let WindowSizes { body: most, connection } = *self.sizes.get().unwrap_or(&OF_STRANGERS);
        let bytes = in_window(body, most as usize);
        if bytes <= BRIEF_ANSWER_BYTES {
            return None;
        }
        let mut there = self.bodies.lock();
        let bodies = there.upgrade().unwrap_or_else(|| {
            let (held, most) = (account.piece(0).for_bodies(), connection as usize);
            let first = Arc::new(Mutex::new(Bodies { held, bytes: 0, most }));
            *there = Arc::downgrade(&first);
            first
        });
        let mut all = bodies.lock();
        all.bytes += bytes;
        all.account();
        drop(all);
        Some(InWindow { bodies, bytes })
    }
}

/// As much of a body as comes before it is read.
fn in_window<B: Body>(body: &B, most: usize) -> usize {
    if body.is_end_stream() {
        return 0;
    }
    let length = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    length.map_or(most, |bytes| bytes.min(most))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    #[test]
    fn bodies_that_wait_are_on_the_account_once() {
        let (window, account) = (UnreadWindow::default(), MemoryAccount::new(Arc::default()));
        let comes = |bytes: usize| {
            let body = Full::new(Bytes::from(vec![7; bytes]));
            window.hold(&account, &body)
        };
        window.opens(OF_THE_KNOWN);
        assert!(comes(0).is_none() && comes(BRIEF_ANSWER_BYTES).is_none());
        let first = comes(100_000);
        assert_eq!(account.held(), 100_000);
        let second = comes(100_000);
        assert_eq!((account.held(), account.is_coming()), (200_000, 200_000));
        let many: Vec<_> = (0..1_000).map(|_| comes(100_000)).collect();
        assert_eq!((account.held(), account.is_coming()), (1 << 20, 1 << 20));
        drop((first, many));
        assert_eq!(account.held(), 100_000, "one may fill it yet");
        drop(second);
        assert_eq!((account.held(), account.is_coming()), (0, 0));
        let all = account.hold_now(12 << 20).unwrap();
        let more = comes(100_000);
        assert_eq!(account.held(), (12 << 20) + 100_000, "nobody is refused for it");
        drop((all, more));
    }

    #[test]
    fn it_is_as_large_as_the_bodies_in_it() {
        let (window, account) = (UnreadWindow::default(), MemoryAccount::new(Arc::default()));
        window.opens(OF_THE_KNOWN);
        let comes = |bytes: usize| window.hold(&account, &Full::new(Bytes::from(vec![7; bytes])));
        let mut bodies: Vec<_> = (0..5).map(|_| comes(300_000)).collect();
        assert_eq!((account.held(), account.is_coming()), (1 << 20, 1 << 20));
        bodies.truncate(1);
        assert_eq!((account.held(), account.is_coming()), (256 << 10, 256 << 10));
        bodies.push(comes(100_000));
        assert_eq!(account.held(), (256 << 10) + 100_000);
        drop(bodies);
        assert_eq!((account.held(), account.is_coming()), (0, 0));
    }

    #[test]
    fn a_stranger_s_is_as_large_as_a_stranger_has_it() {
        let (window, account) = (UnreadWindow::default(), MemoryAccount::new(Arc::default()));
        window.opens(OF_STRANGERS);
        let bodies =
            [(); 3].map(|()| window.hold(&account, &Full::new(Bytes::from(vec![7; 60_000]))));
        assert_eq!(account.held(), 128 << 10);
        drop(bodies);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn bodies_that_wait_leave_the_room_of_one() {
        let body = |bytes: usize| Full::new(Bytes::from(vec![7; bytes]));
        let (known, stranger, of_http_1) =
            (UnreadWindow::default(), UnreadWindow::default(), UnreadWindow::default());
        known.opens(OF_THE_KNOWN);
        stranger.opens(OF_STRANGERS);
        let three: Vec<_> = [(); 3].map(|()| known.wait(&body(3 << 20)).unwrap()).into();
        assert_eq!(known.waiting.load(Ordering::Relaxed), 768 << 10);
        let refused = known.wait(&body(100)).err().unwrap();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        assert!(refused.message.contains("wait on this connection"), "{}", refused.message);
        assert!(known.wait(&body(0)).is_ok(), "what is all there takes no room");
        drop(three);
        let many: Vec<_> = (0..1_000).map(|_| known.wait(&body(700)).unwrap()).collect();
        assert_eq!(known.waiting.load(Ordering::Relaxed), 700_000);
        drop(many);
        let one = stranger.wait(&body(3 << 20)).unwrap();
        assert!(stranger.wait(&body(1)).is_err() && stranger.wait(&body(0)).is_ok());
        drop(one);
        let brief: Vec<_> = (0..65).map(|_| stranger.wait(&body(1_000)).unwrap()).collect();
        assert!(stranger.wait(&body(1_000)).is_err(), "half of it is left");
        drop(brief);
        assert_eq!(stranger.waiting.load(Ordering::Relaxed), 0);
        assert!((0..9).all(|_| of_http_1.wait(&body(3 << 20)).is_ok_and(|it| it.is_none())));
    }
}
