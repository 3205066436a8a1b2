//! A plan that is larger than a spoke can hold: what stays out of it, and what its user reads.
//!
//! ```text
//! node, ranges ─▶ pods that are on the device ─▶ Services ─▶ their configuration that grew ─▶ new pods
//!                 configuration: what they have    up to half   else they keep what they have    whole, or not at all
//!
//! the cluster of the device itself: three quarters of each at most, so that a quarter is the root's whatever comes
//! ```
//!
//! Guarantees:
//! - what is left fits (`a_plan_holds_what_a_spoke_can_and_the_pod_beyond_that_reads_why`,
//!   `services_beyond_half_of_a_plan_are_left_out_largest_first`);
//! - a new pod comes whole, with all of its configuration, or not at all
//!   (`a_plan_holds_what_a_spoke_can_and_the_pod_beyond_that_reads_why`);
//! - a pod that is on the device goes on there while others' configuration grows and when its own does: what grew and
//!   has no room is what the device had before, or is left out alone
//!   (`what_grows_takes_no_room_from_pods_that_are_there`, `what_grew_and_has_no_room_stays_as_it_was`);
//! - who has the device's own cluster leaves room for the root (`the_cluster_of_a_device_leaves_room_for_the_root`);
//! - pods that have been on the device for longer stay before newer ones, so that a new pod takes no room from one that
//!   runs (`a_new_pod_takes_no_room_from_an_older_one`,
//!   `a_pod_that_has_waited_for_its_node_takes_no_room_from_one_that_is_there`); those of one second in the order in
//!   which the hub made them (`pods_of_one_second_keep_the_order_in_which_the_hub_made_them`).

use std::collections::{BTreeMap, BTreeSet};

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, PodV1, Record, RecordKey};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::config;
use super::plan::Plan;
use super::pod::config_of;
use super::refused::Fault;
use super::room::Room;
use super::source::Source;
use super::stored_object::parse;
use super::versioned::VersionedSet;

/// A pod of the plan, with the keys of all that it brings along.
struct Member {
    realm: ClusterName,
    meta: ObjectMeta,
    /// When it got its node, and the revision that created it.
    age: (Option<Time>, u64),
    /// Whether the device has it.
    there: bool,
    own: RecordKey,
    config: Vec<RecordKey>,
}

/// What fits, and what waits for room.
struct Fit<'p> {
    plan: &'p mut Plan,
    /// What the spoke was told last.
    held: &'p VersionedSet,
    room: Room,
    waiting: BTreeMap<RecordKey, Record>,
    /// Configuration of which the plan has what the spoke holds, and not what there is now.
    grown: Vec<RecordKey>,
}

/// Leaves out what does not fit into `room` bytes, for a spoke that was last told `held`.
pub(super) fn fit(
    plan: &mut Plan,
    spoke: &ClusterName,
    source: &dyn Source,
    held: &VersionedSet,
    room: usize,
) {
    if Room::new(room).holds(plan.records.values()) {
        return;
    }
    let members = members(plan, spoke, source, held);
    let of_pods =
        members.iter().flat_map(|member| std::iter::once(&member.own).chain(&member.config));
    let of_pods: BTreeSet<RecordKey> = of_pods.cloned().collect();
    let waits = |key: &RecordKey| key.kind == Kind::SERVICE_V1 || of_pods.contains(key);
    let (waiting, fixed) =
        std::mem::take(&mut plan.records).into_iter().partition(|(key, _)| waits(key));
    plan.records = fixed;
    let mut left = Room::new(room);
    plan.records.values().for_each(|record| left.fill(&record.key.realm, record.weight()));
    let (there, new): (Vec<_>, Vec<_>) = members.into_iter().partition(|member| member.there);
    let mut fit = Fit { plan, held, room: left, waiting, grown: Vec::new() };
    let there: Vec<Member> = there.into_iter().filter(|member| fit.keep(member)).collect();
    // What has to be there for a pod to be deleted, or to be told of at all, comes before any configuration.
    for member in &there {
        member.config.iter().for_each(|key| fit.keep_config(member, key));
    }
    fit.add_services(spoke);
    fit.grow();
    new.iter().for_each(|member| fit.add(member));
}

