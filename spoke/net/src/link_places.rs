//! Connections from here to pods on other nodes: whose they are, and who from outside makes room for another one where the
//! way there carries as many as it may.
//!
//! ```text
//! dial ──▶ the way is full ──▶ of the client with most, the one that was silent longest goes ──▶ dial
//!    └──▶ a connection, until it ends or has to go       └──▶ nobody has more: refused at once
//! ```
//!
//! At the hub a node is one asker, however many clients come in by it, and of what the hub has for it there the first
//! client could have all. Only here it is known whose connections are which, and whether they are in use. What
//! [`CLIENT_TUNNELS_KEPT_FREE`](freewheel_link::limits::CLIENT_TUNNELS_KEPT_FREE) keeps from one client is enough while the
//! hub has nobody else who asks; its share for a node gets smaller with those who do.
//!
//! Guarantees:
//! - idle clients of a way that is full make room for another client
//!   (`idle_clients_of_a_full_way_make_room_for_another_client`) and for a pod of this node
//!   (`idle_clients_of_a_full_way_make_room_for_a_pod`), and not for one who has as many as they
//!   (`who_has_most_of_a_full_way_is_refused_and_nobody_goes`);
//! - it is the client with most of them who gives, of those that are silent the one that was longest, those first that
//!   never got a byte, and those first that lead where the way is full; no connection of a pod goes, nor one that is in use
//!   (`of_those_who_have_most_the_one_that_was_silent_longest_goes`);
//! - one who waits sends more away each time that it was in vain, as the hub's share may have got smaller than what is
//!   here, and at most 63 of them; after that nobody goes for that way for [`IN_VAIN_FOR`]
//!   (`after_those_who_went_in_vain_nobody_goes_for_a_while`), nor where it has given up
//!   (`who_gives_up_leaves_the_rest_alone`);
//! - few wait, and the others are refused at once (`few_wait_for_a_full_way`), as is who has somewhere else to go
//!   (`a_full_way_is_waited_for_when_nobody_else_is_left`); who has more than one of them does not come before it
//!   (`who_has_more_stands_back_for_who_waits`), and a place that is given back is asked for soon
//!   (`who_waits_asks_soon_for_a_place_that_is_given_back`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use freewheel_link::address_networks;
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::Asker;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::bridge::Stream;
use crate::error::{Bottleneck, NetError};

/// A client's connection that was silent for so long may have to make room.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(1);

/// How often one who waits asks again, each time after twice as long: three seconds in all.
const ROUNDS: u32 = 6;
/// The first time, and after somebody has gone: the hub and the other node have to hear of that first.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Who is sent away for one who waits: one at first, and twice as many each time that it was in vain.
#[cfg(test)]
const SENT_AWAY_MAX: usize = (1 << ROUNDS) - 1;
/// How long nobody is sent away for a way that somebody did not get who has sent some away: others take what they leave.
const IN_VAIN_FOR: Duration = Duration::from_secs(5);

/// Who may wait at a time, of all and of one client or pod. Each of them asks again and again, over the link.
const WAITERS_MAX: usize = 16;
const ASKER_WAITERS_MAX: usize = 4;

/// Whose a connection is, and where it leads.
#[derive(Clone, Debug)]
struct Whose {
    realm: ClusterName,
    asker: Asker,
    /// The addresses of pods that are leased together: who has one of them is on the same node.
    range: IpAddr,
}

/// A connection to another node.
struct Carried {
    number: u64,
    whose: Whose,
    /// When its last byte came or went, in milliseconds of the node's time.
    last: AtomicU64,
    /// It got something from its pod.
    served: AtomicBool,
    leave: CancellationToken,
}

/// All of a node.
pub(crate) struct LinkPlaces {
    opened: Instant,
    state: Mutex<LinkPlacesState>,
    /// A connection has ended.
    freed: Notify,
}

