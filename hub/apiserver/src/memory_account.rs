//! Bytes that one connection makes the hub hold, and those of all connections together.
//!
//! ```text
//! hold ─▶ it fits, or waits until it does ─▶ Held        bodies and answers, whose size is known before they are there
//! room ─▶ there is some, or waits ─▶ piece ─▶ Held       pieces of answers, whose size is known when they are made
//! hold_heading ─▶ it fits, or is refused ─▶ Held         what requests were asked with, which lasts as long as they do
//! ```
//!
//! Guarantees:
//! - what is known before takes [`CONNECTION_BODY_BYTES_MAX`] of a connection's account at most, so that its watches
//!   always find room; who finds none waits for a while and is then told to ask again
//!   (`what_a_connection_holds_is_bounded_and_comes_back`);
//! - what requests were asked with is an account of its own, so that what lasts takes no room from what comes and goes
//!   (`what_watches_were_asked_with_leaves_requests_their_room`);
//! - nobody waits behind somebody who asks for more than there is (`who_asks_for_much_holds_up_nobody`), nor for their
//!   own to come back when it was others' that lacked (`who_found_no_room_in_all_is_not_left_waiting_for_its_own`);
//! - pieces are made when there is less than [`CONNECTION_BYTES_MAX`] only, one after the other, so that it is exceeded
//!   by as many as there are threads at most (`pieces_are_made_when_there_is_room`,
//!   `each_thread_makes_one_piece_too_many_at_most`);
//! - of all connections together, there is a [bound](all) in the same way: what needs more waits, and who is to be cut
//!   off is called (`what_all_connections_hold_is_bounded_and_comes_back`);
//! - what several hold counts once, and in equal parts as theirs
//!   (`what_is_shared_is_theirs_who_hold_it_in_equal_parts`).

mod all;
mod full;
mod portion;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freewheel_hub_schema::error::ApiError;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

pub(crate) use all::{ALL_CONNECTIONS_BYTES_MAX, Shared, TotalMemory};
pub(crate) use full::Full;
use portion::Portion;

/// Bytes that one connection may make the hub hold.
pub(crate) const CONNECTION_BYTES_MAX: usize = 16 << 20;
/// The part of it for what is asked for before it is there.
const CONNECTION_BODY_BYTES_MAX: usize = 12 << 20;
/// The most that the transport keeps of a connection's bodies which nobody has read.
pub(crate) const WINDOW_BYTES_MAX: usize = 1 << 20;
/// The most that one request takes for its body and its answer, which is enough for any: its connection holds as well
/// what the transport keeps of its body and of others, and it would wait for itself.
const REQUEST_BYTES_MAX: usize = CONNECTION_BODY_BYTES_MAX - WINDOW_BYTES_MAX;
/// The most that requests were asked with: as many as a connection may have at a time, each with a token of 8 KiB.
const HEADINGS_BYTES_MAX: usize = 18 << 20;
/// How long a request waits for its part: clients give up after half a minute.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(20);
/// How often who waits for other connections looks again. To wake all of them for every byte would cost more.
const ROOM_CHECK_EVERY: Duration = Duration::from_millis(50);

/// What one connection holds.
pub(crate) struct MemoryAccount {
    held: AtomicUsize,
    /// What of it others may hold as well.
    shared: Mutex<Pieces>,
    /// The part of it that is for bodies on their way.
    coming: Arc<AtomicUsize>,
    /// What requests were asked with, beside it.
    headings: AtomicUsize,
    all: Arc<TotalMemory>,
    asks: Queue,
    pieces: Queue,
}

/// Pieces of one connection that are shared, by their places. Mostly there are few at a time, and one comes and goes
/// with each event of each watcher.
#[derive(Default)]
struct Pieces {
    of: Vec<Option<Arc<Shared>>>,
    free: Vec<usize>,
}

/// Places that a connection keeps when all of them are free.
const FREE_PLACES_KEPT: usize = 8;

impl Pieces {
    /// One more; its place.
    fn put(&mut self, piece: Arc<Shared>) -> usize {
        let place = self.free.pop().unwrap_or(self.of.len());
        match self.of.get_mut(place) {
            Some(free) => *free = Some(piece),
            None => self.of.push(Some(piece)),
        }
        place
    }

