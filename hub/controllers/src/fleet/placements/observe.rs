//! Which clusters there are for a Placement, and what it is decided from, as they are at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_fleet::asked_scores::ScoreSource;
use freewheel_hub_fleet::decisions::{Group, groups};
use freewheel_hub_fleet::prioritizer::AddOnScores;
use freewheel_hub_fleet::refusals::{Refusal, refusals};
use freewheel_hub_fleet::satisfaction::{self, Offer};
use freewheel_hub_fleet::{Cluster, ClusterSet, Placement, Schedule, World, schedule};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::names::ClusterName;
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use super::Placements;
use crate::engine::Error;
use crate::engine::client::{in_namespace, key as key_of};
use crate::fleet::selection::members;
use crate::index::{ClusterEntry, IndexTerm, PLACEMENT_LABEL};

/// Clusters that are chosen from in no time.
const INLINE_CLUSTERS_MAX: usize = 64;

/// What a Placement is decided from.
pub(super) struct Observed {
    placement: Placement,
    bindings: usize,
    eligible: Vec<String>,
    members: Vec<Arc<ClusterEntry>>,
    seen: Seen,
}

/// What is decided.
pub(super) struct Decided {
    pub schedule: Schedule,
    pub groups: Vec<Group>,
    /// Status, reason and message of PlacementSatisfied, and of PlacementMisconfigured.
    pub satisfied: (bool, &'static str, String),
    pub misconfigured: (bool, &'static str, String),
    /// How often scores alone are written.
    pub rate: String,
}

struct Seen {
    chosen: BTreeSet<String>,
    others: BTreeMap<String, u64>,
    snapshot: Arc<dyn Snapshot>,
    clusters: Arc<Kind>,
    scores: Arc<Kind>,
    now: Timestamp,
}

fn read_scores(
    snapshot: &dyn Snapshot,
    kind: &Kind,
    (cluster, resource): (&str, &str),
) -> Option<AddOnScores> {
    let key = key_of(kind, &ClusterName::root(), cluster, resource);
    let object = snapshot.get(&key)?.object.value().ok()?;
    AddOnScores::deserialize(object.get("status")?).ok()
}

impl World for Seen {
    fn chosen(&self) -> &BTreeSet<String> {
        &self.chosen
    }

    fn others(&self) -> &BTreeMap<String, u64> {
        &self.others
    }

    fn scores(&self, resource: &str, cluster: &str) -> Option<AddOnScores> {
        read_scores(&*self.snapshot, &self.scores, (cluster, resource))
    }

    fn scores_of(&self, cluster: &str) -> ScoreSource {
        let (snapshot, kind) = (self.snapshot.clone(), self.scores.clone());
        let cluster = cluster.to_owned();
        Box::new(move |resource| read_scores(&*snapshot, &kind, (cluster.as_str(), resource)))
    }

    fn object(&self, cluster: &str) -> Option<Arc<Value>> {
        let key = key_of(&self.clusters, &ClusterName::root(), "", cluster);
        self.snapshot.get(&key)?.object.value().ok().map(Arc::new)
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

impl Placements {
    /// Of a Placement in this place, which may not be stored yet.
    pub(super) fn observe(
        &self,
        (namespace, name): (&str, &str),
        stored: Option<&Stored>,
        object: &Value,
    ) -> Result<Observed, Error> {
        let placement =
            Placement::read(object).map_err(|error| Error::Refused(error.to_string()))?;
        let snapshot = self.client.snapshot();
        let bound = self.bound_sets(namespace, &*snapshot);
        let bindings = bound.len();
        let asked = &placement.cluster_sets;
        let eligible: Vec<ClusterSet> =
            bound.into_iter().filter(|set| asked.is_empty() || asked.contains(&set.name)).collect();
        let mut all: BTreeMap<String, Arc<ClusterEntry>> = BTreeMap::new();
        for set in &eligible {
            let found = members(&self.indexes, set).into_iter();
            all.extend(found.map(|it| (it.stored.key.name.to_string(), it)));
        }
        all.retain(|_, cluster| !cluster.stored.object.header.deleting);
        let (chosen, others) = self.decided_before((namespace, name), stored);
        let (clusters, scores) = (self.clusters.clone(), self.scores.clone());
        let now = self.client.clock.now();
        Ok(Observed {
            placement,
            bindings,
            eligible: eligible.into_iter().map(|set| set.name).collect(),
            members: all.into_values().collect(),
            seen: Seen { chosen, others, snapshot, clusters, scores, now },
        })
    }

    /// Sets that a namespace is bound to, and that are there, by name.
    fn bound_sets(&self, namespace: &str, snapshot: &dyn Snapshot) -> Vec<ClusterSet> {
        let root = ClusterName::root();
        let bindings = snapshot.range(&in_namespace(&self.bindings, &root, namespace), None);
        let set = |binding: Arc<Stored>| {
            let set = snapshot.get(&key_of(&self.sets, &root, "", &binding.key.name))?;
            Some(ClusterSet::read(&set.object.value().ok()?))
        };
        bindings.filter_map(set).collect()
    }

    /// Who was chosen before, and how many decisions of other Placements each cluster has.
    fn decided_before(
        &self,
        own: (&str, &str),
        stored: Option<&Stored>,
    ) -> (BTreeSet<String>, BTreeMap<String, u64>) {
        let (mut chosen, mut others) = (BTreeSet::new(), BTreeMap::new());
        for decision in self.indexes.decisions.find(IndexTerm::Any) {
            // Also of one that had this name before, as long as they are there: who is silent keeps its place.
            if stored.is_some_and(|it| decision.is_of(it)) || decision.placement() == own {
                chosen.extend(decision.clusters().iter().cloned());
                continue;
            }
            for cluster in decision.clusters() {
                *others.entry(cluster.clone()).or_default() += 1;
            }
        }
        (chosen, others)
    }

    /// The decisions of a Placement as they are.
    pub(super) fn decisions_of(&self, placement: &Stored) -> Vec<Arc<Stored>> {
        let (namespace, name) = (&*placement.key.namespace, &*placement.key.name);
        let root = ClusterName::root();
        let term = IndexTerm::Label(&root, namespace, PLACEMENT_LABEL, name);
        let found = self.indexes.decisions.find(term).into_iter();
        found.filter(|it| it.is_of(placement)).map(|it| it.stored.clone()).collect()
    }
}

impl Observed {
    /// Expressions take their time, and so does a choice from many: they are made where nobody waits for that.
    pub(super) async fn decide(self) -> Result<Decided, Error> {
        let asks = |it: &freewheel_hub_fleet::placement::Predicate| {
            !it.required_cluster_selector.cel_selector.cel_expressions.is_empty()
        };
        if self.members.len() <= INLINE_CLUSTERS_MAX && !self.placement.predicates.iter().any(asks)
        {
            return Ok(self.decide_now());
        }
        let decided = tokio::task::spawn_blocking(move || self.decide_now()).await;
        decided.map_err(|error| Error::Refused(format!("cannot decide: {error}")))
    }

    /// The same, and why others are not chosen, by the reason.
    pub(super) async fn explain(self) -> Result<(Decided, BTreeMap<Refusal, Vec<String>>), Error> {
        let explain = move || {
            let decided = self.decide_now();
            let clusters: Vec<&Cluster> = self.members.iter().map(|it| it.facts()).collect();
            let refused = refusals(&self.placement, &clusters, &self.seen, &decided.schedule);
            (decided, refused)
        };
        let explained = tokio::task::spawn_blocking(explain).await;
        explained.map_err(|error| Error::Refused(format!("cannot decide: {error}")))
    }

    fn decide_now(&self) -> Decided {
        let clusters: Vec<&Cluster> = self.members.iter().map(|it| it.facts()).collect();
        let mut schedule = schedule(&self.placement, &clusters, &self.seen);
        let of = clusters.iter().map(|cluster| (&*cluster.name, *cluster)).collect();
        let groups = match groups(&self.placement, &schedule.chosen, &of) {
            Ok(groups) => groups,
            Err(why) => {
                schedule = Schedule { misconfigured: Some(why), ..Schedule::default() };
                vec![Group::default()]
            }
        };
        let offer = Offer {
            bindings: self.bindings,
            asked: &self.placement.cluster_sets,
            eligible: &self.eligible,
            clusters: clusters.len(),
        };
        Decided {
            satisfied: satisfaction::satisfied(&offer, &schedule),
            misconfigured: satisfaction::misconfigured(&schedule),
            rate: self.placement.score_rate_limit.clone(),
            schedule,
            groups,
        }
    }
}
