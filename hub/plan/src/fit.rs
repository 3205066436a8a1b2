//! A plan that is larger than a spoke can hold: what stays out of it, and what its user reads.
//!
//! ```text
//! node, ranges ─▶ pods that are on the device ─▶ Services ─▶ their configuration that grew ─▶ new pods
//!                 configuration: what they have    up to half   else they keep what they have    whole, or not at all
//!                 what has changed while they were away
//!                 and all of their tokens
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
//! - what a device has and what is as it was stays on it also when it comes back: what has no room since before that
//!   takes none then, and neither do new pods
//!   (`what_had_no_room_takes_none_from_others_when_a_device_comes_back`);
//! - tokens that have no room are told at their pod, which waits for them
//!   (`tokens_that_have_no_room_are_told_at_their_pod`);
//! - who has the device's own cluster leaves room for the root (`the_cluster_of_a_device_leaves_room_for_the_root`);
//! - pods that have been on the device for longer stay before newer ones, so that a new pod takes no room from one that
//!   runs (`a_new_pod_takes_no_room_from_an_older_one`,
//!   `a_pod_that_has_waited_for_its_node_takes_no_room_from_one_that_is_there`); those of one second in the order in
//!   which the hub made them (`pods_of_one_second_keep_the_order_in_which_the_hub_made_them`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, RecordKey};
use freewheel_link::record_set::{Members, Sealed};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::refused::{Fault, Refused};
use super::room::Room;
use super::versioned::VersionedSet;

/// A pod of the plan, with the keys of all that it brings along.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) realm: ClusterName,
    pub(super) namespace: String,
    pub(super) name: String,
    /// When it got its node, and the revision that created it.
    pub(super) age: (Option<Time>, u64),
    /// Whether the device has it.
    pub(super) there: bool,
    pub(super) own: RecordKey,
    pub(super) config: Box<[RecordKey]>,
}

impl Member {
    fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.own.key.clone()),
            ..ObjectMeta::default()
        }
    }

    /// Those that are there come before new ones, of them the root's first, and then those that have been there for
    /// longest.
    fn turn(&self) -> (bool, bool, &(Option<Time>, u64)) {
        (!self.there, self.there && !self.realm.is_root(), &self.age)
    }
}

/// What a spoke is known to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'p> {
    /// What it was told last in its session.
    pub(super) announced: &'p VersionedSet,
    /// What it had when that began, until it is told anything: nobody keeps the bytes for so long.
    pub(super) had: &'p Members,
}

impl Held<'_> {
    /// Whether it has a record with this key, in whatever form.
    pub(super) fn has(self, key: &RecordKey) -> bool {
        self.announced.get(key).is_some() || self.had.digest_of(key).is_some()
    }
}

/// Records by their keys.
pub(super) type Records = BTreeMap<RecordKey, Arc<Sealed>>;

