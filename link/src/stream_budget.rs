//! How many streams of each kind one side of a link has open at a time, so that none of them keeps another out.
//!
//! Guarantees:
//! - a kind that is full refuses with a reason and takes no place of another, and one realm's connections leave places
//!   for another's (`idle_connections_of_one_realm_keep_nobody_else_out`);
//! - whoever asks for connections beside others leaves places for who comes later: a pod a share of what is free, and a
//!   client from outside, or a spoke that carries its connections, all but [`limits::TUNNELS_KEPT_FREE`], of which
//!   everybody gets a share (`who_asks_for_all_there_is_leaves_places_for_others`,
//!   `a_proxy_has_hundreds_and_leaves_places_for_others`);
//! - whoever has streams to pods, or reads logs and looks on, leaves places for other users
//!   (`a_user_leaves_streams_to_pods_for_others`, `a_user_leaves_logs_for_others`), and whoever runs commands in a
//!   container leaves places in that one (`a_user_leaves_commands_of_a_container_for_others`);
//! - a place comes back when its stream is dropped (`a_place_comes_back_with_its_stream`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

use crate::limits;
use crate::message::{RefusalV1, is_pod_address};
use crate::names::ClusterName;
use crate::transport::Stream;

/// Reason of a refusal for want of a place: to be tried again later.
pub const TOO_MANY_REASON: &str = "TooManyRequests";

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A log, or what a program writes, and the user who reads it where that is known.
    Logs(Option<Arc<str>>),
    /// A module.
    Module,
    /// A connection between pods of this realm, and who asks for it where several do over one link.
    Tunnel(ClusterName, Option<Asker>),
    /// A new certificate.
    Renewal,
    /// What a spoke counts.
    Figures,
    /// A stream to a pod for a client of the API, and the user who asks for it where that is known.
    PodStream(Option<Arc<str>>),
    /// Such a stream that is a command, in this container of the device.
    Command(Option<Arc<str>>, Arc<str>),
}

/// Who asks for a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// A spoke: at the hub, on the link of the one that it wants to reach.
    Spoke(ClusterName),
    /// A pod: on its device.
    Pod(IpAddr),
    /// Who came in through a node port: on its device. It may be a proxy that speaks for hundreds.
    Client(IpAddr),
}

impl Asker {
    /// Who asks from this address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(pod) if is_pod_address(pod) => Self::Pod(pod.into()),
            client => Self::Client(client),
        }
    }

    /// Whether it may have one more than its `own` while so many are free.
    const fn may(&self, free: usize, own: usize) -> bool {
        // One part in so many of what is free: one guest does not use up what its device has at another.
        let (parts, all) = match self {
            Self::Spoke(_) => (2, true),
            Self::Client(_) => (3, true),
            Self::Pod(_) => (3, false),
        };
        (all && limits::TUNNELS_KEPT_FREE < free) || parts * (own + 1) <= free
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
    logs: UserStreams,
    modules: usize,
    tunnels: BTreeMap<ClusterName, usize>,
    /// Those of them that somebody in particular has.
    askers: BTreeMap<(ClusterName, Asker), usize>,
    renewals: usize,
    tellings: usize,
    pod_streams: UserStreams,
    /// Those of them that are commands, by container.
    commands: BTreeMap<Arc<str>, UserStreams>,
}

/// Places that users share.
#[derive(Debug, Default)]
struct UserStreams {
    all: usize,
    /// Those of them that a user has.
    users: BTreeMap<Arc<str>, usize>,
}

impl BudgetState {
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

    fn take_pod_stream(&mut self, user: Option<&Arc<str>>) -> Result<(), RefusalV1> {
        let places = (limits::POD_STREAMS_MAX, limits::POD_STREAMS_KEPT_FREE);
        self.pod_streams.take(user, places, |all| {
            format!("the link carries {all} streams to pods of this device")
        })
    }

    /// One place on the link, and one in the container.
    fn take_command(
        &mut self,
        user: Option<&Arc<str>>,
        container: &Arc<str>,
    ) -> Result<(), RefusalV1> {
        self.take_pod_stream(user)?;
        let places = (limits::CONTAINER_COMMANDS_MAX, limits::CONTAINER_COMMANDS_KEPT_FREE);
        let own = self.commands.entry(container.clone()).or_default();
        let taken = own.take(user, places, |all| format!("the container runs {all} commands"));
        // Who is refused is not the container's first.
        taken.inspect_err(|_| self.pod_streams.give_back(user))
    }

