//! Seals anew, in the background, what lies otherwise than it would be written now, and drops the hub's own keys that
//! nothing is sealed with any more.
//!
//! ```text
//! hub keys rotate ─▶ a key more in sealing.keys ─ seen ─▶ new values take it ─▶ step, pause, step, … ─▶ old keys dropped
//! ```
//!
//! A hub that is killed on the way finds at its start what is left to do. A tenth of the writer's time is the most that
//! it takes.
//!
//! Guarantees:
//! - a key is dropped when nothing needs it any more, and all that was there is there afterwards
//!   (`keys_rotate_while_the_hub_runs_and_when_it_starts`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_pki::PkiError;
use freewheel_hub_store::redb::RedbStore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Sealing;

/// How soon a key that was added is seen.
const KEY_FILE_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);
/// How soon a disk that refused is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(15);
/// After each step the disk is everybody's for so many times as long.
const PAUSE_PER_STEP: u32 = 9;

/// The keys, and the store that lies sealed with them.
pub struct Rotation {
    pub sealing: Arc<Sealing>,
    pub store: Arc<RedbStore>,
}

impl Rotation {
    /// Until it is told to stop.
    ///
    /// # Errors
    /// None: what cannot be sealed anew now is tried again.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = self.follow() => Ok(()),
        }
    }

    async fn follow(&self) {
        let mut due = self.store.was_stale();
        loop {
            // Nothing is sealed, nor a key dropped, by a file that is not to be believed.
            let is_well = self.sealing.reload().is_ok();
            due |= self.has_old_keys();
            let failed = due && is_well && self.seal_all_anew().await.is_err();
            due &= failed || !is_well;
            sleep(if failed { RETRY_AFTER } else { KEY_FILE_LOOKED_AT_EVERY }).await;
        }
    }

    fn has_old_keys(&self) -> bool {
        !self.sealing.keys.load().old.is_empty()
    }

    /// All of it, with the keys of this moment.
    async fn seal_all_anew(&self) -> Result<(), ()> {
        let keys = self.sealing.keys.load_full();
        let (mut from, mut rewritten) = (Vec::new(), 0);
        loop {
            let began = Instant::now();
            let step = self.store.reseal(from).await.map_err(
                |error| warn!(%error, "values are not sealed anew yet, and it is tried again"),
            )?;
            rewritten += step.rewritten;
            if let Some(why) = step.lost {
                error!(
                    error = why,
                    "some values cannot be sealed anew, as their key was taken away while this hub runs: it goes on with what \
                     it has in memory, and does not start again without that key"
                );
                return Err(());
            }
            let Some(next) = step.next else { break };
            from = next;
            sleep(began.elapsed() * PAUSE_PER_STEP).await;
        }
        info!(values = rewritten, "all that is to be sealed is sealed with the newest key");
        if keys.old.is_empty() {
            return Ok(());
        }
        // Old are those that were old before the first step; one that has become so since may still be in use.
        self.sealing.forget(&keys.old).map_err(|error: PkiError| {
            warn!(
                error = crate::chain(&error),
                "keys that are of no use any more are not dropped yet"
            );
        })
    }
}
