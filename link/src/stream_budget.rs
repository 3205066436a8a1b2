//! How many streams of each kind one side of a link has open at a time, so that none of them keeps another out.
//!
//! Guarantees:
//! - a kind that is full refuses with a reason and takes no place of another, and one realm's connections leave places
//!   for another's (`idle_connections_of_one_realm_keep_nobody_else_out`);
//! - whoever asks for connections beside others leaves places for who comes later: a pod a share of what is free, a client
//!   from outside all but [`limits::CLIENT_TUNNELS_KEPT_FREE`], and a spoke that carries its connections all but
//!   [`limits::TUNNELS_KEPT_FREE`], of which everybody gets a share
//!   (`who_asks_for_all_there_is_leaves_places_for_others`, `a_proxy_has_hundreds_and_leaves_places_for_others`);
//! - one client does not take up what its spoke may have at another one
//!   (`a_client_leaves_its_spoke_places_at_another_one`), whichever of its network's addresses it has
//!   (`a_network_of_ipv6_is_one_client`);
//! - streams to the pods of one realm, and their logs, leave places for those of another, and in a realm whom its
//!   cluster names leave some for people of the root, and these for the hub itself, however many they are
//!   (`forty_names_of_a_cluster_leave_the_root_a_log_a_stream_and_a_command`,
//!   `forty_names_of_the_root_leave_others_some`, `nobody_takes_the_places_of_the_hub_itself`);
//! - whoever has streams to pods, or reads logs and looks on, leaves places for other users
//!   (`a_user_leaves_streams_to_pods_for_others`, `a_user_leaves_logs_for_others`), and whoever runs commands in a
//!   container leaves places in that one (`a_user_leaves_commands_of_a_container_for_others`); the same name in two
//!   clusters is two users, and whoever looks into several has one share (`a_user_is_one_of_their_cluster`,
//!   `who_looks_into_several_clusters_has_one_share`);
//! - who is refused is told whose share it is that is full (`a_refusal_says_whose_share_is_full`);
//! - of pods whose realm nobody here knows any more none keeps another's out
//!   (`pods_that_are_here_no_more_share_no_realm`);
//! - a place comes back when its stream is dropped (`a_place_comes_back_with_its_stream`), and goes to who has waited for
//!   one longest (`who_waits_has_the_next_place_in_the_order_of_coming`), who are few
//!   (`few_wait_and_who_gives_up_takes_nothing_along`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

use crate::address_networks;
use crate::limits;
use crate::message::{RefusalV1, is_pod_address};
use crate::names::ClusterName;
use crate::transport::Stream;

/// Those who wait for a place at a time. Each has a stream already, of which a link has so many.
const WAITING_MAX: usize = limits::POD_STREAMS_MAX;

/// Reason of a refusal for want of a place: to be tried again later.
pub const TOO_MANY_REASON: &str = "TooManyRequests";

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A log, or what a program writes.
    Logs(PodClient),
    /// A module.
    Module,
    /// A connection between pods of this realm, and who asks for it where several do over one link.
    Tunnel(ClusterName, Option<Asker>),
    /// A new certificate.
    Renewal,
    /// What a spoke counts.
    Figures,
    /// A stream to a pod for a client of the API.
    PodStream(PodClient),
    /// Such a stream that is a command, in this container of the device.
    Command(PodClient, Arc<str>),
}

/// Whose pod a stream is to, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodClient {
    /// The pod's realm; `None` where it is not known any more.
    pub realm: Option<ClusterName>,
    /// `None` on a device: its hub has looked at that.
    pub principal: Option<Principal>,
}

/// Who answers for a stream to a pod, whomever they run as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Principal {
    /// The hub itself, for what it asks programs of this cluster for that are behind a Service.
    Hub(ClusterName),
    /// Whom the hub knows by this name.
    Root(Arc<str>),
    /// Whom this cluster knows by this name: it has as many as it likes.
    Cluster(ClusterName, Arc<str>),
}