/// What fits, and what waits for room.
struct Fit<'p> {
    fits: Records,
    refused: Vec<Refused>,
    held: Held<'p>,
    room: Room,
    waiting: Records,
    /// Configuration of which the plan has what the spoke holds, and not what there is now, and a pod that reads it.
    grown: Vec<(RecordKey, &'p Member)>,
    /// Configuration that the spoke has in a form of which nobody has the bytes.
    changed: Vec<(RecordKey, &'p Member)>,
    /// Tokens of pods that have none yet.
    signed: Vec<(RecordKey, &'p Member)>,
}

/// What of it fits into `room` bytes, for a spoke that has `held`, and what is left out.
pub(super) fn fit(
    records: Records,
    mut members: Vec<Member>,
    spoke: &ClusterName,
    held: Held<'_>,
    room: usize,
) -> (Records, Vec<Refused>) {
    if Room::new(room).holds(records.values().map(|record| &***record)) {
        return (records, Vec::new());
    }
    members.sort_by(|left, right| left.turn().cmp(&right.turn()));
    let of_pods =
        members.iter().flat_map(|member| std::iter::once(&member.own).chain(&member.config));
    let of_pods: BTreeSet<&RecordKey> = of_pods.collect();
    let waits = |key: &RecordKey| key.kind == Kind::SERVICE_V1 || of_pods.contains(key);
    let (waiting, fits): (Records, Records) = records.into_iter().partition(|(key, _)| waits(key));
    let mut left = Room::new(room);
    fits.values().for_each(|record| left.fill(&record.key.realm, record.weight()));
    let mut fit = Fit {
        fits,
        refused: Vec::new(),
        held,
        room: left,
        waiting,
        grown: Vec::new(),
        changed: Vec::new(),
        signed: Vec::new(),
    };
    let (there, new): (Vec<&Member>, Vec<&Member>) =
        members.iter().partition(|member| member.there);
    let there: Vec<&Member> = there.into_iter().filter(|member| fit.keep(member)).collect();
    // What has to be there for a pod to be deleted, or to be told of at all, comes before any configuration.
    for member in there {
        member.config.iter().for_each(|key| fit.keep_config(member, key));
    }
    fit.keep_changed();
    fit.keep_signed();
    fit.add_services(spoke);
    fit.grow();
    new.into_iter().for_each(|member| fit.add(member));
    (fit.fits, fit.refused)
}

impl<'p> Fit<'p> {
    /// Keeps a pod that the device has; whether there is room.
    fn keep(&mut self, member: &Member) -> bool {
        let Some(record) = self.waiting.remove(&member.own) else { return false };
        let weight = record.weight();
        if self.room.keep(&member.realm, weight) {
            self.fits.insert(member.own.clone(), record);
            return true;
        }
        self.refuse_pod(member, weight);
        false
    }

    /// Keeps what a pod on the device reads: as the device has it, where that takes less.
    fn keep_config(&mut self, member: &'p Member, key: &RecordKey) {
        let Some(record) = self.waiting.get(key) else { return };
        let (weight, digest) = (record.weight(), *record.digest());
        let mut waiting = self.grown.iter().chain(&self.changed);
        if self.fits.contains_key(key) || waiting.any(|(known, _)| known == key) {
            return;
        }
        match (self.held.announced.get(key), self.held.had.digest_of(key)) {
            (Some(before), _) if before.weight() < weight => {
                if self.room.keep(&key.realm, before.weight()) {
                    self.fits.insert(key.clone(), before.clone());
                }
                self.grown.push((key.clone(), member));
            }
            (None, Some(had)) if *had != digest => self.changed.push((key.clone(), member)),
            // The device has the pod without it. Tokens come when they are signed, and it waits for nothing else.
            (None, None) if self.held.has(&member.own) => {
                let is_tokens = key.kind == Kind::POD_TOKENS_V1;
                let later = if is_tokens { &mut self.signed } else { &mut self.grown };
                later.push((key.clone(), member));
            }
            (Some(_) | None, Some(_) | None) => self.keep_or_refuse(member, key, weight),
        }
    }

    fn keep_or_refuse(&mut self, member: &Member, key: &RecordKey, weight: usize) {
        if self.room.keep(&key.realm, weight) {
            self.fits.extend(self.waiting.remove_entry(key));
        } else {
            self.refuse_config(member, key, weight);
        }
    }

    /// What has changed while the device was away comes behind all that is as it was, the smallest first.
    fn keep_changed(&mut self) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_by_key(|(key, _)| self.waiting.get(key).map(|record| record.weight()));
        self.keep_each(changed);
    }

    /// Tokens of pods that are there come before anything that is new.
    fn keep_signed(&mut self) {
        let signed = std::mem::take(&mut self.signed);
        self.keep_each(signed);
    }

    fn keep_each(&mut self, all: Vec<(RecordKey, &'p Member)>) {
        for (key, member) in all {
            let Some(weight) = self.waiting.get(&key).map(|record| record.weight()) else {
                continue;
            };
            self.keep_or_refuse(member, &key, weight);
        }
    }

    /// What has grown comes where there is room.
    fn grow(&mut self) {
        for (key, member) in std::mem::take(&mut self.grown) {
            let Some(weight) = self.waiting.get(&key).map(|record| record.weight()) else {
                continue;
            };
            let before = self.fits.get(&key).map_or(0, |record| record.weight());
            if self.room.add(&key.realm, weight.saturating_sub(before)) {
                self.fits.extend(self.waiting.remove_entry(&key));
            } else {
                self.refuse_config(member, &key, weight);
            }
        }
    }

    /// Adds a pod with all that it reads, or nothing.
    fn add(&mut self, member: &Member) {
        let keys = std::iter::once(&member.own).chain(&member.config);
        // What is in the plan as it was before it grew is shared as it is.
        let waits =
            |key: &&RecordKey| self.waiting.contains_key(*key) && !self.fits.contains_key(*key);
        let keys: BTreeSet<&RecordKey> = keys.filter(waits).collect();
        let weight: usize =
            keys.iter().filter_map(|key| self.waiting.get(key)).map(|one| one.weight()).sum();
        if self.room.add(&member.realm, weight) {
            self.fits.extend(keys.iter().filter_map(|key| self.waiting.remove_entry(key)));
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
                    self.fits.insert(key, record);
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
        self.refused.push(fault.of(&member.realm, "pods", &member.meta()));
    }

    fn refuse_config(&mut self, member: &Member, key: &RecordKey, weight: usize) {
        let is_there = self.fits.contains_key(key);
        let left = self.room.what_is_left(&key.realm);
        if key.kind == Kind::POD_TOKENS_V1 {
            let but =
                if is_there { "it keeps those that it has" } else { "it waits for them to start" };
            let message = format!("the pod's tokens take {weight} bytes, and {left}: {but}");
            let fault = Fault { reason: "TooLarge", message };
            let refused = fault.of(&key.realm, "pods", &member.meta());
            return self.refused.push(Refused { stays: true, ..refused });
        }
        let resource = if key.kind == Kind::SECRET_V1 { "secrets" } else { "configmaps" };
        let but = if is_there {
            "the pods that read it keep what they have"
        } else {
            "the pods that read it go on, and start no container anew without it"
        };
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
        if !self.refused.contains(&refused) {
            self.refused.push(refused);
        }
    }
}
