//! A Placement and the world that it is decided in, and what is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_fleet::asked_scores::ScoreSource;
use freewheel_hub_fleet::decisions::{groups, slices};
use freewheel_hub_fleet::prioritizer::AddOnScores;
use freewheel_hub_fleet::satisfaction::{Offer, misconfigured, satisfied};
use freewheel_hub_fleet::{Cluster, ClusterSet, Placement, Schedule, World, schedule};
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

/// What is asked.
#[derive(Clone)]
pub struct Asked {
    pub placement: Placement,
    pub clusters: Vec<Cluster>,
    pub world: Told,
    /// Names of the sets that the namespace is bound to.
    bound: BTreeSet<String>,
    sets: Vec<ClusterSet>,
}

/// What it is decided from.
#[derive(Clone)]
pub struct Told {
    chosen: BTreeSet<String>,
    others: BTreeMap<String, u64>,
    scores: BTreeMap<(String, String), AddOnScores>,
    objects: BTreeMap<String, Arc<Value>>,
    now: Timestamp,
    /// Expressions are told what is out of date, too.
    pub tells_old_scores: bool,
}

/// What is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    pub scores: BTreeMap<String, i64>,
    /// Name, number of the group, its name, and its clusters of each PlacementDecision.
    pub decisions: Vec<(String, String, String, Vec<String>)>,
    pub selected: usize,
    pub satisfied: (bool, String, String),
    pub misconfigured: (bool, String, String),
    pub warned: bool,
    /// Groups were asked for that are none.
    pub groups_failed: bool,
}

impl World for Told {
    fn chosen(&self) -> &BTreeSet<String> {
        &self.chosen
    }

    fn others(&self) -> &BTreeMap<String, u64> {
        &self.others
    }

    fn scores(&self, resource: &str, cluster: &str) -> Option<AddOnScores> {
        self.scores.get(&(cluster.to_owned(), resource.to_owned())).cloned()
    }

    fn scores_of(&self, cluster: &str) -> ScoreSource {
        let (told, cluster) = (self.clone(), cluster.to_owned());
        Box::new(move |resource| {
            let mut said = told.scores(resource, &cluster)?;
            if told.tells_old_scores {
                said.valid_until = None;
            }
            Some(said)
        })
    }

    fn object(&self, cluster: &str) -> Option<Arc<Value>> {
        self.objects.get(cluster).cloned()
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

impl Asked {
    pub fn read(question: &Value) -> Self {
        let all = |key: &str| question[key].as_array().unwrap().iter();
        let cluster = |it: &Value| Cluster::read(it.to_string().as_bytes()).unwrap();
        Self {
            placement: Placement::read(&question["placement"]).unwrap(),
            clusters: all("clusters").map(cluster).collect(),
            world: Told::read(question),
            bound: BTreeSet::deserialize(&question["bound"]).unwrap(),
            sets: all("sets").map(ClusterSet::read).collect(),
        }
    }

    /// As the hub decides when it has read its store.
    pub fn decide(&self) -> Decided {
        let bound: Vec<&ClusterSet> =
            self.sets.iter().filter(|set| self.bound.contains(&set.name)).collect();
        let asked = &self.placement.cluster_sets;
        let is_eligible = |set: &&&ClusterSet| asked.is_empty() || asked.contains(&set.name);
        let eligible: Vec<&ClusterSet> = bound.iter().filter(is_eligible).copied().collect();
        let is_in = |cluster: &&Cluster| {
            !cluster.deleting && eligible.iter().any(|set| set.selector().matches(&cluster.labels))
        };
        let members: Vec<&Cluster> = self.clusters.iter().filter(is_in).collect();
        let mut schedule = schedule(&self.placement, &members, &self.world);
        let of = members.iter().map(|cluster| (&*cluster.name, *cluster)).collect();
        let groups = groups(&self.placement, &schedule.chosen, &of);
        let groups_failed = groups.is_err();
        let groups = groups.unwrap_or_else(|why| {
            schedule = Schedule { misconfigured: Some(why), ..Schedule::default() };
            Vec::new()
        });
        let names: BTreeSet<String> = eligible.iter().map(|set| set.name.clone()).collect();
        let names = Vec::from_iter(names);
        let offer =
            Offer { bindings: bound.len(), asked, eligible: &names, clusters: members.len() };
        let words = |said: (bool, &str, String)| (said.0, said.1.to_owned(), said.2);
        let slice = |it: freewheel_hub_fleet::decisions::Slice<'_>| {
            let clusters = it.clusters.iter().map(|one| one.name.clone()).collect();
            (it.name, it.group_index.to_string(), it.group_name.to_owned(), clusters)
        };
        Decided {
            warned: schedule.warning.is_some(),
            selected: schedule.chosen.len(),
            satisfied: words(satisfied(&offer, &schedule)),
            misconfigured: words(misconfigured(&schedule)),
            scores: schedule.scores,
            decisions: slices("web", &groups).into_iter().map(slice).collect(),
            groups_failed,
        }
    }
}

impl Told {
    fn read(question: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = |key: &str| question[key].as_array().unwrap().iter();
        let (mut chosen, mut others) = (BTreeSet::new(), BTreeMap::new());
        for decision in all("decisions") {
            let own = decision["namespace"] == "site" && decision["placement"] == "web";
            for cluster in decision["clusters"].as_array().unwrap() {
                if own {
                    chosen.insert(text(cluster));
                } else {
                    *others.entry(text(cluster)).or_default() += 1;
                }
            }
        }
        let scores = all("scores").map(|it| {
            let key = (text(&it["metadata"]["namespace"]), text(&it["metadata"]["name"]));
            (key, AddOnScores::deserialize(&it["status"]).unwrap())
        });
        let objects = all("clusters").map(|it| (text(&it["metadata"]["name"]), it.clone().into()));
        let now = question["now"].as_str().unwrap().parse().unwrap();
        Self {
            chosen,
            others,
            scores: scores.collect(),
            objects: objects.collect(),
            now,
            tells_old_scores: false,
        }
    }
}
