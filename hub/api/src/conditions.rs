//! Conditions in a status: which the hub writes, whose they are, and how one is put.
//!
//! Clients may say what they like through the door `status`, as with Kubernetes. This is about the hub's own writers,
//! controllers and gateway: two that say the same condition would undo each other for ever.
//!
//! Guarantees:
//! - a condition has one owner, and a spoke's word counts for its own alone (`a_condition_has_one_owner`);
//! - the time of a transition moves with the status and with nothing else
//!   (`the_time_of_a_transition_moves_with_the_status_alone`);
//! - what says the same as before is left as it is, with its times (`what_says_the_same_is_left_as_it_is`);
//! - what others say stays, in its place (`what_others_say_stays`).

mod list;
mod named;

use std::borrow::Cow;

use serde_json::{Value, json};

pub use list::{find, holds};
pub use named::NamedCondition;

use list::{Position, transition_time, upsert};

/// Who in the hub sets a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionOwner {
    /// The controllers of add-ons.
    AddOns,
    /// Whoever may approve requests, and the door at which devices join with tokens that accept.
    Approver,
    /// The controllers of sets of clusters and of what is bound to them.
    ClusterSets,
    /// The controller of CustomResourceDefinitions.
    Definitions,
    /// The deployment controller.
    Deployments,
    /// The disruption controller, and the door of evictions, which takes from what it allows.
    Disruption,
    /// The controller of FlowSchemas.
    FlowSchemas,
    /// The controller of HorizontalPodAutoscalers.
    HorizontalPodAutoscalers,
    /// Whoever ends a pod that has not asked for it: the controller of tainted nodes, and the spoke under pressure.
    /// Each says it once, as it ends the pod.
    Eviction,
    /// The Job controller.
    Jobs,
    /// The controller that empties namespaces.
    Namespaces,
    /// The controller that looks after Nodes and ManagedClusters.
    Nodes,
    /// The controller of Placements.
    Placements,
    /// The ReplicaSet controller.
    ReplicaSets,
    /// The controller of the range that Services get their addresses from.
    ServiceRanges,
    /// The scheduler, and whoever binds in its place.
    Scheduler,
    /// The controller that signs requests.
    Signer,
    /// The spoke; the gateway writes it down.
    Spoke,
    /// The controller of ManifestWorkReplicaSets.
    WorkSets,
    /// The gateway, of what it sees of links.
    Gateway,
}

/// One condition of one kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct ConditionType {
    /// Kind of the object.
    pub object: &'static str,
    /// type
    pub name: &'static str,
    /// Who sets it.
    pub owner: ConditionOwner,
    /// The field that has the time of the last write, of kinds that have one.
    written: Option<&'static str>,
    /// As upstream's controller of that kind does: a new message alone is no news, and what changed goes to the end.
    by_reason: bool,
    /// A Condition of meta/v1: it has a message even when there is nothing to say.
    always_has_message: bool,
}

const fn of(object: &'static str, name: &'static str, owner: ConditionOwner) -> ConditionType {
    let (written, by_reason, always_has_message) = (None, false, false);
    ConditionType { object, name, owner, written, by_reason, always_has_message }
}

const fn of_budget(name: &'static str) -> ConditionType {
    of_meta("PodDisruptionBudget", name, ConditionOwner::Disruption)
}

/// A Condition of meta/v1.
const fn of_meta(object: &'static str, name: &'static str, owner: ConditionOwner) -> ConditionType {
    ConditionType { always_has_message: true, ..of(object, name, owner) }
}

const fn of_add_on(name: &'static str) -> ConditionType {
    of_meta("ManagedClusterAddOn", name, ConditionOwner::AddOns)
}

const fn of_range(name: &'static str) -> ConditionType {
    let plain = of("ServiceCIDR", name, ConditionOwner::ServiceRanges);
    ConditionType { always_has_message: true, ..plain }
}

