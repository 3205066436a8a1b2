//! How many streams of each kind one side of a link has open at a time, so that none of them keeps another out.
//!
//! Guarantees:
//! - a kind that is full refuses with a reason and takes no place of another, and one realm's connections leave places
//!   for another's (`idle_connections_of_one_realm_keep_nobody_else_out`);
//! - a place comes back when its stream is dropped (`a_place_comes_back_with_its_stream`).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

use crate::limits;
use crate::message::RefusalV1;
use crate::names::ClusterName;
use crate::transport::Stream;

/// Reason of a refusal for want of a place: to be tried again later.
pub const TOO_MANY: &str = "TooManyRequests";

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A log.
    Logs,
    /// A module.
    Module,
    /// A connection between pods of this realm.
    Tunnel(ClusterName),
    /// A new certificate.
    Renewal,
}

/// Streams of one direction of one link.
#[derive(Debug, Default)]
pub struct Budget(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logs: usize,
    modules: usize,
    tunnels: BTreeMap<ClusterName, usize>,
    renewals: usize,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub struct Place {
    budget: Arc<Budget>,
    of: Use,
}

impl Budget {
    /// Takes a place.
    ///
    /// # Errors
    /// With what to tell who asked, when there is none.
    pub fn take(self: &Arc<Self>, of: Use) -> Result<Place, RefusalV1> {
        let full = |what: String| Err(RefusalV1::new(TOO_MANY, what));
        let mut state = self.0.lock();
        let tunnels: usize = state.tunnels.values().sum();
        let slot = match &of {
            Use::Logs if limits::LOGS <= state.logs => {
                return full(format!("the link carries {} logs already", limits::LOGS));
            }
            Use::Module if limits::MODULES <= state.modules => {
                return full(format!("the link carries {} modules already", limits::MODULES));
            }
            Use::Renewal if limits::RENEWALS <= state.renewals => {
                return full("a certificate is being renewed already".to_owned());
            }
            Use::Renewal => &mut state.renewals,
            Use::Logs => &mut state.logs,
            Use::Module => &mut state.modules,
            Use::Tunnel(realm) => {
                let own = state.tunnels.get(realm).copied().unwrap_or_default();
                if limits::TUNNELS_OF_REALM <= own || limits::TUNNELS <= tunnels {
                    return full(format!(
                        "the link carries {own} connections of {realm} and {tunnels} in all, as many as it may"
                    ));
                }
                state.tunnels.entry(realm.clone()).or_default()
            }
        };
        *slot += 1;
        drop(state);
        Ok(Place { budget: self.clone(), of })
    }
}

impl Place {
    /// Ties the place to a stream: it comes back with the stream's end here.
    #[must_use]
    pub fn hold(self, stream: Stream) -> Stream {
        let recv = Held { recv: stream.recv, _place: self };
        Stream { send: stream.send, recv: Box::new(recv) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.budget.0.lock();
        match &self.of {
            Use::Logs => state.logs -= 1,
            Use::Module => state.modules -= 1,
            Use::Renewal => state.renewals -= 1,
            Use::Tunnel(realm) => {
                if let Some(count) = state.tunnels.get_mut(realm) {
                    *count -= 1;
                    if *count == 0 {
                        state.tunnels.remove(realm);
                    }
                }
            }
        }
    }
}

struct Held {
    recv: Box<dyn AsyncRead + Send + Sync + Unpin>,
    _place: Place,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(realm: &str) -> Use {
        Use::Tunnel(ClusterName::try_from(realm).unwrap())
    }

    /// Takes places until there is none.
    fn all(budget: &Arc<Budget>, of: &Use) -> Vec<Place> {
        std::iter::from_fn(|| budget.take(of.clone()).ok()).take(10_000).collect()
    }

    #[test]
    fn idle_connections_of_one_realm_keep_nobody_else_out() {
        let budget = Arc::new(Budget::default());
        let root = all(&budget, &tunnel("root"));
        assert_eq!(root.len(), limits::TUNNELS_OF_REALM);
        let refused = budget.take(tunnel("root")).unwrap_err();
        assert_eq!(refused.reason, TOO_MANY);
        assert!(refused.message.contains("connections of root"), "{}", refused.message);
        let own = all(&budget, &tunnel("pi-7"));
        assert_eq!(own.len(), limits::TUNNELS - limits::TUNNELS_OF_REALM);
        assert_eq!(all(&budget, &Use::Logs).len(), limits::LOGS);
        assert_eq!(all(&budget, &Use::Module).len(), limits::MODULES);
    }

    #[test]
    fn a_place_comes_back_with_its_stream() {
        let budget = Arc::new(Budget::default());
        let places = all(&budget, &Use::Module);
        assert!(budget.take(Use::Module).is_err());
        drop(places);
        assert!(budget.take(Use::Module).is_ok());
        assert_eq!(budget.0.lock().modules, 0);
        drop(all(&budget, &tunnel("root")));
        assert!(budget.0.lock().tunnels.is_empty());
    }
}