impl Fit<'_> {
    /// Keeps a pod that the device has; whether there is room.
    fn keep(&mut self, member: &Member) -> bool {
        let Some(record) = self.waiting.remove(&member.own) else { return false };
        let weight = record.weight();
        if self.room.keep(&member.realm, weight) {
            self.plan.records.insert(member.own.clone(), record);
            return true;
        }
        self.refuse_pod(member, weight);
        false
    }

    /// Keeps what a pod on the device reads: as the device has it, where that takes less.
    fn keep_config(&mut self, member: &Member, key: &RecordKey) {
        let Some(weight) = self.waiting.get(key).map(Record::weight) else { return };
        if self.plan.records.contains_key(key) || self.grown.contains(key) {
            return;
        }
        match self.held.get(key) {
            Some(before) if before.weight() < weight => {
                if self.room.keep(&key.realm, before.weight()) {
                    self.plan.records.insert(key.clone(), Record::clone(before));
                }
                self.grown.push(key.clone());
            }
            // The device has the pod without it.
            None if self.held.get(&member.own).is_some() => self.grown.push(key.clone()),
            _ if self.room.keep(&key.realm, weight) => {
                self.plan.records.extend(self.waiting.remove_entry(key));
            }
            _ => self.refuse_config(key, weight),
        }
    }

    /// What has grown comes where there is room.
    fn grow(&mut self) {
        for key in std::mem::take(&mut self.grown) {
            let Some(weight) = self.waiting.get(&key).map(Record::weight) else { continue };
            let before = self.plan.records.get(&key).map_or(0, Record::weight);
            if self.room.add(&key.realm, weight.saturating_sub(before)) {
                self.plan.records.extend(self.waiting.remove_entry(&key));
            } else {
                self.refuse_config(&key, weight);
            }
        }
    }

    /// Adds a pod with all that it reads, or nothing.
    fn add(&mut self, member: &Member) {
        let keys = std::iter::once(&member.own).chain(&member.config);
        // What is in the plan as it was before it grew is shared as it is.
        let waits = |key: &&RecordKey| {
            self.waiting.contains_key(*key) && !self.plan.records.contains_key(*key)
        };
        let keys: BTreeSet<&RecordKey> = keys.filter(waits).collect();
        let weight: usize =
            keys.iter().filter_map(|key| self.waiting.get(key)).map(Record::weight).sum();
        if self.room.add(&member.realm, weight) {
            self.plan.records.extend(keys.iter().filter_map(|key| self.waiting.remove_entry(key)));
        } else {
            self.refuse_pod(member, weight);
        }
    }

    /// Adds Services, the smallest first, up to half of the room.
    fn add_services(&mut self, spoke: &ClusterName) {
        let mut half = self.room.half();
        for realm in [spoke, &ClusterName::root()] {
            let services = self
                .waiting
                .iter()
                .filter(|(key, _)| key.kind == Kind::SERVICE_V1 && key.realm == *realm);
            let mut sizes: Vec<(usize, RecordKey)> =
                services.map(|(key, record)| (record.weight(), key.clone())).collect();
            sizes.sort();
            for (weight, key) in sizes {
                let Some(record) = self.waiting.remove(&key) else { continue };
                if weight <= half.left(realm) && self.room.add(realm, weight) {
                    half.fill(realm, weight);
                    self.plan.records.insert(key, record);
                    continue;
                }
                let message = format!(
                    "all Services together take more than the {} bytes that a device holds of them, this one {weight}",
                    half.of(realm)
                );
                self.refuse("services", &key, message);
            }
        }
    }

    fn refuse_pod(&mut self, member: &Member, weight: usize) {
        let message = format!(
            "the pod and its configuration take {weight} bytes, and {}",
            self.room.what_is_left(&member.realm)
        );
        let fault = Fault { reason: "TooLarge", message };
        self.plan.refused.push(fault.of(&member.realm, "pods", &member.meta));
    }

    fn refuse_config(&mut self, key: &RecordKey, weight: usize) {
        let resource = if key.kind == Kind::SECRET_V1 { "secrets" } else { "configmaps" };
        let but = if self.plan.records.contains_key(key) {
            "the pods that read it keep what they have"
        } else {
            "the pods that read it go on, and start no container anew without it"
        };
        let left = self.room.what_is_left(&key.realm);
        self.refuse(resource, key, format!("it takes {weight} bytes, and {left}: {but}"));
    }

    fn refuse(&mut self, resource: &'static str, key: &RecordKey, message: String) {
        let (namespace, name) = key.key.split_once('/').unwrap_or_default();
        let meta = ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        let refused = Fault { reason: "TooLarge", message }.of(&key.realm, resource, &meta);
        if !self.plan.refused.contains(&refused) {
            self.plan.refused.push(refused);
        }
    }
}

/// The pods of the plan: those that are there before new ones, of them the root's first, and then those that have been
/// there for longest.
fn members(
    plan: &Plan,
    spoke: &ClusterName,
    source: &dyn Source,
    held: &VersionedSet,
) -> Vec<Member> {
    let mut members = Vec::new();
    for realm in [&ClusterName::root(), spoke] {
        for found in source.pods(realm, spoke.as_str()) {
            let Ok(pod) = parse::<Pod>(realm, "pods", &found) else { continue };
            let age = (since(&pod), found.created);
            let started = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
            let meta = pod.metadata;
            let key = meta.uid.clone().unwrap_or_default();
            let own = RecordKey { realm: realm.clone(), kind: Kind::POD_V1, key };
            let Some(record) = plan.records.get(&own) else { continue };
            let named = record.body::<PodV1>().map(|pod| config_of(&pod)).unwrap_or_default();
            let named = named.iter();
            let config = named.map(|(kind, space, name)| config::key(realm, *kind, space, name));
            let config = config.collect();
            let there = started || held.get(&own).is_some();
            members.push(Member { realm: realm.clone(), meta, age, there, own, config });
        }
    }
    let of_tenant = |member: &Member| member.there && !member.realm.is_root();
    members
        .sort_by(|left, right| (of_tenant(left), &left.age).cmp(&(of_tenant(right), &right.age)));
    members
}

/// When a pod got its node: one that was made for it has it from the start.
fn since(pod: &Pod) -> Option<Time> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let bound = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "True")
        .and_then(|condition| condition.last_transition_time.clone());
    bound.max(pod.metadata.creation_timestamp.clone())
}
