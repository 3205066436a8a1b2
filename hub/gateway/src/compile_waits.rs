//! How many streams of a link wait at a time for modules that are still being compiled.
//!
//! Who gets no place is in the compilers' line all the same, and asks again after a while: a place is worth that while,
//! and no turn.
//!
//! Guarantees:
//! - those that wait leave the link streams for what is there
//!   (`modules_that_are_being_compiled_take_no_stream_from_one_that_is_ready`);
//! - one tenant's modules leave places for another's (`one_tenants_modules_leave_places_for_others`);
//! - a place comes back when it is dropped (`a_place_comes_back`).

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_api::images::{Tenant, Tenants};
use freewheel_link::limits;
use parking_lot::Mutex;

/// Streams of a link that wait: what is there is sent over the others.
const WAITS_MAX: usize = 10;
/// Of those the ones that go to who has few.
const WAITS_KEPT_FREE: usize = 5;

const _: () = assert!(WAITS_MAX < limits::MODULE_STREAMS_MAX && WAITS_KEPT_FREE < WAITS_MAX);

/// Who waits on a link.
#[derive(Debug, Default)]
pub(crate) struct CompileWaits(Mutex<WaitCounts>);

#[derive(Debug, Default)]
struct WaitCounts {
    all: usize,
    /// Those of them that a tenant has of the places that are kept.
    kept: BTreeMap<Tenant, usize>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct WaitPermit {
    waits: Arc<CompileWaits>,
    of: Option<Tenant>,
}

impl CompileWaits {
    /// A place for one of these. Who they are costs a look at all pods of a device, and is asked when few are left.
    pub(crate) fn take(self: &Arc<Self>, tenants: Tenants<'_>) -> Option<WaitPermit> {
        let place = |of| WaitPermit { waits: self.clone(), of };
        {
            let mut counts = self.0.lock();
            let free = WAITS_MAX.saturating_sub(counts.all);
            if free == 0 {
                return None;
            }
            if WAITS_KEPT_FREE < free {
                counts.all += 1;
                return Some(place(None));
            }
        }
        let tenants = tenants();
        let mut counts = self.0.lock();
        let free = WAITS_MAX.saturating_sub(counts.all);
        let own = |tenant: &Tenant| counts.kept.get(tenant).copied().unwrap_or_default();
        let may = |tenant: &Tenant| 0 < free && (own(tenant) == 0 || 3 * (own(tenant) + 1) <= free);
        let of = tenants.into_iter().find(may)?;
        counts.all += 1;
        *counts.kept.entry(of.clone()).or_default() += 1;
        drop(counts);
        Some(place(Some(of)))
    }
}

impl Drop for WaitPermit {
    fn drop(&mut self) {
        let mut counts = self.waits.0.lock();
        counts.all -= 1;
        if let Some(of) = &self.of
            && let Some(own) = counts.kept.get_mut(of)
        {
            *own -= 1;
            if *own == 0 {
                counts.kept.remove(of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(waits: &Arc<CompileWaits>, name: &str) -> Option<WaitPermit> {
        waits.take(&|| vec![Tenant::Namespace(name.to_owned())])
    }

    #[test]
    fn one_tenants_modules_leave_places_for_others() {
        let waits = Arc::new(CompileWaits::default());
        let greedy: Vec<_> = std::iter::from_fn(|| take(&waits, "greedy")).collect();
        assert_eq!(greedy.len(), WAITS_MAX - WAITS_KEPT_FREE + 1);
        let others: Vec<_> =
            ["a", "b", "c"].map(|name| take(&waits, name)).into_iter().flatten().collect();
        assert_eq!(others.len(), 3);
        let both = waits.take(&|| ["a", "d"].map(|name| Tenant::Namespace(name.into())).into());
        assert!(both.is_some(), "what several wait for has the place of the one who has few");
        assert!(take(&waits, "e").is_none(), "all are taken");
    }

    #[test]
    fn a_place_comes_back() {
        let waits = Arc::new(CompileWaits::default());
        for _ in 0..2 {
            let all: Vec<_> =
                (0..).map_while(|number| take(&waits, &format!("{number}"))).collect();
            assert_eq!(all.len(), WAITS_MAX);
        }
        assert_eq!(waits.0.lock().all, 0);
        assert!(waits.0.lock().kept.is_empty());
    }
}
