//! The way that was decided is gone: to a pod, or to the endpoint of a Service whose turn it is, and to another one
//! when no way leads there.
//!
//! ```text
//! turn ──▶ here: connected
//!     └──▶ on another node ──▶ answers: connected
//!                          ├─▶ silent for a moment, no way, or full: a pod here, or one more on another node
//!                          └─▶ the link is known to be down: passed over from the start
//! ```
//!
//! A pod here that is full is passed over from the start, too, and asked once no other has answered in good time; one on
//! another node is for as long as it is remembered what it said. Session affinity gives way, as it does to a link that is down.
//!
//! Pods on other nodes are reached through the hub. While it is away, or their node is, a Service still has
//! the pods that are here.
//!
//! Guarantees:
//! - only the making of a connection is tried more than once, so a client's bytes go to one endpoint and to no
//!   other (`a_slow_answer_that_comes_too_late_costs_no_client_a_byte`);
//! - a client is refused as one too many only when no pod here has room, nor one elsewhere that was asked and answers
//!   within [`STICKY_ANSWER_WAIT`] (`a_pod_that_is_full_is_passed_over_while_another_has_room`,
//!   `a_slow_pod_with_room_is_waited_for_while_others_are_full`), also when somebody else takes the last socket that it saw
//!   (`who_comes_too_late_for_the_last_socket_of_a_pod_goes_to_the_next`), and as one whom no way leads to a pod only when
//!   none is here (`a_full_pod_here_is_the_answer_when_no_way_leads_to_the_others`);
//! - many that are full are passed over, each at the cost of one question in a while
//!   (`of_many_pods_elsewhere_the_one_with_room_is_found`), but one client asks no more than [`FULL_ASKED_MAX`], and for no
//!   longer than [`STICKY_ANSWER_WAIT`] (`who_meets_a_crowd_of_full_pods_is_told_soon`); the next one asks others
//!   (`clients_of_a_crowd_of_full_pods_ask_different_ones`), and who was asked last has its time to answer
//!   (`who_is_asked_last_of_a_crowd_has_its_time_to_answer`);
//! - where a way is full, who has somewhere else to go goes there at once, nobody makes room for it, and its pod is not
//!   passed over for that (`a_full_way_is_waited_for_when_nobody_else_is_left`);
//! - nobody waits for a link that is known to be down
//!   (`a_link_that_is_known_to_be_down_is_not_tried_and_a_new_one_is_at_once`).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::plan::Protocol;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use crate::conn::{Conn, Connecting, Side};
use crate::endpoint_health::EndpointFault;
use crate::error::NetError;
use crate::gates::Gate;
use crate::ports::{Admission, Ports};
use crate::realm::Realm;
use crate::remote::RemoteStream;
use crate::route::{Hop, Link, Route, Source, Standing, To};
use crate::service::Service;

/// How long an endpoint on another node may be silent before another one is tried too: more than a round trip
/// of most links, and less than a person notices.
const ANSWER_WAIT: Duration = Duration::from_millis(400);

/// The same for clients that are bound to their endpoint by session affinity, and how long an endpoint has to
/// answer before it counts as gone: two round trips of a slow link.
const STICKY_ANSWER_WAIT: Duration = Duration::from_secs(2);

/// How many endpoints on other nodes are tried for one client, beside those that say that they are full and were not known
/// to be.
const REMOTE_TRIES_MAX: usize = 3;

/// How many of those one client asks: each question takes a look at all endpoints, and a stream of the link.
const FULL_ASKED_MAX: usize = 128;

/// How long a client waits once one has said that it is full: others are asked for the first half of it, so that the last of
/// them has the second one.
const FULL_WAIT: Duration = STICKY_ANSWER_WAIT.saturating_mul(2);

impl Realm {
    /// Connects a client of this realm to what it asks for.
    pub(crate) fn connect(self: &Arc<Self>, from: Source, client: Side, to: &To) -> Connecting {
        let seen = to.address();
        match self.route(from, to, Protocol::Tcp) {
            Route::Straight(hop) => self.connect_pod(hop, from, client, seen),
            Route::Service { service, port } => {
                let client = client.through(Gate::Service);
                let connecting = self.connect_service(service, port, from, client, seen);
                connecting.counted(&self.shared().gates, Gate::Service)
            }
        }
    }

