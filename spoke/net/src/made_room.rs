//! Full pods for which a client was sent away, by whichever node port of this node: as long as nobody has come in since, the
//! next one would go in vain. Other nodes whose node ports lead to the same pod count for themselves.
//!
//! Guarantees:
//! - for a full pod one client of this node is sent away, and no other before that has let one in, or for [`IN_VAIN_FOR`]
//!   (`one_who_was_sent_away_in_vain_is_the_last_for_a_while`), however many of its node ports lead to it
//!   (`node_ports_of_one_pod_send_one_away_together`).

use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long nobody is sent away for a pod after that has let nobody in: its guest keeps what it has, or somebody else has
/// taken the place.
pub(crate) const IN_VAIN_FOR: Duration = Duration::from_secs(5);

/// The pods of one realm.
#[derive(Default)]
pub(crate) struct MadeRoom(Mutex<Vec<(IpAddr, Instant)>>);

impl MadeRoom {
    /// Has somebody go for this pod, if the last one did not go in vain. Whether somebody goes.
    pub(crate) fn send_away(&self, pod: IpAddr, send: impl FnOnce() -> bool) -> bool {
        let mut made = self.0.lock();
        made.retain(|(_, since)| since.elapsed() < IN_VAIN_FOR);
        let goes = made.iter().all(|(other, _)| *other != pod) && send();
        if goes {
            made.push((pod, Instant::now()));
        }
        goes
    }

    /// This pod has let somebody in.
    pub(crate) fn came_in(&self, pod: IpAddr) {
        self.0.lock().retain(|(other, _)| *other != pod);
    }
}