    fn take(&mut self, place: usize) -> Option<Arc<Shared>> {
        let piece = self.of.get_mut(place)?.take()?;
        self.free.push(place);
        if self.free.len() == self.of.len() {
            self.of.clear();
            self.free.clear();
            self.of.shrink_to(FREE_PLACES_KEPT);
            self.free.shrink_to(FREE_PLACES_KEPT);
        }
        Some(piece)
    }
}

/// Those who wait for there to be less.
#[derive(Default)]
struct Queue {
    waiting: AtomicUsize,
    less: Notify,
}

/// A part of an account; it is free again when this is dropped.
pub(crate) struct Held {
    account: Arc<MemoryAccount>,
    bytes: usize,
    /// Its place, when others may hold the same bytes: they are counted once for all.
    shared: Option<usize>,
    /// It is for something that nobody takes.
    portion: Option<Portion>,
    /// It is on the account of what requests were asked with.
    is_heading: bool,
}

impl MemoryAccount {
    pub(crate) fn new(all: Arc<TotalMemory>) -> Arc<Self> {
        let (asks, pieces) = (Queue::default(), Queue::default());
        let (held, shared) = (AtomicUsize::new(0), Mutex::default());
        let (coming, headings) = (Arc::default(), AtomicUsize::new(0));
        Arc::new(Self { held, shared, coming, headings, all, asks, pieces })
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// What nobody else holds, what requests were asked with, and its part of what is shared: when all who hold that are
    /// gone, there is so much less.
    pub(crate) fn own(&self) -> usize {
        let shared = self.shared.lock();
        let counts = |(bytes, parts), one: &Arc<Shared>| (bytes + one.bytes(), parts + one.part());
        let (bytes, parts) = shared.of.iter().flatten().fold((0, 0), counts);
        self.held().saturating_sub(bytes) + parts + self.headings()
    }

    /// So many bytes of what is held are for a body that is on its way, until this is dropped.
    pub(crate) fn coming(&self, bytes: usize) -> Portion {
        Portion::of(&self.coming, bytes)
    }

    /// What is held for bodies on their way.
    pub(crate) fn is_coming(&self) -> usize {
        self.coming.load(Ordering::Relaxed)
    }

    /// What is held of that which requests were asked with.
    pub(crate) fn headings(&self) -> usize {
        self.headings.load(Ordering::SeqCst)
    }

    /// So many bytes that a request was asked with, at once or not at all.
    pub(crate) fn hold_heading(self: &Arc<Self>, bytes: usize) -> Result<Held, ApiError> {
        if self.all.lacks(bytes) {
            return Err(Full::All.into());
        }
        let more = |held: usize| Some(held + bytes).filter(|held| *held <= HEADINGS_BYTES_MAX);
        let taken = self.headings.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.map_err(|_| Full::Headings)?;
        self.all.add(bytes);
        let mut held = Held::of(self, bytes);
        held.is_heading = true;
        Ok(held)
    }

    /// Waits for so many bytes; the most that there is is enough for anything.
    pub(crate) async fn hold(self: &Arc<Self>, bytes: usize) -> Result<Option<Held>, ApiError> {
        if bytes == 0 {
            return Ok(None);
        }
        let bytes = bytes.min(REQUEST_BYTES_MAX);
        if self.take(bytes).is_err()
            && timeout(ROOM_WAIT_MAX, self.until_it_fits(bytes)).await.is_err()
        {
            let full = if self.all.lacks(bytes) { Full::All } else { Full::Own };
            return Err(full.into());
        }
        Ok(Some(Held::of(self, bytes)))
    }

    /// The same at once, or not at all.
    pub(crate) fn hold_now(self: &Arc<Self>, bytes: usize) -> Result<Option<Held>, ApiError> {
        match self.take(bytes) {
            Ok(()) => Ok(Some(Held::of(self, bytes))),
            Err(full) => Err(full.into()),
        }
    }

    /// Takes it, when there is room for it.
    fn take(&self, bytes: usize) -> Result<(), Full> {
        if self.all.lacks(bytes) {
            return Err(Full::All);
        }
        let more =
            |held: usize| Some(held + bytes).filter(|held| *held <= CONNECTION_BODY_BYTES_MAX);
        let taken = self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.map_err(|_| Full::Own)?;
        self.all.add(bytes);
        Ok(())
    }

    async fn until_it_fits(&self, bytes: usize) {
        let _place = self.asks.place();
        loop {
            // Before the look: what comes back in between is not missed.
            let less = self.asks.less.notified();
            match self.take(bytes) {
                Ok(()) => return,
                Err(Full::All) => sleep(ROOM_CHECK_EVERY).await,
                // Something is held then, and whoever gives it back calls.
                Err(Full::Own | Full::Headings | Full::Unread) => less.await,
            }
        }
    }

    /// Whether a piece may be made.
    pub(crate) fn has_room(&self) -> bool {
        self.held() < CONNECTION_BYTES_MAX && !self.all.lacks(1)
    }

    /// Waits until a piece may be made. Who is through lets the next one look.
    pub(crate) async fn room(self: Arc<Self>) {
        let _place = self.pieces.place();
        loop {
            let less = self.pieces.less.notified();
            if self.all.lacks(1) {
                sleep(ROOM_CHECK_EVERY).await;
            } else if self.held() < CONNECTION_BYTES_MAX {
                return;
            } else {
                less.await;
            }
        }
    }

    /// A piece that was made.
    pub(crate) fn piece(self: &Arc<Self>, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Ordering::SeqCst);
        self.all.add(bytes);
        Held::of(self, bytes)
    }