    /// Connects a client to a port of a Service. `seen` is what the client believes it talks to: the Service, or the
    /// endpoint itself.
    fn connect_service(
        self: &Arc<Self>,
        service: Arc<Service>,
        port: u16,
        from: Source,
        client: Side,
        seen: Option<SocketAddr>,
    ) -> Connecting {
        let (ip, mut full) = (client.address.ip(), Vec::new());
        loop {
            let roomy = self.roomy(&service, port, ip, &|it| !full.contains(&it));
            let any = || service.pick(Protocol::Tcp, port, ip, &|it| self.may_reach(it));
            let first = match roomy.map_or_else(any, Ok) {
                Ok(first) => first,
                Err(error) => return Connecting::Now(Err(error)),
            };
            match self.hop(from, first, Protocol::Tcp) {
                Hop::Here { pod, at } => match pod.admit(client.kept, at) {
                    Ok(admission) => {
                        let conn = pod.let_in(admission, client, seen.unwrap_or(at), at);
                        return Connecting::Now(conn.inspect(|_| service.keep(ip, at)));
                    }
                    // Somebody else has taken its last socket since it was looked at.
                    Err(NetError::Full(_)) if roomy.is_some() => full.push(first),
                    Err(error) => return Connecting::Now(Err(error)),
                },
                Hop::Elsewhere { at } => {
                    let realm = self.clone();
                    return Connecting::Later(Box::pin(async move {
                        realm.reach(&service, port, from, client, (seen, at)).await
                    }));
                }
                hop @ Hop::Nowhere(_) => return self.connect_pod(hop, from, client, seen),
            }
        }
    }

    /// Who serves the next datagram of a flow: the same as before, unless that one is cut off and another is
    /// not.
    pub(crate) fn next_of_flow(
        &self,
        service: &Service,
        port: u16,
        client: IpAddr,
        former: Option<SocketAddr>,
    ) -> Result<SocketAddr, NetError> {
        let may = |endpoint| self.may_reach(endpoint);
        let next = match former.filter(|former| service.serves(Protocol::Udp, port, *former)) {
            None => service.pick(Protocol::Udp, port, client, &may)?,
            Some(former) if self.standing(former) != Standing::CutOff => return Ok(former),
            Some(former) => service.choose(Protocol::Udp, port, client, &may).unwrap_or(former),
        };
        // Of a datagram nobody says whether it was served.
        service.keep(client, next);
        Ok(next)
    }

    /// Whether nothing speaks against sending a new client there, but that it may be full.
    fn may_reach(&self, endpoint: SocketAddr) -> bool {
        matches!(self.standing(endpoint), Standing::Good | Standing::Full)
    }

    /// The same, and it is not known to be full.
    fn has_room(&self, endpoint: SocketAddr) -> bool {
        let free = |pod: Arc<Ports>| pod.sockets() < pod.sockets_max();
        let elsewhere = || self.standing(endpoint) == Standing::Good;
        self.pod_at(endpoint.ip()).map_or_else(elsewhere, free)
    }

    /// Whether somebody serves this port who may be reached and is not known to be full.
    pub(crate) fn may_have_room(&self, service: &Service, port: u16) -> bool {
        service.has(Protocol::Tcp, port, &|it| self.has_room(it))
    }

    /// One that is not known to be full, and a slow one rather than none.
    fn roomy(
        &self,
        service: &Service,
        port: u16,
        client: IpAddr,
        may: &dyn Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let choose = |fit: &dyn Fn(SocketAddr) -> bool| {
            service.choose(Protocol::Tcp, port, client, &|it| may(it) && fit(it))
        };
        choose(&|it| self.has_room(it))
            .or_else(|| choose(&|it| self.standing(it) == Standing::Slow))
    }

    fn is_here(&self, endpoint: SocketAddr) -> bool {
        self.pod_at(endpoint.ip()).is_some()
    }

