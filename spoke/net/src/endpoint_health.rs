//! Pods on other nodes that were not reached just now, or had no socket more, on whatever port.
//!
//! Guarantees:
//! - what was noted lasts [`FAULT_REMEMBERED_FOR`] and no longer than the link that it was noted on, so a new link
//!   starts without prejudice, and what is over is forgotten (`a_note_lasts_a_while_and_no_longer_than_its_link`);
//! - who was full is known to have room as soon as it has let somebody in (`who_lets_somebody_in_is_full_no_more`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a pod that was not reached, or was full, is passed over while there are others.
const FAULT_REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// What is known of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndpointFault {
    /// It lets clients wait: new ones go elsewhere, flows stay.
    Slow,
    /// It has no socket for one more: new clients go elsewhere, but to it rather than to where no way leads.
    Full,
    /// No way leads there.
    Gone,
}

struct FaultNote {
    since: Instant,
    link: u64,
    fault: EndpointFault,
}

/// The notes of one realm.
#[derive(Default)]
pub(crate) struct EndpointHealth(Mutex<HashMap<IpAddr, FaultNote>>);

impl EndpointHealth {
    /// Notes how an endpoint was met over this link.
    pub(crate) fn note(&self, endpoint: SocketAddr, link: u64, fault: EndpointFault) {
        let since = Instant::now();
        let mut notes = self.0.lock();
        notes.retain(|_, note| {
            note.link == link && since.duration_since(note.since) < FAULT_REMEMBERED_FOR
        });
        notes.insert(endpoint.ip(), FaultNote { since, link, fault });
    }

    /// An endpoint has let somebody in.
    pub(crate) fn has_let_in(&self, endpoint: SocketAddr) {
        let mut notes = self.0.lock();
        if notes.get(&endpoint.ip()).is_some_and(|note| note.fault == EndpointFault::Full) {
            notes.remove(&endpoint.ip());
        }
    }

    /// What speaks against this endpoint over this link.
    pub(crate) fn fault(&self, endpoint: SocketAddr, link: u64) -> Option<EndpointFault> {
        let notes = self.0.lock();
        let note = notes.get(&endpoint.ip())?;
        (note.link == link && note.since.elapsed() < FAULT_REMEMBERED_FOR).then_some(note.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_note_lasts_a_while_and_no_longer_than_its_link() {
        let (endpoint_health, endpoint) =
            (EndpointHealth::default(), "10.64.1.1:80".parse().unwrap());
        assert_eq!(endpoint_health.fault(endpoint, 1), None);
        endpoint_health.note(endpoint, 1, EndpointFault::Slow);
        assert_eq!(
            (endpoint_health.fault(endpoint, 1), endpoint_health.fault(endpoint, 2)),
            (Some(EndpointFault::Slow), None)
        );
        tokio::time::advance(FAULT_REMEMBERED_FOR).await;
        assert_eq!(endpoint_health.fault(endpoint, 1), None);
        endpoint_health.note("10.64.1.2:80".parse().unwrap(), 1, EndpointFault::Gone);
        assert_eq!(endpoint_health.0.lock().len(), 1, "what is over is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn who_lets_somebody_in_is_full_no_more() {
        let endpoint_health = EndpointHealth::default();
        let endpoint = "10.64.1.1:80".parse().unwrap();
        endpoint_health.note(endpoint, 1, EndpointFault::Full);
        assert_eq!(endpoint_health.fault(endpoint, 1), Some(EndpointFault::Full));
        endpoint_health.has_let_in(endpoint);
        assert_eq!(endpoint_health.fault(endpoint, 1), None);
        endpoint_health.note(endpoint, 1, EndpointFault::Slow);
        endpoint_health.has_let_in(endpoint);
        assert_eq!(endpoint_health.fault(endpoint, 1), Some(EndpointFault::Slow), "and slow still");
    }
}
