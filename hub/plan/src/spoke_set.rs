//! All that one spoke is to hold: what is its own, and which Services of its realms it shares with others.
//!
//! ```text
//! own records ─────────────┐
//! Services of the root ────┤  SpokeSet ─▶ digest, weight, all of it, or the way from what the spoke holds
//! Services of its cluster ─┘  SpokeMembers: its own by their keys and digests, Services by a version
//! ```
//!
//! Guarantees:
//! - what is kept of what a spoke holds does not grow with the Services of its realms
//!   (`what_is_kept_of_a_spoke_does_not_grow_with_the_services`);
//! - the way from there leads to the same set as sending everything would
//!   (`ways_lead_to_what_a_whole_plan_would_be`).

use std::sync::Arc;

use freewheel_link::digest::SetDigest;
use freewheel_link::plan::{Record, RecordKey};
use freewheel_link::record_set::{Delta, Members, PlanSet, Sealed};

use crate::services::{Scope, ServiceSet};
use crate::versioned::VersionedSet;

/// Services of one realm, as far as a spoke is told of them.
#[derive(Clone, Debug)]
pub struct SharedServices {
    /// All of the realm.
    pub services: Arc<ServiceSet>,
    /// Which of them.
    pub scope: Scope,
}

impl SharedServices {
    pub(crate) fn set(&self) -> &VersionedSet {
        self.services.of(self.scope)
    }
}

/// What one spoke is to hold, at one moment.
#[derive(Clone, Debug)]
pub struct SpokeSet {
    pub(crate) own: Own,
    /// Of the root and of the spoke's own cluster.
    pub(crate) shared: [SharedServices; 2],
}

/// The records that are in no other spoke's plan.
#[derive(Clone, Debug)]
pub(crate) enum Own {
    /// Kept up to date for as long as a session lasts, so that versions tell what has changed.
    Kept(VersionedSet),
    /// All that is left of a plan which does not fit, made anew each time.
    Cut(VersionedSet),
}

impl Own {
    pub(crate) const fn set(&self) -> &VersionedSet {
        match self {
            Self::Kept(set) | Self::Cut(set) => set,
        }
    }
}

/// What is kept of a set that a spoke holds.
#[derive(Clone, Debug)]
pub struct SpokeMembers {
    own: OwnMembers,
    shared: [(Scope, u64); 2],
}

#[derive(Clone, Debug)]
enum OwnMembers {
    /// As the session that lasts has made it; what has not changed since is shared with what is wanted.
    Of(Own),
    /// Of an earlier session.
    Past(Members),
}

impl SpokeMembers {
    /// The same for a later session, without the records' bodies.
    #[must_use]
    pub fn past(self) -> Self {
        let own = match self.own {
            OwnMembers::Of(own) => own.set().iter().collect(),
            OwnMembers::Past(members) => members,
        };
        Self { own: OwnMembers::Past(own), shared: self.shared }
    }

    /// The records that are in no other spoke's plan.
    pub(crate) fn own(&self) -> Members {
        match &self.own {
            OwnMembers::Of(own) => own.set().iter().collect(),
            OwnMembers::Past(members) => members.clone(),
        }
    }
}

impl SpokeSet {
    /// What it counts for.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.sets().map(VersionedSet::weight).sum()
    }

    pub(crate) fn sealed(&self) -> impl Iterator<Item = &Arc<Sealed>> {
        self.sets().flat_map(VersionedSet::iter)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.sealed().map(|sealed| -> &Record { sealed })
    }

    fn sets(&self) -> impl Iterator<Item = &VersionedSet> {
        std::iter::once(self.own.set()).chain(self.shared.iter().map(SharedServices::set))
    }

    fn has(&self, key: &RecordKey) -> bool {
        self.sets().any(|set| set.get(key).is_some())
    }

    fn own_since(&self, held: &OwnMembers) -> Delta {
        match (&self.own, held) {
            (Own::Kept(now), OwnMembers::Of(Own::Kept(then))) => now
                .changes_since(then.version())
                .unwrap_or_else(|| then.iter().collect::<Members>().delta(now.iter())),
            (now, OwnMembers::Of(then)) => {
                then.set().iter().collect::<Members>().delta(now.set().iter())
            }
            (now, OwnMembers::Past(members)) => members.delta(now.set().iter()),
        }
    }
}

impl PlanSet for SpokeSet {
    type Members = SpokeMembers;

    fn digest(&self) -> SetDigest {
        let mut digest = SetDigest::default();
        self.sets().for_each(|set| digest.join(set.digest()));
        digest
    }

