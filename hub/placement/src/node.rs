//! A Node as placement sees it, and the numbers that stand for labels.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1;

use crate::extended::Extended;
use crate::resources::Resources;
use crate::taint::{Effect, Taint};

/// Annotation with the bits of the plan features that a spoke can do, as a decimal number. Without it
/// a Node is taken to do everything.
pub const FEATURES: &str = "freewheel.dev/features";

/// A Node, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// metadata.name, which is also the device's.
    pub name: Arc<str>,
    /// metadata.labels
    pub labels: BTreeMap<String, String>,
    /// Taints that keep pods away.
    pub hard: Vec<Taint>,
    /// Taints that pods rather avoid.
    pub soft: Vec<Taint>,
    /// spec.unschedulable
    pub unschedulable: bool,
    /// Condition Ready is True.
    pub ready: bool,
    /// Bits of the plan features.
    pub features: u64,
    /// status.allocatable
    pub allocatable: Resources,
    /// The rest of it: what only some devices have.
    pub extended: Extended,
}

impl Node {
    /// Reads a Node.
    #[must_use]
    pub fn read(node: &v1::Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let taints = spec.and_then(|s| s.taints.as_ref());
        let taints = taints.into_iter().flatten().filter_map(Taint::read);
        let (soft, hard) = taints.partition(|t| t.effect == Effect::PreferNoSchedule);
        let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
        let features = node.metadata.annotations.as_ref().and_then(|a| a.get(FEATURES));
        let allocatable = status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref()));
        Self {
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            hard,
            soft,
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or_default(),
            ready: conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True"),
            features: features.and_then(|f| f.parse().ok()).unwrap_or(u64::MAX),
            allocatable: allocatable.map(Resources::from_map).unwrap_or_default(),
            extended: allocatable.map(Extended::from_map).unwrap_or_default(),
        }
    }
}

/// Numbers for `key=value` pairs: a selector is looked up once per decision and compared as numbers
/// on every node.
#[derive(Debug, Default)]
pub struct Pairs {
    numbers: HashMap<String, HashMap<String, u32>>,
    next: u32,
}

impl Pairs {
    /// The number of a pair, if any node has it.
    #[must_use]
    pub fn find(&self, key: &str, value: &str) -> Option<u32> {
        self.numbers.get(key)?.get(value).copied()
    }

    /// The numbers of a node's labels, sorted.
    pub fn number(&mut self, labels: &BTreeMap<String, String>) -> Box<[u32]> {
        let mut all: Vec<u32> = Vec::with_capacity(labels.len());
        for (key, value) in labels {
            let values = self.numbers.entry(key.clone()).or_default();
            let number = *values.entry(value.clone()).or_insert_with(|| {
                self.next += 1;
                self.next
            });
            all.push(number);
        }
        all.sort_unstable();
        all.into()
    }
}