    /// A piece that others may hold as well.
    pub(crate) fn shared(self: &Arc<Self>, what: Arc<Shared>) -> Held {
        let bytes = what.bytes();
        self.held.fetch_add(bytes, Ordering::SeqCst);
        what.add_piece();
        let mut held = Held::of(self, bytes);
        held.shared = Some(self.shared.lock().put(what));
        held
    }
}

impl Held {
    fn of(account: &Arc<MemoryAccount>, bytes: usize) -> Self {
        let account = account.clone();
        Self { account, bytes, shared: None, portion: None, is_heading: false }
    }

    /// It is for bodies that are on their way.
    pub(crate) fn for_bodies(mut self) -> Self {
        self.portion = Some(Portion::of(&self.account.coming, self.bytes));
        self
    }

    /// Takes as much as is there already, or comes whatever happens.
    pub(crate) fn grow_to(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        self.account.held.fetch_add(more, Ordering::SeqCst);
        self.account.all.add(more);
        self.bytes += more;
        if let Some(portion) = &mut self.portion {
            portion.grow(more);
        }
    }

    /// Takes as much as it turned out to need, at once or not at all.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let more = bytes.saturating_sub(self.bytes);
        if more != 0 {
            self.account.take(more)?;
            self.bytes += more;
        }
        Ok(())
    }

    /// A part of it, as far as there is so much, which is free when that is dropped.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self::of(&self.account, bytes)
    }

    /// The same, and what it lacks of that beside it: the bytes are there already.
    pub(crate) fn split_or_more(&mut self, bytes: usize) -> Self {
        let mut part = self.split(bytes);
        let more = bytes - part.bytes;
        part.bytes = bytes;
        self.account.held.fetch_add(more, Ordering::SeqCst);
        self.account.all.add(more);
        part
    }

    /// Gives back what is not needed.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes);
        self.bytes -= more;
        if let Some(portion) = &mut self.portion {
            portion.shrink(more);
        }
        self.give_back(more);
    }

    fn give_back(&self, bytes: usize) {
        let account = &self.account;
        if self.is_heading {
            // Nobody waits for room there.
            account.headings.fetch_sub(bytes, Ordering::SeqCst);
            return account.all.give_back(bytes);
        }
        account.held.fetch_sub(bytes, Ordering::SeqCst);
        if self.shared.is_none() {
            account.all.give_back(bytes);
        }
        if account.asks.waiting.load(Ordering::SeqCst) != 0 {
            account.asks.less.notify_waiters();
        }
        account.pieces.call_one();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let shared = self.shared.and_then(|place| self.account.shared.lock().take(place));
        if let Some(shared) = shared {
            shared.forget_piece();
        }
        self.give_back(self.bytes);
    }
}

impl Queue {
    fn place(&self) -> InQueue<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        InQueue(self)
    }

    fn call_one(&self) {
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.less.notify_one();
        }
    }
}

/// One who waits. Who is through, or goes away, lets the next one look.
struct InQueue<'a>(&'a Queue);