impl PodClient {
    /// For whom the hub opens a stream to a pod of this realm.
    #[must_use]
    pub fn new(realm: &ClusterName, principal: Principal) -> Self {
        Self { realm: Some(realm.clone()), principal: Some(principal) }
    }

    /// Of how many kinds of principals some places are kept that come before this one.
    const fn stands_behind(&self) -> usize {
        match &self.principal {
            None | Some(Principal::Hub(_)) => 0,
            Some(Principal::Root(_)) => 1,
            Some(Principal::Cluster(..)) => 2,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(_) => f.write_str("the hub itself"),
            Self::Root(name) => write!(f, "{name:?}"),
            Self::Cluster(cluster, name) => write!(f, "{name:?} of {cluster}"),
        }
    }
}

/// Who asks for a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// A spoke: at the hub, on the link of the one that it wants to reach.
    Spoke(ClusterName),
    /// A pod: on its device.
    Pod(IpAddr),
    /// Who came in through a node port: on its device. It may be a proxy that speaks for hundreds. Of IPv6 it is a network,
    /// all of whose addresses are its.
    Client(IpAddr),
}

impl Asker {
    /// Who asks from this address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(pod) if is_pod_address(pod) => Self::Pod(pod.into()),
            client => Self::Client(address_networks::around(client)[0]),
        }
    }

    /// Whether it may have one more than its `own` while so many are free.
    const fn may(&self, free: usize, own: usize) -> bool {
        // One part in so many of what is free: one guest does not use up what its device has at another.
        let (parts, kept) = match self {
            Self::Spoke(_) => (2, limits::TUNNELS_KEPT_FREE),
            Self::Client(_) => (3, limits::CLIENT_TUNNELS_KEPT_FREE),
            Self::Pod(_) => (3, limits::REALM_TUNNELS_MAX),
        };
        kept < free || parts * (own + 1) <= free
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spoke(name) => name.fmt(f),
            Self::Pod(address) | Self::Client(address) => address.fmt(f),
        }
    }
}

/// Streams of one direction of one link.
#[derive(Debug, Default)]
pub struct Budget(Mutex<BudgetState>);

#[derive(Debug, Default)]
struct BudgetState {
    logs: PodPlaces,
    modules: usize,
    tunnels: BTreeMap<ClusterName, usize>,
    /// Those of them that somebody in particular has.
    askers: BTreeMap<(ClusterName, Asker), usize>,
    renewals: usize,
    tellings: usize,
    pod_streams: PodPlaces,
    /// Those of them that are commands, by container.
    commands: BTreeMap<Arc<str>, PodPlaces>,
    /// In the order of their coming.
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
}

/// Somebody who waits for a place, as the budget sees it.
#[derive(Debug)]
struct Waiting {
    of: Use,
    granted: oneshot::Sender<StreamPermit>,
}

/// The same, as it sees itself.
struct Waiter {
    budget: Arc<Budget>,
    number: u64,
    granted: oneshot::Receiver<StreamPermit>,
}

/// Places that realms share, and in each of them those who ask for its pods.
#[derive(Debug, Default)]
struct PodPlaces {
    all: usize,
    /// Those of them that are for pods of a realm.
    realms: BTreeMap<Option<ClusterName>, usize>,
    /// Those of them that somebody has, in all realms.
    principals: BTreeMap<Principal, usize>,
}

/// How many places there are.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    all: usize,
    /// For pods of one realm.
    of_realm: usize,
    /// Of a realm's, for each kind of principals that come before others.
    kept_for_first: usize,
    /// Of a realm's, for whoever has few.
    kept_free: usize,
}