#[derive(Default)]
struct LinkPlacesState {
    /// The number of the next that comes, or waits.
    next: u64,
    all: BTreeMap<u64, Arc<Carried>>,
    waiting: BTreeMap<u64, Whose>,
    /// For whom some have gone in vain, and when.
    in_vain: Vec<(Whose, Instant)>,
}

/// Its place, until this is dropped.
struct LinkPlace {
    places: Arc<LinkPlaces>,
    carried: Arc<Carried>,
}

/// A turn to wait, until this is dropped.
struct Turn<'a> {
    places: &'a LinkPlaces,
    number: u64,
    /// How many have gone for it, in vain until it has what it waits for.
    gone: usize,
}

/// A stream to another node that has its place here.
pub(crate) struct PlacedStream {
    // Its place on the link is free when it is here.
    stream: Box<dyn Stream>,
    place: LinkPlace,
}

impl LinkPlaces {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { opened: Instant::now(), state: Mutex::default(), freed: Notify::new() })
    }

    /// Connects one who asks from an address to a pod. Where the way is full, one who `waits` does so for somebody to make
    /// room.
    pub(crate) async fn connect<D>(
        self: &Arc<Self>,
        realm: &ClusterName,
        (from, to): (IpAddr, IpAddr),
        waits: bool,
        dial: impl Fn() -> D,
    ) -> Result<PlacedStream, NetError>
    where
        D: Future<Output = Result<Box<dyn Stream>, NetError>>,
    {
        let range = address_networks::around(to)[1];
        let whose = Whose { realm: realm.clone(), asker: Asker::at(from), range };
        if self.state.lock().stands_back(&whose) {
            return Err(NetError::WayFull(Bottleneck::Link));
        }
        let mut full = match dial().await {
            Err(NetError::WayFull(bottleneck)) => bottleneck,
            reached => return Ok(self.hold(whose, reached?)),
        };
        let turn = if waits { self.wait(&whose) } else { None };
        let mut turn = turn.ok_or(NetError::WayFull(full))?;
        for round in 0..ROUNDS {
            turn.gone += self.send_away(&whose, full, 1_usize << round);
            let until = Instant::now() + PAUSE_FIRST * (1_u32 << round);
            while Instant::now() < until {
                if timeout_at(until, self.freed.notified()).await.is_ok() {
                    sleep(PAUSE_FIRST).await;
                }
                match dial().await {
                    Err(NetError::WayFull(bottleneck)) => full = bottleneck,
                    reached => {
                        turn.gone = 0;
                        return Ok(self.hold(whose, reached?));
                    }
                }
            }
        }
        Err(NetError::WayFull(full))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn hold(self: &Arc<Self>, whose: Whose, stream: Box<dyn Stream>) -> PlacedStream {
        let mut state = self.state.lock();
        let number = state.number();
        let (last, served) = (AtomicU64::new(self.now()), AtomicBool::new(false));
        let leave = CancellationToken::new();
        let carried = Arc::new(Carried { number, whose, last, served, leave });
        state.all.insert(number, carried.clone());
        drop(state);
        PlacedStream { stream, place: LinkPlace { places: self.clone(), carried } }
    }

    /// A turn to wait, if few do and somebody may go for this one.
    fn wait(&self, whose: &Whose) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        let own = state.waiting.values().filter(|other| other.asker == whose.asker).count();
        let may = own < ASKER_WAITERS_MAX && state.waiting.len() < WAITERS_MAX;
        if !may || !state.has_anybody_more(whose) {
            return None;
        }
        let number = state.number();
        state.waiting.insert(number, whose.clone());
        drop(state);
        Some(Turn { places: self, number, gone: 0 })
    }

    /// Has so many go for this one at most. How many go.
    fn send_away(&self, whose: &Whose, full: Bottleneck, most: usize) -> usize {
        let now = self.now();
        let mut state = self.state.lock();
        state.in_vain.retain(|(_, since)| since.elapsed() < IN_VAIN_FOR);
        if state.in_vain.iter().any(|(other, _)| other.leads_where(whose)) {
            return 0;
        }
        let mut gone = 0;
        while gone < most
            && let Some(next) = state.next_to_go(whose, full, now)
        {
            next.leave.cancel();
            gone += 1;
        }
        gone
    }
}

