//! Keys that are ready, handed out a cluster at a time: who has a thousand of them waits for itself.
//!
//! Guarantees:
//! - each cluster has every so many-th turn, whatever others have waiting, and its own keys come in their order
//!   (`clusters_take_turns_and_keep_their_order`);
//! - one that may have none now keeps its place, and holds up nobody behind it
//!   (`who_may_have_no_turn_keeps_its_place`).

use std::collections::{HashMap, VecDeque};

use freewheel_hub_schema::object::Key;
use freewheel_link::names::ClusterName;

/// One line for each cluster that has something waiting.
#[derive(Default)]
pub(super) struct Turns {
    lines: HashMap<ClusterName, VecDeque<Key>>,
    /// Whose turn is next: those that have a line.
    order: VecDeque<ClusterName>,
    len: usize,
}

impl Turns {
    /// To the end of its cluster's line.
    pub(super) fn push(&mut self, key: Key) {
        self.len += 1;
        if let Some(line) = self.lines.get_mut(&key.cluster) {
            line.push_back(key);
            return;
        }
        self.order.push_back(key.cluster.clone());
        self.lines.insert(key.cluster.clone(), VecDeque::from([key]));
    }

    /// The first of the cluster whose turn it is, of those that may have one now; it then waits until all others had
    /// theirs.
    pub(super) fn pop(&mut self, may: impl Fn(&ClusterName) -> bool) -> Option<Key> {
        let at = self.order.iter().position(may)?;
        let cluster = self.order.remove(at)?;
        let line = self.lines.get_mut(&cluster)?;
        let key = line.pop_front()?;
        self.len -= 1;
        if line.is_empty() {
            self.lines.remove(&cluster);
        } else {
            self.order.push_back(cluster);
        }
        Some(key)
    }

    /// How many keys wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::object::Resource;

    fn key(cluster: &str, name: &str) -> Key {
        let cluster = ClusterName::try_from(cluster).unwrap();
        Key::new(&Resource::new("", "pods"), &cluster, "default", name)
    }

    #[test]
    fn clusters_take_turns_and_keep_their_order() {
        let mut turns = Turns::default();
        for name in 0..1000 {
            turns.push(key("pi-0", &name.to_string()));
        }
        turns.push(key("root", "a"));
        turns.push(key("pi-1", "a"));
        turns.push(key("root", "b"));
        assert_eq!(turns.len(), 1003);
        let mut next =
            || turns.pop(|_| true).map(|key| format!("{}/{}", key.cluster, key.name)).unwrap();
        let first: Vec<String> = (0..6).map(|_| next()).collect();
        assert_eq!(first, ["pi-0/0", "root/a", "pi-1/a", "pi-0/1", "root/b", "pi-0/2"]);
        assert_eq!(next(), "pi-0/3", "nobody else has anything");
        while turns.pop(|_| true).is_some() {}
        assert!(turns.is_empty() && turns.lines.is_empty() && turns.order.is_empty());
    }

    #[test]
    fn who_may_have_no_turn_keeps_its_place() {
        let mut turns = Turns::default();
        for (cluster, name) in [("pi-0", "a"), ("pi-1", "a"), ("pi-2", "a"), ("pi-1", "b")] {
            turns.push(key(cluster, name));
        }
        assert_eq!(turns.pop(|cluster| cluster.as_str() != "pi-0"), Some(key("pi-1", "a")));
        assert_eq!(turns.pop(|_| false), None);
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop(|_| true)).collect();
        assert_eq!(rest, [key("pi-0", "a"), key("pi-2", "a"), key("pi-1", "b")]);
    }
}