const LOGS: Bounds = Bounds {
    all: limits::LOG_STREAMS_MAX,
    of_realm: limits::REALM_LOG_STREAMS_MAX,
    kept_for_first: limits::LOG_STREAMS_KEPT_FOR_FIRST,
    kept_free: limits::LOG_STREAMS_KEPT_FREE,
};
const POD_STREAMS: Bounds = Bounds {
    all: limits::POD_STREAMS_MAX,
    of_realm: limits::REALM_POD_STREAMS_MAX,
    kept_for_first: limits::POD_STREAMS_KEPT_FOR_FIRST,
    kept_free: limits::POD_STREAMS_KEPT_FREE,
};
/// All of a container are of one realm.
const COMMANDS: Bounds = Bounds {
    all: limits::CONTAINER_COMMANDS_MAX,
    of_realm: limits::CONTAINER_COMMANDS_MAX,
    kept_for_first: limits::CONTAINER_COMMANDS_KEPT_FOR_FIRST,
    kept_free: limits::CONTAINER_COMMANDS_KEPT_FREE,
};

impl BudgetState {
    fn take(&mut self, of: &Use) -> Result<(), RefusalV1> {
        let full = |what: String| Err(RefusalV1::new(TOO_MANY_REASON, what));
        let slot = match of {
            Use::Logs(client) => return self.take_log(client),
            Use::PodStream(client) => return self.take_pod_stream(client),
            Use::Command(client, container) => return self.take_command(client, container),
            Use::Module if limits::MODULE_STREAMS_MAX <= self.modules => {
                return full(format!(
                    "the link carries {} modules already",
                    limits::MODULE_STREAMS_MAX
                ));
            }
            Use::Renewal if limits::RENEWAL_STREAMS_MAX <= self.renewals => {
                return full("a certificate is being renewed already".to_owned());
            }
            Use::Figures if limits::FIGURES_ANSWERS_AT_ONCE <= self.tellings => {
                return full("the spoke is telling its figures already".to_owned());
            }
            Use::Figures => &mut self.tellings,
            Use::Renewal => &mut self.renewals,
            Use::Module => &mut self.modules,
            Use::Tunnel(realm, asker) => {
                self.has_room(realm, asker.as_ref())?;
                if let Some(asker) = asker {
                    *self.askers.entry((realm.clone(), asker.clone())).or_default() += 1;
                }
                self.tunnels.entry(realm.clone()).or_default()
            }
        };
        *slot += 1;
        Ok(())
    }

    fn give_back(&mut self, of: &Use) {
        match of {
            Use::Logs(client) => self.logs.give_back(client),
            Use::PodStream(client) => self.pod_streams.give_back(client),
            Use::Command(client, container) => self.end_command(client, container),
            Use::Module => self.modules -= 1,
            Use::Renewal => self.renewals -= 1,
            Use::Figures => self.tellings -= 1,
            Use::Tunnel(realm, asker) => {
                less(&mut self.tunnels, realm);
                if let Some(asker) = asker {
                    less(&mut self.askers, &(realm.clone(), asker.clone()));
                }
            }
        }
    }

    /// Takes places for those who wait and find one, in the order of their coming.
    fn grant(&mut self) -> Vec<Waiting> {
        let mut granted = Vec::new();
        for (number, waiting) in std::mem::take(&mut self.waiting) {
            match self.take(&waiting.of) {
                Ok(()) => granted.push(waiting),
                Err(_) => drop(self.waiting.insert(number, waiting)),
            }
        }
        granted
    }

    /// Whether there is a place for a connection.
    fn has_room(&self, realm: &ClusterName, asker: Option<&Asker>) -> Result<(), RefusalV1> {
        let all: usize = self.tunnels.values().sum();
        let of_realm = self.tunnels.get(realm).copied().unwrap_or_default();
        let free = limits::REALM_TUNNELS_MAX.saturating_sub(of_realm);
        let free = free.min(limits::TUNNELS_MAX.saturating_sub(all));
        if free == 0 {
            let text = format!(
                "the link carries {of_realm} connections of {realm} and {all} in all, as many as it may"
            );
            return Err(RefusalV1::new(TOO_MANY_REASON, text));
        }
        let Some(asker) = asker else { return Ok(()) };
        let own = self.askers.get(&(realm.clone(), asker.clone())).copied().unwrap_or_default();
        if !asker.may(free, own) {
            let text = format!(
                "the link carries {own} connections of {asker} and {of_realm} of {realm} in all: as many as {asker} \
                 may have by now"
            );
            return Err(RefusalV1::new(TOO_MANY_REASON, text));
        }
        Ok(())
    }