const fn of_node(name: &'static str, owner: ConditionOwner) -> ConditionType {
    ConditionType { written: Some("lastHeartbeatTime"), ..of("Node", name, owner) }
}

const fn of_request(name: &'static str, owner: ConditionOwner) -> ConditionType {
    ConditionType {
        written: Some("lastUpdateTime"),
        ..of("CertificateSigningRequest", name, owner)
    }
}

const fn of_definition(name: &'static str) -> ConditionType {
    of("CustomResourceDefinition", name, ConditionOwner::Definitions)
}

const fn of_job(name: &'static str) -> ConditionType {
    let plain = of("Job", name, ConditionOwner::Jobs);
    ConditionType { written: Some("lastProbeTime"), ..plain }
}

const fn of_autoscaler(name: &'static str) -> ConditionType {
    of("HorizontalPodAutoscaler", name, ConditionOwner::HorizontalPodAutoscalers)
}

const fn of_deployment(name: &'static str) -> ConditionType {
    let plain = of("Deployment", name, ConditionOwner::Deployments);
    ConditionType { written: Some("lastUpdateTime"), by_reason: true, ..plain }
}

macro_rules! conditions {
    ($($(#[$doc:meta])* $id:ident = $make:expr;)*) => {
        $($(#[$doc])* pub static $id: ConditionType = $make;)*
        /// All of them.
        pub static ALL: &[&ConditionType] = &[$(&$id),*];
    };
}

conditions! {
    /// It has a node. Of one that was made for its node the gateway says so, for its device.
    POD_SCHEDULED = of("Pod", "PodScheduled", ConditionOwner::Scheduler);
    /// It is to go, and why.
    POD_DISRUPTION_TARGET = of("Pod", "DisruptionTarget", ConditionOwner::Eviction);
    /// Its volumes and its address are there.
    POD_READY_TO_START = of("Pod", "PodReadyToStartContainers", ConditionOwner::Spoke);
    /// Its init containers are through.
    POD_INITIALIZED = of("Pod", "Initialized", ConditionOwner::Spoke);
    /// All of its containers are ready.
    POD_CONTAINERS_READY = of("Pod", "ContainersReady", ConditionOwner::Spoke);
    /// It takes requests. While its spoke is silent the node controller says that it does not ([`SAID_OF_SILENT`]),
    /// and the spoke says everything again when it is back.
    POD_READY = of("Pod", "Ready", ConditionOwner::Spoke);
    /// A spoke is in session and takes its plans.
    NODE_READY = of_node("Ready", ConditionOwner::Nodes);
    /// Short of memory.
    NODE_MEMORY_PRESSURE = of_node("MemoryPressure", ConditionOwner::Spoke);
    /// Short of disk.
    NODE_DISK_PRESSURE = of_node("DiskPressure", ConditionOwner::Spoke);
    /// Short of processes.
    NODE_PID_PRESSURE = of_node("PIDPressure", ConditionOwner::Spoke);
    /// It could not read its own ledger.
    NODE_LEDGER_DAMAGED = of_node("LedgerDamaged", ConditionOwner::Spoke);
    /// Its disk is read-only.
    NODE_READONLY_FILESYSTEM = of_node("ReadonlyFilesystem", ConditionOwner::Spoke);
    /// Its disk takes no writes.
    NODE_LEDGER_UNWRITABLE = of_node("LedgerUnwritable", ConditionOwner::Spoke);
    /// Its clock was never set, or is days behind.
    NODE_CLOCK_UNSYNCHRONIZED = of_node("ClockUnsynchronized", ConditionOwner::Spoke);
    /// The hub's people let it in.
    CLUSTER_ACCEPTED = of("ManagedCluster", "HubAcceptedManagedCluster", ConditionOwner::Nodes);
    /// It was here.
    CLUSTER_JOINED = of("ManagedCluster", "ManagedClusterJoined", ConditionOwner::Nodes);
    /// It is here.
    CLUSTER_AVAILABLE = of("ManagedCluster", "ManagedClusterConditionAvailable", ConditionOwner::Nodes);
    /// Its certificate ends soon, though it should have been renewed.
    CLUSTER_CERTIFICATE = of("ManagedCluster", "CertificateExpiring", ConditionOwner::Nodes);
    /// Two devices come with one identity.
    CLUSTER_DUPLICATE = of("ManagedCluster", "DuplicateIdentity", ConditionOwner::Gateway);
    /// A namespace that a set asks for is there; said of each in a list of its own.
    CLUSTER_NAMESPACE_AVAILABLE =
        of_meta("ManagedCluster", "NamespaceAvailable", ConditionOwner::ClusterSets);
    /// No cluster is in it.
    SET_EMPTY = of_meta("ManagedClusterSet", "ClusterSetEmpty", ConditionOwner::ClusterSets);
    /// The set is there.
    BINDING_BOUND = of_meta("ManagedClusterSetBinding", "Bound", ConditionOwner::ClusterSets);
    /// All that was asked for is chosen.
    PLACEMENT_SATISFIED = of_meta("Placement", "PlacementSatisfied", ConditionOwner::Placements);
    /// It cannot be acted on as it is.
    PLACEMENT_MISCONFIGURED =
        of_meta("Placement", "PlacementMisconfigured", ConditionOwner::Placements);
    /// Its placements are there, and choose somebody.
    SET_PLACEMENT_VERIFIED =
        of_meta("ManifestWorkReplicaSet", "PlacementVerified", ConditionOwner::WorkSets);
    /// Everybody has what is wanted.
    SET_ROLLED_OUT =
        of_meta("ManifestWorkReplicaSet", "PlacementRolledOut", ConditionOwner::WorkSets);
    /// Its rollout is aborted, of the template that is told: who has another one gets back the one that all had before.
    SET_ROLLOUT_ABORTED =
        of_meta("ManifestWorkReplicaSet", "RolloutAborted", ConditionOwner::WorkSets);
    /// Nobody new is given the template, for its user says so.
    SET_ROLLOUT_PAUSED =
        of_meta("ManifestWorkReplicaSet", "RolloutPaused", ConditionOwner::WorkSets);
    /// Whose turn it is waits for a maintenance window.
    SET_ROLLOUT_WAITING =
        of_meta("ManifestWorkReplicaSet", "RolloutWaiting", ConditionOwner::WorkSets);
    /// What is given is there.
    SET_WORKS_APPLIED =
        of_meta("ManifestWorkReplicaSet", "ManifestworkApplied", ConditionOwner::WorkSets);
    /// Its agent is well.
    ADD_ON_AVAILABLE = of_add_on("Available");
    /// It is to be set up by what is wanted by now.
    ADD_ON_CONFIGURED = of_add_on("Configured");
    /// It is being set up.
    ADD_ON_PROGRESSING = of_add_on("Progressing");
    /// What it is made of is on its cluster.
    ADD_ON_MANIFESTS_APPLIED = of_add_on("ManifestApplied");
    /// Its agent has the rights that it asks for.
    ADD_ON_REGISTERED = of_add_on("RegistrationApplied");
    /// Its agent has its credentials, as new as they are to be.
    ADD_ON_CERTIFICATE_ROTATED = of_add_on("ClusterCertificateRotated");
    /// What is done before it goes is done.
    ADD_ON_HOOKS_COMPLETED = of_add_on("HookManifestCompleted");
    /// Clusters of a placement are being set up.
    INSTALL_PROGRESSING =
        of_meta("ClusterManagementAddOn", "Progressing", ConditionOwner::AddOns);
    /// Its names are nobody else's.
    DEFINITION_NAMES_ACCEPTED = of_definition("NamesAccepted");
    /// Its objects are served.
    DEFINITION_ESTABLISHED = of_definition("Established");
    /// Its objects are deleted, and it goes after them.
    DEFINITION_TERMINATING = of_definition("Terminating");
    /// Kubernetes' own people have approved it.
    DEFINITION_APPROVED = of_definition("KubernetesAPIApprovalPolicyConformant");
    /// The level that it names is not there.
    SCHEMA_DANGLING = of("FlowSchema", "Dangling", ConditionOwner::FlowSchemas);
    /// Not every kind could be found.
    NAMESPACE_DISCOVERY = of("Namespace", "NamespaceDeletionDiscoveryFailure", ConditionOwner::Namespaces);
    /// Not every kind could be read.
    NAMESPACE_PARSING =
        of("Namespace", "NamespaceDeletionGroupVersionParsingFailure", ConditionOwner::Namespaces);
    /// Not everything could be deleted.
    NAMESPACE_DELETION = of("Namespace", "NamespaceDeletionContentFailure", ConditionOwner::Namespaces);
    /// Something is left.
    NAMESPACE_CONTENT = of("Namespace", "NamespaceContentRemaining", ConditionOwner::Namespaces);
    /// Something is held.
    NAMESPACE_FINALIZERS = of("Namespace", "NamespaceFinalizersRemaining", ConditionOwner::Namespaces);
    /// Addresses are given from it.
    SERVICE_RANGE_READY = of_range("Ready");
    /// It cannot make or remove its pods.
    SET_REPLICA_FAILURE = ConditionType {
        by_reason: true,
        ..of("ReplicaSet", "ReplicaFailure", ConditionOwner::ReplicaSets)
    };
    /// A pod of it may be evicted.
    BUDGET_DISRUPTION_ALLOWED = of_budget("DisruptionAllowed");
    /// Its target's scale can be read and written.
    AUTOSCALER_ABLE_TO_SCALE = of_autoscaler("AbleToScale");
    /// It can be told how many its target needs.
    AUTOSCALER_SCALING_ACTIVE = of_autoscaler("ScalingActive");
    /// It needs more or fewer than there may be.
    AUTOSCALER_SCALING_LIMITED = of_autoscaler("ScalingLimited");
    /// A rollout moves on.
    DEPLOYMENT_PROGRESSING = of_deployment("Progressing");
    /// Enough of its pods serve.
    DEPLOYMENT_AVAILABLE = of_deployment("Available");
    /// A set cannot make or remove its pods.
    DEPLOYMENT_REPLICA_FAILURE = of_deployment("ReplicaFailure");
    /// It rests.
    JOB_SUSPENDED = of_job("Suspended");
    /// Enough of it is done, and its pods end.
    JOB_SUCCESS_CRITERIA_MET = of_job("SuccessCriteriaMet");
    /// It will have failed when its pods have ended.
    JOB_FAILURE_TARGET = of_job("FailureTarget");
    /// It is done.
    JOB_COMPLETE = of_job("Complete");
    /// It has failed.
    JOB_FAILED = of_job("Failed");
    /// Somebody has said yes.
    REQUEST_APPROVED = of_request("Approved", ConditionOwner::Approver);
    /// Somebody has said no.
    REQUEST_DENIED = of_request("Denied", ConditionOwner::Approver);
    /// It cannot be signed.
    REQUEST_FAILED = of_request("Failed", ConditionOwner::Signer);
}

/// Reason of a pod's [`POD_READY`] that the hub has said in place of a spoke that is silent.
pub const SAID_OF_SILENT: &str = "NodeNotReady";

/// The condition of a Pod that a spoke may tell by this name.
#[must_use]
pub fn told_by_spoke(name: &str) -> Option<&'static ConditionType> {
    let known = ALL.iter().find(|one| one.object == "Pod" && one.name == name);
    known
        .copied()
        .filter(|one| matches!(one.owner, ConditionOwner::Spoke | ConditionOwner::Eviction))
}

impl ConditionType {
    /// The condition in an object.
    #[must_use]
    pub fn find<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        find(object.pointer("/status/conditions")?, self.name)
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self, object: &Value) -> bool {
        object.pointer("/status/conditions").is_some_and(|list| holds(list, self.name))
    }

    /// Takes it out of a list.
    pub fn remove(&self, list: &mut Value) {
        if let Some(all) = list.as_array_mut() {
            all.retain(|one| one["type"] != self.name);
        }
    }
}

/// What a condition may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl ConditionStatus {
    /// As objects have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// As objects have it.
    #[must_use]
    pub fn read(name: &str) -> Self {
        match name {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as its owner sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    /// Which.
    pub kind: &'static ConditionType,
    /// status
    pub status: ConditionStatus,
    /// reason; an empty one is left out.
    pub reason: Cow<'a, str>,
    /// message; an empty one is left out.
    pub message: Cow<'a, str>,
    /// The generation of the object that it is about, where the owner tells that.
    pub observed: Option<i64>,
    /// The time of the transition, where its owner knows better than the list.
    pub since: Option<String>,
}

impl<'a> Condition<'a> {
    /// Without a generation, and with its time from the list.
    pub fn new(
        kind: &'static ConditionType,
        status: impl Into<ConditionStatus>,
        reason: impl Into<Cow<'a, str>>,
        message: impl Into<Cow<'a, str>>,
    ) -> Self {
        let (status, reason, message) = (status.into(), reason.into(), message.into());
        Self { kind, status, reason, message, observed: None, since: None }
    }

    /// Puts it into a list, in place of what the list had of this type; whether that changed anything.
    pub fn put(&self, list: &mut Value, now: &str) -> bool {
        self.write(list, now, false)
    }

    /// Puts it on a pod, of whose conditions each tells about which generation of the pod it is.
    pub fn put_on_pod(self, pod: &mut Value, now: &str) -> bool {
        let observed = pod.pointer("/metadata/generation").and_then(Value::as_i64);
        Self { observed, ..self }.put(&mut pod["status"]["conditions"], now)
    }

    /// Puts it into a list though it may say the same: its last write is now.
    pub fn renew(&self, list: &mut Value, now: &str) {
        self.write(list, now, true);
    }

    fn write(&self, list: &mut Value, now: &str, anew: bool) -> bool {
        let position = if self.kind.by_reason { Position::Last } else { Position::Kept };
        upsert(list, self.kind.name, position, |old| {
            let is_news = anew || old.is_none_or(|old| !self.says_nothing_new(old));
            is_news.then(|| self.value(old, now))
        })
    }

    fn says_nothing_new(&self, old: &Value) -> bool {
        let text = |key: &str| old[key].as_str().unwrap_or_default();
        let same = text("status") == self.status.name() && text("reason") == self.reason;
        if self.kind.by_reason {
            return same;
        }
        same && text("message") == self.message
            && old["observedGeneration"].as_i64() == self.observed
            && self.since.as_ref().is_none_or(|since| text("lastTransitionTime") == since)
            && !text("lastTransitionTime").is_empty()
    }

    fn value(&self, old: Option<&Value>, now: &str) -> Value {
        let status = self.status.name();
        let since = self.since.as_deref().unwrap_or_else(|| transition_time(old, status, now));
        let mut new = json!({
            "type": self.kind.name, "status": status, "lastTransitionTime": since,
        });
        for (key, text) in [("reason", &self.reason), ("message", &self.message)] {
            if !text.is_empty() || (key == "message" && self.kind.always_has_message) {
                new[key] = json!(text);
            }
        }
        if let Some(observed) = self.observed {
            new["observedGeneration"] = json!(observed);
        }
        if let Some(written) = self.kind.written {
            new[written] = json!(now);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_condition_has_one_owner() {
        let all: BTreeSet<_> = ALL.iter().map(|one| (one.object, one.name)).collect();
        assert_eq!(all.len(), ALL.len());
        assert_eq!(told_by_spoke("Ready"), Some(&POD_READY));
        assert_eq!(told_by_spoke("DisruptionTarget"), Some(&POD_DISRUPTION_TARGET));
        assert_eq!(told_by_spoke("PodScheduled"), None);
        assert_eq!(told_by_spoke("MemoryPressure"), None, "that is a Node's");
        assert_eq!(told_by_spoke("example.com/gate"), None);
    }

    #[test]
    fn the_time_of_a_transition_moves_with_the_status_alone() {
        let mut list = Value::Null;
        let say = |status, reason: &'static str| Condition::new(&NODE_READY, status, reason, "m");
        assert!(say(ConditionStatus::True, "A").put(&mut list, "t1"));
        assert!(say(ConditionStatus::True, "B").put(&mut list, "t2"));
        assert_eq!(list[0]["lastTransitionTime"], "t1");
        assert_eq!(list[0]["lastHeartbeatTime"], "t2");
        assert!(say(ConditionStatus::Unknown, "B").put(&mut list, "t3"));
        assert_eq!(list[0]["lastTransitionTime"], "t3");
    }

    #[test]
    fn what_says_the_same_is_left_as_it_is() {
        let mut list = json!([]);
        let mut condition = Condition::new(&POD_SCHEDULED, false, "Unschedulable", "no node");
        condition.observed = Some(1);
        assert!(condition.put(&mut list, "t1") && !condition.put(&mut list, "t2"));
        condition.observed = Some(2);
        assert!(condition.put(&mut list, "t3"));
        assert_eq!(list[0]["lastTransitionTime"], "t1");
        condition.message = "still no node".into();
        assert!(condition.put(&mut list, "t4"), "a new message is news");
        let bound = Condition::new(&POD_SCHEDULED, true, "", "");
        bound.put(&mut list, "t5");
        let expected =
            json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "t5"}]);
        assert_eq!(list, expected);
        // A set's failure and a Deployment's say by their reason, as upstream: each try names another pod.
        let mut list = json!([]);
        let failure =
            |text: &'static str| Condition::new(&SET_REPLICA_FAILURE, true, "FailedCreate", text);
        assert!(failure("web-1").put(&mut list, "t1") && !failure("web-2").put(&mut list, "t2"));
        assert_eq!(list[0]["message"], "web-1");
        let mut list = json!([]);
        let available =
            |text: &'static str| Condition::new(&DEPLOYMENT_AVAILABLE, true, "Enough", text);
        assert!(available("one").put(&mut list, "t1") && !available("two").put(&mut list, "t2"));
        available("two").renew(&mut list, "t3");
        assert_eq!(
            (&list[0]["lastUpdateTime"], &list[0]["message"]),
            (&json!("t3"), &json!("two"))
        );
        assert_eq!(list[0]["lastTransitionTime"], "t1");
    }

    #[test]
    fn a_condition_of_meta_has_a_message() {
        let mut list = json!([]);
        let enough = Condition::new(&BUDGET_DISRUPTION_ALLOWED, true, "SufficientPods", "");
        assert!(enough.put(&mut list, "t1") && !enough.put(&mut list, "t2"));
        assert_eq!(list[0]["message"], "");
    }

    #[test]
    fn what_others_say_stays() {
        let mut list = json!([{"type": "Ready", "status": "True"}, {"type": "Theirs"}]);
        Condition::new(&POD_READY, false, "Why", "").put(&mut list, "t1");
        assert_eq!((&list[0]["reason"], &list[1]["type"]), (&json!("Why"), &json!("Theirs")));
        POD_READY.remove(&mut list);
        assert_eq!(list, json!([{"type": "Theirs"}]));
        let mut list = json!([{"type": "Progressing"}, {"type": "Available"}]);
        Condition::new(&DEPLOYMENT_PROGRESSING, true, "New", "").put(&mut list, "t1");
        assert_eq!(list[1]["type"], "Progressing", "what changed goes to the end");
    }
}
