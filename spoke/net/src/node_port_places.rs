//! Places for node ports that are open, of which a node has as many as it has descriptors for, and how they are shared.
//!
//! Whoever has some gets another one while there are enough left: an owner, which is a Service or a pod, while it has fewer
//! than are free, and all owners of a realm while they have fewer than three times as many.
//!
//! Guarantees:
//! - one owner takes at most half of the places, and one realm three quarters: another owner and another realm find some
//!   (`an_owner_and_a_realm_leave_places_for_others`). Of three places or fewer these are rounded up, and may be all
//!   (`few_places_go_to_whoever_has_none`);
//! - who gets none is told why, and has one when there are more (`a_service_leaves_node_ports_for_others`).

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_link::names::ClusterName;
use freewheel_spoke_account::{Held, MemoryAccount};
use parking_lot::Mutex;

/// A realm has at most so many times what is left free.
const REALM_TIMES_FREE: usize = 3;

/// All places of a node.
pub(crate) struct NodePortPlaces {
    all: Arc<MemoryAccount>,
    taken: Mutex<Taken>,
}

/// Who has how many.
#[derive(Default)]
struct Taken {
    owners: HashMap<String, usize>,
    realms: HashMap<ClusterName, usize>,
}

/// A place, until this is dropped.
pub(crate) struct NodePortPlace {
    places: Arc<NodePortPlaces>,
    owner: String,
    realm: ClusterName,
    held: Option<Held>,
}

impl NodePortPlaces {
    /// Those of this account: a count, not bytes.
    pub(crate) fn of(all: Arc<MemoryAccount>) -> Arc<Self> {
        Arc::new(Self { all, taken: Mutex::default() })
    }

    /// A place for this owner, in its realm; or why it gets none.
    pub(crate) fn take(
        self: &Arc<Self>,
        owner: &str,
        realm: &ClusterName,
    ) -> Result<NodePortPlace, String> {
        let mut taken = self.taken.lock();
        let free = self.all.limit().map(|limit| limit.saturating_sub(self.all.used()));
        // Where there is none at all, that is why.
        let some = free.filter(|free| 0 < *free);
        let left = "the others are for others";
        let own = taken.owners.get(owner).copied().unwrap_or_default();
        if 0 < own && some.is_some_and(|free| free <= own) {
            return Err(format!("{owner} has {own} ports of the node open already, and {left}"));
        }
        let of_realm = taken.realms.get(realm).copied().unwrap_or_default();
        if 0 < of_realm && some.is_some_and(|free| REALM_TIMES_FREE * free <= of_realm) {
            return Err(format!(
                "pods and Services of the cluster {realm} have {of_realm} ports of the node open already, and {left}"
            ));
        }
        let full = |limit| format!("the node has {limit} ports open, as many as it may");
        let held = self.all.take(1).map_err(|error| full(error.limit))?;
        *taken.owners.entry(owner.to_owned()).or_default() += 1;
        *taken.realms.entry(realm.clone()).or_default() += 1;
        drop(taken);
        let (places, owner, realm) = (self.clone(), owner.to_owned(), realm.clone());
        Ok(NodePortPlace { places, owner, realm, held: Some(held) })
    }
}

impl Drop for NodePortPlace {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        self.held = None;
        if let Some(own) = taken.owners.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                taken.owners.remove(&self.owner);
            }
        }
        if let Some(of_realm) = taken.realms.get_mut(&self.realm) {
            *of_realm -= 1;
            if *of_realm == 0 {
                taken.realms.remove(&self.realm);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_and_a_realm_leave_places_for_others() {
        let all = MemoryAccount::node();
        all.set_limit(128);
        let places = NodePortPlaces::of(all);
        let (root, site) = (ClusterName::root(), ClusterName::try_from("pi-7").unwrap());
        let fill = |owner: &str, realm: &ClusterName| {
            let taken = std::iter::from_fn(|| places.take(owner, realm).ok());
            taken.take(1000).collect::<Vec<_>>()
        };
        let greedy = fill(&format!("service/{root}/a/a"), &root);
        assert_eq!(greedy.len(), 64);
        let why = places.take(&format!("service/{root}/a/a"), &root).err().unwrap();
        assert!(why.contains("/a/a has 64 ports of the node open already"), "{why}");
        // Many that have few each are one realm all the same.
        let many: Vec<_> = (0..1000)
            .map_while(|number| places.take(&format!("pod/{number}"), &root).ok())
            .collect();
        assert_eq!(greedy.len() + many.len(), 96);
        let why = places.take("pod/late", &root).err().unwrap();
        assert!(why.contains("of the cluster root have 96 ports"), "{why}");
        let other = fill("service/pi-7/a/a", &site);
        assert_eq!(other.len(), 16);
        drop((greedy, many));
        assert_eq!(fill("pod/late", &root).len(), 56, "what was free is shared again");
        assert_eq!(places.all.used(), 16, "and comes back");
        drop(other);
        let taken = places.taken.lock();
        assert!(taken.owners.is_empty() && taken.realms.is_empty());
    }

    #[test]
    fn few_places_go_to_whoever_has_none() {
        let all = MemoryAccount::node();
        all.set_limit(2);
        let places = NodePortPlaces::of(all);
        let root = ClusterName::root();
        let first = places.take("pod/a", &root).unwrap();
        assert!(places.take("pod/a", &root).is_err());
        let second = places.take("pod/b", &root).unwrap();
        let why = places.take("pod/c", &root).err().unwrap();
        assert!(why.contains("the node has 2 ports open, as many as it may"), "{why}");
        drop((first, second));
        assert!(places.take("pod/c", &root).is_ok());
    }
}