    fn take_log(&mut self, client: &PodClient) -> Result<(), RefusalV1> {
        self.logs.take(client, LOGS, |all| format!("the link carries {all} logs of this device"))
    }

    fn take_pod_stream(&mut self, client: &PodClient) -> Result<(), RefusalV1> {
        let what = |all| format!("the link carries {all} streams to pods of this device");
        self.pod_streams.take(client, POD_STREAMS, what)
    }

    /// One place on the link, and one in the container.
    fn take_command(&mut self, client: &PodClient, container: &Arc<str>) -> Result<(), RefusalV1> {
        self.take_pod_stream(client)?;
        let own = self.commands.entry(container.clone()).or_default();
        let taken = own.take(client, COMMANDS, |all| format!("the container runs {all} commands"));
        // Who is refused is not the container's first.
        taken.inspect_err(|_| self.pod_streams.give_back(client))
    }

    fn end_command(&mut self, client: &PodClient, container: &Arc<str>) {
        self.pod_streams.give_back(client);
        if let Some(own) = self.commands.get_mut(container) {
            own.give_back(client);
            if own.all == 0 {
                self.commands.remove(container);
            }
        }
    }
}

impl PodPlaces {
    /// Takes a place, unless it is one that is kept for others.
    fn take(
        &mut self,
        client: &PodClient,
        bounds: Bounds,
        what: impl Fn(usize) -> String,
    ) -> Result<(), RefusalV1> {
        let kept = client.stands_behind() * bounds.kept_for_first;
        let room = self.room(client, bounds);
        let free = room.min(bounds.all.saturating_sub(self.all)).saturating_sub(kept);
        let own = self.own(client);
        let most = bounds.of_realm.saturating_sub(kept + bounds.kept_free);
        // One or what is kept for it, no more than it leaves, or nearly all there is.
        let few = if kept == 0 { bounds.kept_for_first } else { 1 };
        let is_share = own < few || own + 1 < free || (own < most && bounds.kept_free < free);
        if free == 0 || (client.principal.is_some() && !is_share) {
            let whose = self.full(client, bounds, free);
            return Err(RefusalV1::new(TOO_MANY_REASON, format!("{}, {whose}", what(self.all))));
        }
        self.all += 1;
        *self.realms.entry(client.realm.clone()).or_default() += 1;
        if let Some(principal) = &client.principal {
            *self.principals.entry(principal.clone()).or_default() += 1;
        }
        Ok(())
    }

    /// How many more there may be for pods of its realm. Of which realm a pod is that is here no more the hub alone knows,
    /// and has looked at.
    fn room(&self, client: &PodClient, bounds: Bounds) -> usize {
        let most = client.realm.as_ref().map_or(bounds.all, |_| bounds.of_realm);
        most.saturating_sub(self.of_realm(client))
    }

    fn of_realm(&self, client: &PodClient) -> usize {
        self.realms.get(&client.realm).copied().unwrap_or_default()
    }

    /// Nothing for whom nobody knows.
    fn own(&self, client: &PodClient) -> usize {
        let own = client.principal.as_ref().and_then(|own| self.principals.get(own));
        own.copied().unwrap_or_default()
    }