    async fn reach(
        self: &Arc<Self>,
        service: &Service,
        port: u16,
        from: Source,
        client: Side,
        (seen, first): (Option<SocketAddr>, SocketAddr),
    ) -> Result<Conn, NetError> {
        let mut patience = Some(if service.is_sticky() { STICKY_ANSWER_WAIT } else { ANSWER_WAIT });
        let ip = client.address.ip();
        let mut race = DialRace::new(self.clone(), from, client.address);
        race.enter(first);
        let mut failure = NetError::Unreachable;
        loop {
            let outcome = race.next(race.at_most(patience)).await;
            // Those that are still silent have had all the time there is for an answer.
            let late =
                outcome.is_none() && (patience == Some(STICKY_ANSWER_WAIT) || race.is_over());
            match outcome {
                Some((endpoint, Ok(far))) => {
                    race.leave();
                    service.keep(ip, endpoint);
                    return Ok(self.join(client, seen.unwrap_or(endpoint), endpoint, far));
                }
                // Others may have room; who is full may have it soon.
                Some((_, Err(error))) if is_no_way(error) || is_full(error) => {
                    failure = if matches!(failure, NetError::Full(_)) { failure } else { error };
                }
                // A pod said no: that is an answer.
                Some((_, Err(error))) => return Err(error),
                None => {}
            }
            let over = late || race.waiting.is_empty();
            match self.other(service, port, &client, &race, over && race.way_full.is_none()) {
                Some(Other::Here { pod, at, admission }) => {
                    race.leave();
                    let conn = pod.let_in(admission?, client, seen.unwrap_or(at), at);
                    return conn.inspect(|_| service.keep(ip, at));
                }
                Some(Other::Elsewhere(next)) => race.enter(next),
                None if over && race.way_full.is_some() => race.last = race.way_full.take(),
                None if race.waiting.is_empty() || late && matches!(failure, NetError::Full(_)) => {
                    race.leave();
                    return Err(failure);
                }
                // Where nobody has said yet that it is full, the last that are silent have until they time out.
                None => patience = (!late).then_some(STICKY_ANSWER_WAIT),
            }
        }
    }

    /// An endpoint for a client that those in the race keep waiting: a pod here if there is one, and when the race is
    /// `over` a full one rather than none, as that may let somebody go.
    fn other(
        &self,
        service: &Service,
        port: u16,
        client: &Side,
        race: &DialRace,
        over: bool,
    ) -> Option<Other> {
        let (ip, mut full) = (client.address.ip(), Vec::new());
        let (tried, most) = (&race.tried, if race.asks_more() { REMOTE_TRIES_MAX } else { 0 });
        let choose =
            |may: &dyn Fn(SocketAddr) -> bool| service.choose(Protocol::Tcp, port, ip, may);
        loop {
            let roomy = |may: &dyn Fn(SocketAddr) -> bool| {
                self.roomy(service, port, ip, &|it| !full.contains(&it) && may(it))
            };
            let more = |tries: usize, it: SocketAddr| tries < most && !tried.contains(&it);
            let next = roomy(&|it| self.is_here(it))
                .or_else(|| roomy(&|it| more(tried.len() - race.full, it)));
            // Who was full may have room again.
            let again =
                || choose(&|it| more(tried.len(), it) && self.standing(it) == Standing::Full);
            let last = || choose(&|it| over && self.is_here(it));
            let at = next.or_else(again).or_else(last)?;
            let Some(pod) = self.pod_at(at.ip()) else { return Some(Other::Elsewhere(at)) };
            match (pod.admit(client.kept, at), next) {
                (Err(NetError::Full(_)), Some(_)) => full.push(at),
                (admission, _) => return Some(Other::Here { pod, at, admission }),
            }
        }
    }
}

/// Where a client goes that those in the race keep waiting.
enum Other {
    /// To a pod here, if that takes it.
    Here {
        pod: Arc<Ports>,
        at: SocketAddr,
        admission: Result<Admission, NetError>,
    },
    Elsewhere(SocketAddr),
}

/// Whether an endpoint could not be reached, as opposed to what it answered.
const fn is_no_way(error: NetError) -> bool {
    matches!(error, NetError::Unreachable | NetError::Timeout)
}

/// Whether an endpoint, or the way to it, has no room.
const fn is_full(error: NetError) -> bool {
    matches!(error, NetError::Full(_) | NetError::WayFull(_))
}

type Outcome = (SocketAddr, Result<RemoteStream, NetError>);

