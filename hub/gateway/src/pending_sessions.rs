//! Connections with a spoke's certificate that have not been let in yet.
//!
//! Guarantees:
//! - of one ManagedCluster they are at most [`CONNECTIONS_PER_CLUSTER_MAX`], another one takes the place of the oldest,
//!   so a device keeps out itself at most (`connections_that_do_not_greet_are_few_for_each_device`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use freewheel_link::transport::{Transport, code};
use parking_lot::Mutex;

/// Connections of one ManagedCluster: a device has one, and those of its that broke without a word.
const CONNECTIONS_PER_CLUSTER_MAX: usize = 4;

/// All of them, by the UID that their certificates name.
#[derive(Default)]
pub(crate) struct PendingSessions(Mutex<BTreeMap<String, VecDeque<Arc<dyn Transport>>>>);

/// A connection's place, until this is dropped.
pub(crate) struct PendingPermit<'a> {
    all: &'a PendingSessions,
    uid: String,
    link: Arc<dyn Transport>,
}

impl PendingSessions {
    /// A place for this connection.
    pub(crate) fn wait(&self, uid: &str, link: &Arc<dyn Transport>) -> PendingPermit<'_> {
        let mut all = self.0.lock();
        let own = all.entry(uid.to_owned()).or_default();
        own.push_back(link.clone());
        let oldest = if CONNECTIONS_PER_CLUSTER_MAX < own.len() { own.pop_front() } else { None };
        drop(all);
        if let Some(oldest) = oldest {
            oldest.close(code::BUSY, "this device has connected again and again since");
        }
        PendingPermit { all: self, uid: uid.to_owned(), link: link.clone() }
    }
}

impl Drop for PendingPermit<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        let Some(own) = all.get_mut(&self.uid) else { return };
        own.retain(|link| !Arc::ptr_eq(link, &self.link));
        if own.is_empty() {
            all.remove(&self.uid);
        }
    }
}