impl Whose {
    fn leads_where(&self, other: &Self) -> bool {
        self.realm == other.realm && self.range == other.range
    }

    /// A pod keeps what it has: a guest does not expect the network to end what it has opened.
    const fn is_from_outside(&self) -> bool {
        matches!(self.asker, Asker::Client(_))
    }
}

impl LinkPlacesState {
    const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Those of a realm that are not on their way out.
    fn staying(&self, realm: &ClusterName) -> impl Iterator<Item = &Arc<Carried>> {
        let stays = move |it: &&Arc<Carried>| it.whose.realm == *realm && !it.leave.is_cancelled();
        self.all.values().filter(stays)
    }

    /// How many of those each has.
    fn counts(&self, realm: &ClusterName) -> BTreeMap<&Asker, usize> {
        let mut counts = BTreeMap::new();
        for carried in self.staying(realm) {
            *counts.entry(&carried.whose.asker).or_default() += 1;
        }
        counts
    }

    /// Whether anybody from outside has more than this one would have with one more.
    fn has_anybody_more(&self, whose: &Whose) -> bool {
        let counts = self.counts(&whose.realm);
        let most = counts.get(&whose.asker).copied().unwrap_or_default() + 1;
        self.staying(&whose.realm).any(|it| {
            it.whose.is_from_outside() && counts.get(&it.whose.asker).is_some_and(|it| most < *it)
        })
    }

    /// Whether one with fewer waits for the same way.
    fn stands_back(&self, whose: &Whose) -> bool {
        if self.waiting.is_empty() || !whose.is_from_outside() {
            return false;
        }
        let counts = self.counts(&whose.realm);
        let of = |asker: &Asker| counts.get(asker).copied().unwrap_or_default();
        let own = of(&whose.asker);
        self.waiting.values().any(|other| other.leads_where(whose) && of(&other.asker) < own)
    }

    /// Who goes for this one. Where it is not this node's own link that is full, those who go the same way are of more use
    /// than others.
    fn next_to_go(&self, whose: &Whose, full: Bottleneck, now: u64) -> Option<&Arc<Carried>> {
        let counts = self.counts(&whose.realm);
        let of = |asker: &Asker| counts.get(asker).copied().unwrap_or_default();
        let own = of(&whose.asker);
        let may_go = |it: &&Arc<Carried>| {
            it.whose.is_from_outside() && it.is_silent(now) && own + 1 < of(&it.whose.asker)
        };
        let rank = |it: &&Arc<Carried>| {
            let is_elsewhere = full == Bottleneck::Beyond && !it.whose.leads_where(whose);
            let (served, last) = (it.served.load(Relaxed), it.last.load(Relaxed));
            (is_elsewhere, Reverse(of(&it.whose.asker)), served, last, it.number)
        };
        self.staying(&whose.realm).filter(may_go).min_by_key(rank)
    }
}

impl Carried {
    fn is_silent(&self, now: u64) -> bool {
        SILENT_AFTER.as_millis() <= u128::from(now.saturating_sub(self.last.load(Relaxed)))
    }
}

impl LinkPlace {
    fn used(&self) {
        // Of a pod's nobody asks.
        if self.carried.whose.is_from_outside() {
            self.carried.last.store(self.places.now(), Relaxed);
        }
    }
}

impl Drop for LinkPlace {
    fn drop(&mut self) {
        self.places.state.lock().all.remove(&self.carried.number);
        self.places.freed.notify_waiters();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        if let Some(whose) = state.waiting.remove(&self.number)
            && 0 < self.gone
        {
            state.in_vain.push((whose, Instant::now()));
        }
    }
}