/// Endpoints on other nodes that are being tried for one client.
struct DialRace {
    realm: Arc<Realm>,
    source: Source,
    from: SocketAddr,
    /// The link that is tried, unless it went down a moment ago.
    link: Link,
    dials: FuturesUnordered<BoxFuture<'static, Outcome>>,
    tried: HashSet<SocketAddr>,
    /// How many of them have said that they are full.
    full: usize,
    /// When the first of those did.
    full_since: Option<Instant>,
    /// The first whose way is full. That says nothing of the pod.
    way_full: Option<SocketAddr>,
    /// The same once nobody else is left: somebody may make room on the way there.
    last: Option<SocketAddr>,
    /// Those that have not answered yet.
    waiting: Vec<SocketAddr>,
}

impl DialRace {
    fn new(realm: Arc<Realm>, source: Source, from: SocketAddr) -> Self {
        let link = realm.link();
        let dials = FuturesUnordered::new();
        let (tried, waiting) = (HashSet::new(), Vec::new());
        let (full, full_since, way_full, last) = (0, None, None, None);
        Self { realm, source, from, link, dials, tried, full, full_since, way_full, last, waiting }
    }

    /// Whether those that were full are few enough, and the first of them not long ago, to ask one more.
    fn asks_more(&self) -> bool {
        let recent = |since: Instant| since.elapsed() < STICKY_ANSWER_WAIT;
        self.full < FULL_ASKED_MAX && self.full_since.is_none_or(recent)
    }

    /// So much of this patience as is left.
    fn at_most(&self, patience: Option<Duration>) -> Option<Duration> {
        let left = self.full_since.map(|since| FULL_WAIT.saturating_sub(since.elapsed()));
        patience.into_iter().chain(left).min()
    }

    /// Whether a client who was told that one is full has waited for others as long as it does.
    fn is_over(&self) -> bool {
        self.full_since.is_some_and(|since| FULL_WAIT <= since.elapsed())
    }

    fn enter(&mut self, endpoint: SocketAddr) {
        let (realm, source, from) = (self.realm.clone(), self.source, self.from);
        self.dials.push(Box::pin(async move {
            (endpoint, realm.dial(source, from, endpoint, false).await)
        }));
        self.tried.insert(endpoint);
        self.waiting.push(endpoint);
    }

    /// The next to answer or to fail, `None` after so long without either.
    async fn next(&mut self, patience: Option<Duration>) -> Option<Outcome> {
        if let Some(last) = self.last.take() {
            return Some((last, self.realm.dial(self.source, self.from, last, true).await));
        }
        let next = self.dials.next();
        let outcome = match patience {
            Some(patience) => timeout(patience, next).await.ok().flatten(),
            None => next.await,
        };
        match &outcome {
            Some((endpoint, result)) => {
                self.waiting.retain(|waiting| waiting != endpoint);
                match result {
                    Ok(_) => self.realm.endpoint_health().has_let_in(*endpoint),
                    Err(NetError::Full(_)) => {
                        self.full += 1;
                        self.full_since = self.full_since.or_else(|| Some(Instant::now()));
                        self.note(*endpoint, EndpointFault::Full);
                    }
                    Err(NetError::WayFull(_)) => {
                        self.way_full = self.way_full.or(Some(*endpoint));
                    }
                    Err(error) if is_no_way(*error) => self.note(*endpoint, EndpointFault::Gone),
                    Err(_) => {}
                }
            }
            None => self.waiting.iter().for_each(|silent| self.note(*silent, EndpointFault::Slow)),
        }
        outcome
    }

    /// The client is served. Those that still have to answer are heard for a moment, to tell the slow from
    /// the gone; what they answer is dropped without a byte.
    fn leave(mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let realm = self.realm.clone();
        realm.spawn(async move {
            let hear = async { while self.next(None).await.is_some() {} };
            if timeout(STICKY_ANSWER_WAIT, hear).await.is_err() {
                self.waiting.iter().for_each(|silent| self.note(*silent, EndpointFault::Gone));
            }
        });
    }

    fn note(&self, endpoint: SocketAddr, fault: EndpointFault) {
        if let Link::Up(link) = self.link {
            self.realm.endpoint_health().note(endpoint, link, fault);
        }
    }
}
