//! Connections with a spoke's certificate that have not been let in yet.
//!
//! Guarantees:
//! - of one ManagedCluster they are at most [`MOST`], another one takes the place of the oldest, so a device keeps out
//!   itself at most (`connections_that_do_not_greet_are_few_for_each_device`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use freewheel_link::transport::{Transport, code};
use parking_lot::Mutex;

/// Connections of one ManagedCluster: a device has one, and those of its that broke without a word.
const MOST: usize = 4;

/// All of them, by the UID that their certificates name.
#[derive(Default)]
pub(crate) struct Greetings(Mutex<BTreeMap<String, VecDeque<Arc<dyn Transport>>>>);

/// A connection's place, until this is dropped.
pub(crate) struct Waiting<'a> {
    all: &'a Greetings,
    uid: String,
    link: Arc<dyn Transport>,
}

impl Greetings {
    /// A place for this connection.
    pub(crate) fn wait(&self, uid: &str, link: &Arc<dyn Transport>) -> Waiting<'_> {
        let mut all = self.0.lock();
        let own = all.entry(uid.to_owned()).or_default();
        own.push_back(link.clone());
        let oldest = if MOST < own.len() { own.pop_front() } else { None };
        drop(all);
        if let Some(oldest) = oldest {
            oldest.close(code::BUSY, "this device has connected again and again since");
        }
        Waiting { all: self, uid: uid.to_owned(), link: link.clone() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        let Some(own) = all.get_mut(&self.uid) else { return };
        own.retain(|link| !Arc::ptr_eq(link, &self.link));
        if own.is_empty() {
            all.remove(&self.uid);
        }
    }
}