    fn whole(&self) -> Vec<Arc<Sealed>> {
        let mut all: Vec<_> = self.sets().flat_map(VersionedSet::iter).cloned().collect();
        all.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        all
    }

    fn members(&self) -> SpokeMembers {
        let version = |shared: &SharedServices| (shared.scope, shared.set().version());
        let [root, realm] = &self.shared;
        let own = OwnMembers::Of(self.own.clone());
        SpokeMembers { own, shared: [version(root), version(realm)] }
    }

    fn knows(&self, held: &SpokeMembers) -> bool {
        let mut pairs = self.shared.iter().zip(&held.shared);
        pairs.all(|(now, (scope, version))| now.services.of(*scope).knows(*version))
    }

    fn since(&self, held: &SpokeMembers) -> Option<Delta> {
        let mut all = self.own_since(&held.own);
        for (now, (scope, version)) in self.shared.iter().zip(&held.shared) {
            let way = now.set().way(now.services.of(*scope), *version)?;
            all.put.extend(way.put);
            all.remove.extend(way.remove);
        }
        // What has moved from one part to another is there all the same.
        all.remove.retain(|key| !self.has(key));
        all.put.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        all.remove.sort_unstable();
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;
    use freewheel_link::plan::Kind;
    use freewheel_link::record_set::RecordSet;

    use super::*;
    use crate::services::service_key;
    use crate::source::ServiceRecord;

    fn own(names: &[&str]) -> VersionedSet {
        let record = |name: &&str| {
            let realm = ClusterName::root();
            let key = RecordKey { realm, kind: Kind::POD_V1, key: (*name).to_owned() };
            Arc::new(Sealed::from(Record { key, revision: 1, needs: 0, body: vec![1; 20] }))
        };
        names.iter().map(record).collect()
    }

    fn put(services: &mut ServiceSet, name: &str, has_node_port: bool, body: u8) {
        let key = service_key(&ClusterName::root(), "default", name);
        let record = Record { key: key.clone(), revision: 1, needs: 0, body: vec![body; 20] };
        services.put(&key, ServiceRecord { has_node_port, record: Ok(record) });
    }

    fn set(own: Own, services: &ServiceSet, scope: Scope) -> SpokeSet {
        let none = SharedServices { services: Arc::default(), scope: Scope::NodePorts };
        SpokeSet {
            own,
            shared: [SharedServices { services: Arc::new(services.clone()), scope }, none],
        }
    }

    fn records(set: &SpokeSet) -> RecordSet {
        set.whole().iter().map(|record| Record::clone(record)).collect()
    }

    #[test]
    fn ways_lead_to_what_a_whole_plan_would_be() {
        let mut services = ServiceSet::default();
        put(&mut services, "inner", false, 1);
        put(&mut services, "outer", true, 1);
        let mut kept = own(&["a"]);
        let mut past = Vec::new();
        for step in 0..8_u8 {
            let whole: VersionedSet =
                set(Own::Kept(kept.clone()), &services, Scope::All).whole().into_iter().collect();
            for now in [
                set(Own::Kept(kept.clone()), &services, Scope::NodePorts),
                set(Own::Kept(kept.clone()), &services, Scope::All),
                set(Own::Cut(whole), &services, Scope::Nothing),
            ] {
                let there = records(&now);
                assert_eq!(now.digest(), there.digest());
                for (held, then) in &past {
                    let way = now.since(held).unwrap();
                    let mut walked: RecordSet = RecordSet::clone(then);
                    way.put.iter().for_each(|record| walked.put(Record::clone(record)));
                    way.remove.iter().for_each(|key| walked.remove(key));
                    assert_eq!(walked, there, "step {step}");
                }
                past.push((now.members(), there.clone()));
                past.push((now.members().past(), there));
            }
            put(&mut services, &format!("s{step}"), step % 2 == 0, step);
            put(&mut services, "outer", step % 3 == 0, step);
            let gone = service_key(&ClusterName::root(), "default", &format!("s{}", step / 2));
            services.remove(&gone);
            for record in own(&[&format!("p{step}")]).iter() {
                kept.put(record.clone());
            }
        }
    }

    #[test]
    fn what_is_kept_of_a_spoke_does_not_grow_with_the_services() {
        let mut services = ServiceSet::default();
        (0..1000).for_each(|n| put(&mut services, &format!("s{n}"), true, 1));
        let now = set(Own::Kept(own(&["a"])), &services, Scope::All);
        assert_eq!(now.whole().len(), 1001);
        let SpokeMembers { own, shared } = now.members().past();
        let OwnMembers::Past(members) = own else { panic!("{own:?}") };
        assert_eq!(members.len(), 1);
        assert_eq!(shared[0], (Scope::All, 1000));
    }
}
