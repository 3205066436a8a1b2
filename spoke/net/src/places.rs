//! The clients that UDP doors of a realm may have: each door as many as any other, because with forged addresses one door
//! could have all.
//!
//! Guarantees:
//! - doors have no more together than their realm has ports for them (`a_door_that_opens_gets_its_part_from_the_others`).

use tokio::sync::watch;

use crate::sockets::MAX_SOCKETS;

/// Clients of one door at a time.
const MOST: usize = 1024;

/// The doors of a realm that are open.
pub(crate) struct Places(watch::Sender<usize>);

impl Default for Places {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Places {
    /// One more door is open, until what is returned goes.
    pub(crate) fn open(&self) -> Share {
        self.0.send_modify(|doors| *doors += 1);
        Share { doors: self.0.clone(), seen: self.0.subscribe() }
    }
}

/// One door's part.
pub(crate) struct Share {
    doors: watch::Sender<usize>,
    seen: watch::Receiver<usize>,
}

impl Share {
    /// Clients that it may have now.
    pub(crate) fn most(&self) -> usize {
        (MAX_SOCKETS / (*self.seen.borrow()).max(1)).clamp(1, MOST)
    }

    /// Waits until that may have changed.
    pub(crate) async fn changed(&mut self) {
        // The sender is here: it is never closed.
        let _ = self.seen.changed().await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.doors.send_modify(|doors| *doors -= 1);
    }
}
