//! Gives memory back after a load.
//!
//! What the past holds goes after some minutes ([`Store::rest`]), and the allocator then keeps the pages
//! ([`freewheel_link::heap`]). So it is told to look, when there is something to gain and nobody writes.
//!
//! Guarantees:
//! - what a load made the hub hold is given back soon after it, but for the past
//!   (`memory_is_given_back_after_a_load`);
//! - the past goes with it when it is old (`the_past_is_given_back_when_it_is_old`).

use std::io;
use std::sync::Arc;

use freewheel_hub_store::Store;
use freewheel_link::heap::{CHECK_EVERY, TRIM_WORTH_BYTES, give_back, resident};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Every so many looks the past is thinned.
const HISTORY_TRIM_EVERY_CHECKS: u32 = 60;
/// Every so many looks memory is given back although somebody writes.
const TRIM_EVERY_CHECKS_MAX: u32 = 120;

/// Looks again and again until `stop`.
pub async fn run_maintenance(store: Arc<dyn Store>, stop: CancellationToken) -> io::Result<()> {
    let (mut kept, mut last, mut looks) = (resident(), store.snapshot().revision(), 0_u32);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
        looks = looks.wrapping_add(1);
        let thinned = looks.is_multiple_of(HISTORY_TRIM_EVERY_CHECKS);
        if thinned {
            store.compact_idle();
        }
        let revision = store.snapshot().revision();
        let quiet = std::mem::replace(&mut last, revision) == revision;
        // What the past has just let go of is free, and does not show as growth.
        let worth = thinned || kept + TRIM_WORTH_BYTES < resident();
        if worth && (quiet || looks.is_multiple_of(TRIM_EVERY_CHECKS_MAX)) {
            let before = resident();
            // It waits for locks and walks all that is free.
            tokio::task::spawn_blocking(give_back).await.map_err(io::Error::other)?;
            kept = resident();
            debug!(before, now = kept, "memory given back");
        }
    }
}
