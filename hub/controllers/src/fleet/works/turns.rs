//! Whose turn it is: works of one cluster hold up none of another's.
//!
//! ```text
//! begin ─▶ a turn, given back when it is dropped ─▶ to the one that waits longest in that cluster
//!   └────▶ none: it waits
//! ```
//!
//! Guarantees:
//! - no cluster has more than so many turns, and who waits longest is the next (`who_waits_longest_is_the_next`).

use std::collections::{HashMap, HashSet, VecDeque};

use freewheel_hub_schema::object::Key;
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Works of one cluster that are worked on at a time.
const CLUSTER_WORKS_AT_ONCE: usize = 2;

/// Turns, by cluster.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    clusters: HashMap<ClusterName, Cluster>,
    /// All that wait, each once.
    waiting: HashSet<Key>,
    /// Those that have been given a turn and have not begun.
    given: HashSet<Key>,
    /// Those that nobody has been told of yet.
    freed: Vec<Key>,
}

#[derive(Default)]
struct Cluster {
    turns: usize,
    waiting: VecDeque<Key>,
}

/// A turn, until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    cluster: ClusterName,
}

impl Turns {
    /// A turn, if there is one; else the key waits, and [`Turns::freed`] names it when it has one.
    pub fn begin(&self, cluster: &ClusterName, key: &Key) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        let State { clusters, waiting, given, .. } = &mut *state;
        if !given.remove(key) {
            let own = clusters.entry(cluster.clone()).or_default();
            if CLUSTER_WORKS_AT_ONCE <= own.turns {
                if waiting.insert(key.clone()) {
                    own.waiting.push_back(key.clone());
                }
                return None;
            }
            own.turns += 1;
        }
        drop(state);
        Some(Turn { turns: self, cluster: cluster.clone() })
    }

    /// Keys that have a turn by now. Cancel safe.
    pub async fn freed(&self) -> Vec<Key> {
        loop {
            let woken = self.wake.notified();
            let freed = std::mem::take(&mut self.state.lock().freed);
            if !freed.is_empty() {
                return freed;
            }
            woken.await;
        }
    }

    fn end(&self, cluster: &ClusterName) {
        let mut state = self.state.lock();
        let State { clusters, waiting, given, freed } = &mut *state;
        let Some(own) = clusters.get_mut(cluster) else { return };
        if let Some(next) = own.waiting.pop_front() {
            waiting.remove(&next);
            given.insert(next.clone());
            freed.push(next);
            drop(state);
            self.wake.notify_one();
            return;
        }
        own.turns -= 1;
        if own.turns == 0 {
            clusters.remove(cluster);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.end(&self.cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::object::Resource;

    #[tokio::test]
    async fn who_waits_longest_is_the_next() {
        let resource = Resource::new("work.open-cluster-management.io", "manifestworks");
        let key = |name: &str| Key::new(&resource, &ClusterName::root(), "pi-1", name);
        let cluster = |name: &str| ClusterName::try_from(name).unwrap();
        let (one, other) = (cluster("pi-1"), cluster("pi-2"));
        let turns = Turns::default();
        let (a, b) = (turns.begin(&one, &key("a")), turns.begin(&one, &key("b")));
        assert!(a.is_some() && b.is_some());
        assert!(turns.begin(&one, &key("d")).is_none() && turns.begin(&one, &key("c")).is_none());
        assert!(turns.begin(&one, &key("d")).is_none(), "it waits once");
        assert!(turns.begin(&other, &key("e")).is_some());
        drop(a);
        assert_eq!(turns.freed().await, [key("d")]);
        assert!(turns.begin(&one, &key("f")).is_none(), "that turn is another one's");
        let d = turns.begin(&one, &key("d"));
        assert!(d.is_some());
        drop((b, d));
        assert_eq!(turns.freed().await, [key("c"), key("f")]);
        drop((turns.begin(&one, &key("c")), turns.begin(&one, &key("f"))));
        let state = turns.state.lock();
        assert!(state.clusters.is_empty() && state.waiting.is_empty() && state.given.is_empty());
    }
}
