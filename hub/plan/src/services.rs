//! The Services of one realm as all of its spokes are told of them: one set, which nobody has a copy of.
//!
//! Guarantees:
//! - a change concerns whom it changes something for: a node port every node, anything else who has pods in the realm,
//!   and what changes no record nobody (`a_change_concerns_whom_it_changes_something_for`).

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, RecordKey};
use freewheel_link::record_set::Sealed;
use imbl::OrdMap;
use std::sync::Arc;

use crate::refused::Refused;
use crate::source::ServiceRecord;
use crate::versioned::VersionedSet;

/// Which Services of a realm a spoke is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// None from here: they stand among what is the spoke's alone.
    Nothing,
    /// Those that every node listens for: it has no pods there.
    NodePorts,
    /// All: it has pods there.
    All,
}

/// Whom a change concerns. The later one includes the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concerned {
    /// Nothing has changed for anybody.
    Nobody,
    /// Spokes with pods in the realm.
    WithPods,
    /// Every spoke that takes part in the realm.
    Everybody,
}

/// What is told of a realm's Services, and what cannot be.
#[derive(Clone, Debug, Default)]
pub struct ServiceSet {
    all: VersionedSet,
    node_ports: VersionedSet,
    nothing: VersionedSet,
    /// With whether every node would listen for it.
    refused: OrdMap<RecordKey, (bool, Refused)>,
}

/// Where the record of a Service is.
#[must_use]
pub fn service_key(realm: &ClusterName, namespace: &str, name: &str) -> RecordKey {
    RecordKey { realm: realm.clone(), kind: Kind::SERVICE_V1, key: format!("{namespace}/{name}") }
}

impl ServiceSet {
    /// The Service with this key is told of like this from now on.
    pub fn put(&mut self, key: &RecordKey, service: ServiceRecord) -> Concerned {
        let ServiceRecord { has_node_port, record } = service;
        let record = match record {
            Ok(record) => Arc::new(Sealed::from(record)),
            Err(refused) => {
                let removed = self.take(key);
                let news = self.refused.get(key) != Some(&(has_node_port, refused.clone()));
                self.refused.insert(key.clone(), (has_node_port, refused));
                return removed.max(concerned(news, news && has_node_port));
            }
        };
        let healed = self.heal(key);
        let one = self.all.put(record.clone());
        let port =
            if has_node_port { self.node_ports.put(record) } else { self.node_ports.remove(key) };
        healed.max(concerned(one, port))
    }

    /// The Service with this key is gone.
    pub fn remove(&mut self, key: &RecordKey) -> Concerned {
        self.heal(key).max(self.take(key))
    }

    fn take(&mut self, key: &RecordKey) -> Concerned {
        let (one, port) = (self.all.remove(key), self.node_ports.remove(key));
        concerned(one, port)
    }

    fn heal(&mut self, key: &RecordKey) -> Concerned {
        match self.refused.remove(key) {
            Some((has_node_port, _)) => concerned(true, has_node_port),
            None => Concerned::Nobody,
        }
    }

    /// The Services of this scope.
    #[must_use]
    pub const fn of(&self, scope: Scope) -> &VersionedSet {
        match scope {
            Scope::Nothing => &self.nothing,
            Scope::NodePorts => &self.node_ports,
            Scope::All => &self.all,
        }
    }

    /// Those of this scope that no record can be made of.
    pub fn refused(&self, scope: Scope) -> impl Iterator<Item = &Refused> {
        let is_in = move |port: bool| scope == Scope::All || (scope == Scope::NodePorts && port);
        self.refused.values().filter(move |(port, _)| is_in(*port)).map(|(_, refused)| refused)
    }
}

const fn concerned(one: bool, port: bool) -> Concerned {
    match (one, port) {
        (_, true) => Concerned::Everybody,
        (true, false) => Concerned::WithPods,
        (false, false) => Concerned::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::plan::Record;

    use super::*;
    use crate::refused::Fault;

    fn key() -> RecordKey {
        service_key(&ClusterName::root(), "default", "web")
    }

    fn service(has_node_port: bool, body: u8) -> ServiceRecord {
        let record = Record { key: key(), revision: 1, needs: 0, body: vec![body] };
        ServiceRecord { has_node_port, record: Ok(record) }
    }

    fn refused(has_node_port: bool) -> ServiceRecord {
        let fault = Fault::invalid("a port that is none");
        let record = Err(fault.of(&ClusterName::root(), "services", &Default::default()));
        ServiceRecord { has_node_port, record }
    }

    #[test]
    fn a_change_concerns_whom_it_changes_something_for() {
        use Concerned::{Everybody, Nobody, WithPods};
        let mut set = ServiceSet::default();
        assert_eq!(set.put(&key(), service(false, 1)), WithPods);
        assert_eq!(set.put(&key(), service(false, 1)), Nobody, "the same again");
        assert_eq!(set.put(&key(), service(true, 1)), Everybody, "it opens a port");
        assert_eq!(set.put(&key(), service(true, 2)), Everybody);
        assert_eq!(set.put(&key(), service(false, 2)), Everybody, "it closes the port");
        assert_eq!(set.put(&key(), refused(false)), WithPods);
        assert_eq!(set.put(&key(), refused(false)), Nobody);
        let refused_in = |set: &ServiceSet, scope| set.refused(scope).count();
        assert_eq!([Scope::All, Scope::NodePorts].map(|scope| refused_in(&set, scope)), [1, 0]);
        assert_eq!(set.put(&key(), refused(true)), Everybody);
        assert_eq!(refused_in(&set, Scope::NodePorts), 1);
        assert_eq!(set.put(&key(), service(false, 2)), Everybody, "its refusal is over");
        assert_eq!(refused_in(&set, Scope::All), 0);
        assert_eq!(set.remove(&key()), WithPods);
        assert_eq!(set.remove(&key()), Nobody);
    }
}