    /// Whose share is full where so many are free for this one.
    fn full(&self, client: &PodClient, bounds: Bounds, free: usize) -> String {
        if bounds.all <= self.all {
            return "as many as there may be".to_owned();
        }
        if let (1.., Some(principal)) = (free, &client.principal) {
            let own = self.own(client);
            return format!(
                "{own} of them for {principal}: as many as {principal} may have by now"
            );
        }
        let whom = match &client.principal {
            None | Some(Principal::Hub(_)) => String::new(),
            Some(Principal::Root(_)) => " for users of the root".to_owned(),
            Some(Principal::Cluster(cluster, _)) => format!(" for users of {cluster}"),
        };
        let left = bounds.all.saturating_sub(self.all);
        match &client.realm {
            Some(realm) if self.room(client, bounds) <= left => {
                let of_realm = self.of_realm(client);
                format!(
                    "{of_realm} of them of pods of {realm}: as many as there may be by now{whom}"
                )
            }
            Some(_) | None => format!("as many as there may be by now{whom}"),
        }
    }

    fn give_back(&mut self, client: &PodClient) {
        self.all -= 1;
        less(&mut self.realms, &client.realm);
        if let Some(principal) = &client.principal {
            less(&mut self.principals, principal);
        }
    }
}

/// Takes one off a count, which is not kept when nothing is left of it.
fn less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub struct StreamPermit {
    budget: Arc<Budget>,
    of: Use,
}

impl Budget {
    /// Takes a place.
    ///
    /// # Errors
    /// With what to tell who asked, when there is none.
    pub fn take(self: &Arc<Self>, of: Use) -> Result<StreamPermit, RefusalV1> {
        self.0.lock().take(&of)?;
        Ok(StreamPermit { budget: self.clone(), of })
    }

    /// Takes a place as soon as there is one, after those who wait for the same. Who gives up meanwhile takes none along.
    ///
    /// # Errors
    /// When as many wait as may.
    pub async fn wait(self: &Arc<Self>, of: Use) -> Result<StreamPermit, RefusalV1> {
        let mut waiter = match self.line_up(of)? {
            Ok(permit) => return Ok(permit),
            Err(waiter) => waiter,
        };
        // Whoever waits is answered: the budget is there as long as they are.
        let gone = |_| RefusalV1::new(TOO_MANY_REASON, "the link has no place for it");
        (&mut waiter.granted).await.map_err(gone)
    }

    /// The place, or one in the line for it.
    fn line_up(self: &Arc<Self>, of: Use) -> Result<Result<StreamPermit, Waiter>, RefusalV1> {
        let mut state = self.0.lock();
        let is_first = state.waiting.values().all(|other| other.of != of);
        if is_first && state.take(&of).is_ok() {
            drop(state);
            return Ok(Ok(StreamPermit { budget: self.clone(), of }));
        }
        if WAITING_MAX <= state.waiting.len() {
            let text = format!("the link has no place for it, and {WAITING_MAX} wait for one");
            return Err(RefusalV1::new(TOO_MANY_REASON, text));
        }
        state.last += 1;
        let (number, (sender, granted)) = (state.last, oneshot::channel());
        state.waiting.insert(number, Waiting { of, granted: sender });
        drop(state);
        Ok(Err(Waiter { budget: self.clone(), number, granted }))
    }
}

impl StreamPermit {
    /// Ties the place to a stream: it comes back with the stream's end here.
    #[must_use]
    pub fn hold(self, stream: Stream) -> Stream {
        let recv = HeldStreams { recv: stream.recv, _place: self };
        Stream { send: stream.send, recv: Box::new(recv) }
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let granted = {
            let mut state = self.budget.0.lock();
            state.give_back(&self.of);
            state.grant()
        };
        for Waiting { of, granted } in granted {
            // Of who waits no more it comes back.
            drop(granted.send(Self { budget: self.budget.clone(), of }));
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.budget.0.lock().waiting.remove(&self.number);
    }
}

struct HeldStreams {
    recv: Box<dyn AsyncRead + Send + Sync + Unpin>,
    _place: StreamPermit,
}

impl AsyncRead for HeldStreams {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buf)
    }
}

#[cfg(test)]
#[path = "stream_budget_tests.rs"]
mod tests;