impl Drop for InQueue<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.call_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use futures::FutureExt as _;

    use super::*;

    fn account() -> Arc<MemoryAccount> {
        MemoryAccount::new(Arc::default())
    }

    fn at_once(account: &Arc<MemoryAccount>, bytes: usize) -> Option<Held> {
        account.hold(bytes).now_or_never()?.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_connection_holds_is_bounded_and_comes_back() {
        let account = account();
        let mut most = at_once(&account, 100 << 20).unwrap();
        let window = account.hold_now(WINDOW_BYTES_MAX).unwrap();
        assert!(account.hold(0).await.unwrap().is_none(), "nothing needs nothing");
        let refused = account.hold(1).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        assert!(refused.message.contains("this connection"), "{refused}");
        assert!(account.has_room(), "for pieces there is always some");
        most.shrink(REQUEST_BYTES_MAX - 1);
        let rest = at_once(&account, 1).expect("at once");
        drop((most, rest, window));
        assert!(at_once(&account, CONNECTION_BODY_BYTES_MAX).is_some());
        assert_eq!((account.held(), account.all.held()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_watches_were_asked_with_leaves_requests_their_room() {
        let account = account();
        let watches: Vec<_> = (0..800).map(|_| account.hold_heading(17_400)).collect();
        assert!(watches.iter().all(Result::is_ok));
        assert!(at_once(&account, CONNECTION_BODY_BYTES_MAX / 2).is_some());
        // There is a bound to them as well, which is told by its name.
        let more: Vec<_> = (0..800).map(|_| account.hold_heading(17_400)).collect();
        let refused = more.into_iter().find_map(Result::err).unwrap();
        assert_eq!(refused.code, 429);
        assert!(refused.message.contains("headers"), "{refused}");
        drop(watches);
        assert!(account.hold_heading(17_400).is_ok());
        assert_eq!((account.held(), account.headings(), account.all.held()), (0, 0, 0));
    }

    #[test]
    fn a_part_is_free_when_it_is_dropped() {
        let account = account();
        let mut held = account.piece(10);
        let part = held.split(4);
        drop(held);
        assert_eq!((part.bytes, account.held()), (4, 4));
        drop(part);
        assert_eq!((account.held(), account.all.held()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_much_holds_up_nobody() {
        let account = account();
        let half = at_once(&account, CONNECTION_BODY_BYTES_MAX / 2).unwrap();
        let much = account.clone();
        let much = tokio::spawn(async move { much.hold(CONNECTION_BODY_BYTES_MAX).await.is_ok() });
        while account.asks.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(at_once(&account, CONNECTION_BODY_BYTES_MAX / 2).is_some());
        assert!(!much.is_finished());
        drop(half);
        assert!(much.await.unwrap(), "it has its turn when there is room");
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_are_made_when_there_is_room() {
        let account = account();
        let first = account.piece(CONNECTION_BYTES_MAX - 1);
        assert!(account.has_room());
        let last = account.piece(2 << 20);
        assert!(!account.has_room());
        let waiting = [(); 3].map(|()| tokio::spawn(account.clone().room()));
        while account.pieces.waiting.load(Ordering::SeqCst) != 3 {
            tokio::task::yield_now().await;
        }
        drop(last);
        for waits in waiting {
            timeout(ROOM_WAIT_MAX, waits)
                .await
                .expect("who is through calls the next one")
                .unwrap();
        }
        // One that goes away lets the next one look, too.
        let last = account.piece(1);
        let [gone, next] = [(); 2].map(|()| tokio::spawn(account.clone().room()));
        while account.pieces.waiting.load(Ordering::SeqCst) != 2 {
            tokio::task::yield_now().await;
        }
        drop(last);
        gone.abort();
        timeout(ROOM_WAIT_MAX, next).await.expect("it is called").unwrap();
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn what_all_connections_hold_is_bounded_and_comes_back() {
        let all = Arc::new(TotalMemory::of(8 << 20));
        let [one, two] = [(); 2].map(|()| MemoryAccount::new(all.clone()));
        let shared = all.share(1 << 20);
        let again = [one.shared(shared.clone()), two.shared(shared.clone())];
        let most = at_once(&one, 7 << 20).expect("what is shared counts once");
        assert!(!all.was_short());
        let refused = two.hold(1).await.err().unwrap();
        assert_eq!(refused.code, 429);
        assert!(refused.message.contains("the hub holds"), "{refused}");
        assert!(all.was_short() && !two.has_room() && all.was_short() && !all.was_short());
        assert_eq!(all.excess(), 1 << 20);
        all.short().now_or_never().expect("somebody is called");
        let waits = tokio::spawn(two.clone().room());
        let asks = two.clone();
        let asks = tokio::spawn(async move { asks.hold(1 << 20).await.is_ok() });
        drop(most);
        waits.await.unwrap();
        assert!(asks.await.unwrap());
        drop((shared, again));
        assert_eq!(all.held(), 0);
    }

    #[test]
    fn what_is_shared_is_theirs_who_hold_it_in_equal_parts() {
        let all = Arc::new(TotalMemory::default());
        let [one, two] = [(); 2].map(|()| MemoryAccount::new(all.clone()));
        let frame = all.share(4 << 20);
        let own = one.piece(1 << 20);
        let first = one.shared(frame.clone());
        assert_eq!((one.own(), two.own()), (5 << 20, 0));
        let more =
            [two.shared(frame.clone()), two.shared(frame.clone()), one.shared(frame.clone())];
        assert_eq!((one.own(), two.own()), (3 << 20, 2 << 20));
        drop((first, more));
        assert_eq!((one.own(), two.own(), two.held()), (1 << 20, 0, 0));
        drop((own, frame));
        assert_eq!((one.own(), all.held()), (0, 0));
    }

    #[test]
    fn places_of_what_is_shared_are_used_again_and_given_back() {
        let all = Arc::new(TotalMemory::default());
        let one = MemoryAccount::new(all.clone());
        let frame = all.share(1 << 10);
        for many in [3, 1000, 1] {
            let mut held: Vec<_> = (0..many).map(|_| one.shared(frame.clone())).collect();
            // The first, and again one in its place.
            drop(held.swap_remove(0));
            held.push(one.shared(frame.clone()));
            let places = |shared: &Pieces| (shared.of.len(), shared.free.len());
            assert_eq!((places(&one.shared.lock()), one.held()), ((many, 0), many << 10));
            drop(held);
            let shared = one.shared.lock();
            assert!(shared.of.is_empty() && shared.of.capacity() <= FREE_PLACES_KEPT);
            assert!(shared.free.is_empty() && shared.free.capacity() <= FREE_PLACES_KEPT);
        }
        assert_eq!((one.held(), one.own()), (0, 0));
    }

    #[tokio::test]
    async fn who_found_no_room_in_all_is_not_left_waiting_for_its_own() {
        let all = Arc::new(TotalMemory::of(1 << 20));
        let stop = Arc::new(AtomicBool::new(false));
        let (others, over) = (all.clone(), stop.clone());
        // Others come and go so fast that whoever looks twice sees two things.
        let others = std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                drop(others.share(2 << 20));
            }
        });
        for _ in 0..10 {
            let asks: Vec<_> = (0..5_000)
                .map(|_| {
                    let account = MemoryAccount::new(all.clone());
                    tokio::spawn(async move { drop(account.hold(1).await) })
                })
                .collect();
            for asks in asks {
                timeout(ROOM_WAIT_MAX / 2, asks).await.expect("it looks again").unwrap();
            }
        }
        stop.store(true, Ordering::SeqCst);
        others.join().unwrap();
    }

    #[test]
    fn each_thread_makes_one_piece_too_many_at_most() {
        const THREADS: usize = 8;
        const PIECE_BYTES: usize = 1 << 20;
        let account = account();
        for _ in 0..100 {
            let together = std::sync::Barrier::new(THREADS);
            let makes = || {
                together.wait();
                let made = (0..64).map(|_| account.has_room().then(|| account.piece(PIECE_BYTES)));
                made.flatten().collect::<Vec<_>>()
            };
            let made: Vec<_> = std::thread::scope(|scope| {
                let threads = [(); THREADS].map(|()| scope.spawn(makes));
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            assert!(
                (CONNECTION_BYTES_MAX..CONNECTION_BYTES_MAX + THREADS * PIECE_BYTES)
                    .contains(&account.held())
            );
            drop(made);
            assert_eq!(account.held(), 0);
        }
    }
}
