//! Pods on other nodes that were not reached just now, on whatever port.
//!
//! Guarantees:
//! - what was noted lasts [`AWAY`] and no longer than the link that it was noted on, so a new link starts without
//!   prejudice, and what is over is forgotten (`a_note_lasts_a_while_and_no_longer_than_its_link`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a pod that was not reached is passed over while there are others.
const AWAY: Duration = Duration::from_secs(5);

/// What is known of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// It lets clients wait: new ones go elsewhere, flows stay.
    Slow,
    /// No way leads there.
    Gone,
}

struct Note {
    since: Instant,
    link: u64,
    doubt: Doubt,
}

/// The notes of one realm.
#[derive(Default)]
pub(crate) struct Away(Mutex<HashMap<IpAddr, Note>>);

impl Away {
    /// Notes how an endpoint was met over this link.
    pub(crate) fn note(&self, endpoint: SocketAddr, link: u64, doubt: Doubt) {
        let since = Instant::now();
        let mut notes = self.0.lock();
        notes.retain(|_, note| note.link == link && since.duration_since(note.since) < AWAY);
        notes.insert(endpoint.ip(), Note { since, link, doubt });
    }

    /// What speaks against this endpoint over this link.
    pub(crate) fn doubt(&self, endpoint: SocketAddr, link: u64) -> Option<Doubt> {
        let notes = self.0.lock();
        let note = notes.get(&endpoint.ip())?;
        (note.link == link && note.since.elapsed() < AWAY).then_some(note.doubt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_note_lasts_a_while_and_no_longer_than_its_link() {
        let (away, endpoint) = (Away::default(), "10.64.1.1:80".parse().unwrap());
        assert_eq!(away.doubt(endpoint, 1), None);
        away.note(endpoint, 1, Doubt::Slow);
        assert_eq!((away.doubt(endpoint, 1), away.doubt(endpoint, 2)), (Some(Doubt::Slow), None));
        tokio::time::advance(AWAY).await;
        assert_eq!(away.doubt(endpoint, 1), None);
        away.note("10.64.1.2:80".parse().unwrap(), 1, Doubt::Gone);
        assert_eq!(away.0.lock().len(), 1, "what is over is forgotten");
    }
}