impl PlacedStream {
    /// Cancelled when it has to make room.
    pub(crate) fn leave(&self) -> CancellationToken {
        self.place.carried.leave.clone()
    }
}

impl AsyncRead for PlacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if before < buf.filled().len() {
            self.place.used();
            self.place.carried.served.store(true, Relaxed);
        }
        polled
    }
}

impl AsyncWrite for PlacedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if polled.is_ready() {
            self.place.used();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Stream for PlacedStream {
    fn is_stopped(&mut self, cx: &mut Context<'_>) -> bool {
        self.stream.is_stopped(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::{Ready, ready};

    use super::*;

    type Dialled = Ready<Result<Box<dyn Stream>, NetError>>;

    fn reached() -> Dialled {
        ready(Ok(Box::new(tokio::io::duplex(8).0) as Box<dyn Stream>))
    }

    fn full() -> Dialled {
        ready(Err(NetError::WayFull(Bottleneck::Beyond)))
    }

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    async fn connect(
        places: &Arc<LinkPlaces>,
        from: &str,
        to: &str,
        dial: impl Fn() -> Dialled,
    ) -> Result<PlacedStream, NetError> {
        places.connect(&ClusterName::root(), (ip(from), ip(to)), true, dial).await
    }

    /// So many connections.
    async fn open(
        places: &Arc<LinkPlaces>,
        from: &str,
        to: &str,
        most: usize,
    ) -> Vec<PlacedStream> {
        let mut open = Vec::new();
        for _ in 0..most {
            open.push(connect(places, from, to, reached).await.unwrap());
        }
        open
    }

    /// Which of them have to go.
    fn going(open: &[PlacedStream]) -> Vec<usize> {
        let goes = |(at, it): (usize, &PlacedStream)| it.leave().is_cancelled().then_some(at);
        open.iter().enumerate().filter_map(goes).collect()
    }

    fn whose(from: &str, to: &str) -> Whose {
        let range = address_networks::around(ip(to))[1];
        Whose { realm: ClusterName::root(), asker: Asker::at(ip(from)), range }
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_who_have_most_the_one_that_was_silent_longest_goes() {
        let places = LinkPlaces::new();
        let (near, far) = ("10.64.1.7", "10.64.2.7");
        let most = open(&places, "192.0.2.1", near, 6).await;
        let few = open(&places, "192.0.2.2", near, 3).await;
        let pod = open(&places, "10.64.0.9", near, 20).await;
        let elsewhere = open(&places, "192.0.2.3", far, 9).await;
        let late = whose("192.0.2.4", near);
        let send = |full, count| places.send_away(&late, full, count);
        assert_eq!(send(Bottleneck::Beyond, 9), 0, "all have just come");
        tokio::time::advance(SILENT_AFTER).await;
        most[0].place.carried.served.store(true, Relaxed);
        most[2].place.used();
        assert_eq!(send(Bottleneck::Beyond, 2), 2);
        assert_eq!(going(&most), [1, 3], "one that was served later, one in use not at all");
        // They have four and three by now; who asks would have one.
        assert_eq!(send(Bottleneck::Beyond, 3), 3);
        assert_eq!((going(&most), going(&few)), (vec![1, 3, 4, 5], vec![0]));
        // Whoever has most on this node's link, wherever that leads.
        assert_eq!(send(Bottleneck::Link, 2), 2);
        assert_eq!(going(&elsewhere), [0, 1]);
        send(Bottleneck::Beyond, 99);
        assert_eq!(going(&pod), Vec::<usize>::new());
        let left = [&most, &few, &elsewhere].map(|open| open.len() - going(open).len());
        assert_eq!(left, [1, 1, 1]);
        drop((most, few, pod, elsewhere));
        assert!(places.state.lock().all.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn after_those_who_went_in_vain_nobody_goes_for_a_while() {
        let places = LinkPlaces::new();
        let to = "10.64.1.7";
        let stranger = open(&places, "192.0.2.1", to, 2 * SENT_AWAY_MAX).await;
        tokio::time::advance(SILENT_AFTER).await;
        let begun = Instant::now();
        let refused = connect(&places, "192.0.2.2", to, full).await.err();
        assert_eq!(refused, Some(NetError::WayFull(Bottleneck::Beyond)));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert_eq!(going(&stranger).len(), SENT_AWAY_MAX);
        assert!(connect(&places, "192.0.2.2", to, full).await.is_err());
        assert_eq!(going(&stranger).len(), SENT_AWAY_MAX, "the next ones would go in vain, too");
        tokio::time::advance(IN_VAIN_FOR).await;
        assert!(connect(&places, "192.0.2.2", to, full).await.is_err());
        assert_eq!(going(&stranger).len(), 2 * SENT_AWAY_MAX - 1, "one each is a fair share");
        let state = places.state.lock();
        assert!(state.waiting.is_empty() && state.in_vain.len() == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_rest_alone() {
        let places = LinkPlaces::new();
        let to = "10.64.1.7";
        let stranger = open(&places, "192.0.2.1", to, 9).await;
        tokio::time::advance(SILENT_AFTER).await;
        let mut waits = Box::pin(connect(&places, "192.0.2.2", to, full));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(waits);
        assert_eq!(going(&stranger).len(), 1);
        assert!(connect(&places, "192.0.2.3", to, full).await.is_err());
        assert_eq!(going(&stranger).len(), 1, "the first one went in vain");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_asks_soon_for_a_place_that_is_given_back() {
        let places = LinkPlaces::new();
        let to = "10.64.1.7";
        let mut stranger = open(&places, "192.0.2.1", to, 9).await;
        let dial = || if places.state.lock().all.len() < 9 { reached() } else { full() };
        let mut waits = Box::pin(connect(&places, "192.0.2.2", to, dial));
        let two = Duration::from_secs(2);
        assert!(tokio::time::timeout(two, &mut waits).await.is_err(), "its last round has begun");
        let begun = Instant::now();
        drop(stranger.pop());
        assert!(waits.await.is_ok());
        assert!(begun.elapsed() < 2 * PAUSE_FIRST, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn few_wait_for_a_full_way() {
        let places = LinkPlaces::new();
        let to = "10.64.1.7";
        let _stranger = open(&places, "192.0.2.1", to, 9).await;
        let waiting = |froms: &[String]| {
            let asking = froms.iter().map(|from| Box::pin(connect(&places, from, to, full)));
            let mut asking: Vec<_> = asking.collect();
            let asked = asking.iter_mut().map(|it| it.as_mut().now_or_never());
            asked.filter(Option::is_none).count()
        };
        let many: Vec<_> = (2..42).map(|last| format!("192.0.2.{last}")).collect();
        assert_eq!(waiting(&many), WAITERS_MAX);
        assert!(places.state.lock().waiting.is_empty(), "who gives up waits no more");
        let same: Vec<_> = (0..9).map(|_| "192.0.2.2".to_owned()).collect();
        assert_eq!(waiting(&same), ASKER_WAITERS_MAX);
        assert_eq!(waiting(&["192.0.2.1".to_owned()]), 0, "nobody has more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_more_stands_back_for_who_waits() {
        let places = LinkPlaces::new();
        let to = "10.64.1.7";
        let _stranger = open(&places, "192.0.2.1", to, 9).await;
        let mut waits = Box::pin(connect(&places, "192.0.2.2", to, full));
        assert!(waits.as_mut().now_or_never().is_none());
        let again = || connect(&places, "192.0.2.1", to, reached);
        assert!(again().await.is_err(), "it would take what it has left");
        assert!(connect(&places, "192.0.2.1", "10.64.2.7", reached).await.is_ok());
        assert!(connect(&places, "192.0.2.3", to, reached).await.is_ok());
        drop(waits);
        assert!(again().await.is_ok());
    }
}