    fn end_command(&mut self, user: Option<&Arc<str>>, container: &Arc<str>) {
        self.pod_streams.give_back(user);
        if let Some(own) = self.commands.get_mut(container) {
            own.give_back(user);
            if own.all == 0 {
                self.commands.remove(container);
            }
        }
    }
}

impl UserStreams {
    /// Takes a place of so many, of which some are kept for who has few.
    fn take(
        &mut self,
        user: Option<&Arc<str>>,
        (max, kept_free): (usize, usize),
        what: impl Fn(usize) -> String,
    ) -> Result<(), RefusalV1> {
        let free = max.saturating_sub(self.all);
        let own = user.and_then(|user| self.users.get(user)).copied().unwrap_or_default();
        let is_share = kept_free < free || own == 0 || 3 * (own + 1) <= free;
        if free == 0 || (user.is_some() && !is_share) {
            let text = format!(
                "{}, {own} of them this user's: as many as it may have by now",
                what(self.all)
            );
            return Err(RefusalV1::new(TOO_MANY_REASON, text));
        }
        self.all += 1;
        if let Some(user) = user {
            *self.users.entry(user.clone()).or_default() += 1;
        }
        Ok(())
    }

    fn give_back(&mut self, user: Option<&Arc<str>>) {
        self.all -= 1;
        if let Some(user) = user {
            less(&mut self.users, user);
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
        let full = |what: String| Err(RefusalV1::new(TOO_MANY_REASON, what));
        let mut state = self.0.lock();
        let slot = match &of {
            Use::Logs(user) => {
                let places = (limits::LOG_STREAMS_MAX, limits::LOG_STREAMS_KEPT_FREE);
                let what = |all| format!("the link carries {all} logs of this device");
                state.logs.take(user.as_ref(), places, what)?;
                drop(state);
                return Ok(StreamPermit { budget: self.clone(), of });
            }
            Use::PodStream(user) => {
                state.take_pod_stream(user.as_ref())?;
                drop(state);
                return Ok(StreamPermit { budget: self.clone(), of });
            }
            Use::Command(user, container) => {
                state.take_command(user.as_ref(), container)?;
                drop(state);
                return Ok(StreamPermit { budget: self.clone(), of });
            }
            Use::Module if limits::MODULE_STREAMS_MAX <= state.modules => {
                return full(format!(
                    "the link carries {} modules already",
                    limits::MODULE_STREAMS_MAX
                ));
            }
            Use::Renewal if limits::RENEWAL_STREAMS_MAX <= state.renewals => {
                return full("a certificate is being renewed already".to_owned());
            }
            Use::Figures if limits::FIGURES_ANSWERS_AT_ONCE <= state.tellings => {
                return full("the spoke is telling its figures already".to_owned());
            }
            Use::Figures => &mut state.tellings,
            Use::Renewal => &mut state.renewals,
            Use::Module => &mut state.modules,
            Use::Tunnel(realm, asker) => {
                state.has_room(realm, asker.as_ref())?;
                if let Some(asker) = asker {
                    *state.askers.entry((realm.clone(), asker.clone())).or_default() += 1;
                }
                state.tunnels.entry(realm.clone()).or_default()
            }
        };
        *slot += 1;
        drop(state);
        Ok(StreamPermit { budget: self.clone(), of })
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
        let mut state = self.budget.0.lock();
        match &self.of {
            Use::Logs(user) => state.logs.give_back(user.as_ref()),
            Use::PodStream(user) => state.pod_streams.give_back(user.as_ref()),
            Use::Command(user, container) => state.end_command(user.as_ref(), container),
            Use::Module => state.modules -= 1,
            Use::Renewal => state.renewals -= 1,
            Use::Figures => state.tellings -= 1,
            Use::Tunnel(realm, asker) => {
                less(&mut state.tunnels, realm);
                if let Some(asker) = asker {
                    less(&mut state.askers, &(realm.clone(), asker.clone()));
                }
            }
        }
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
