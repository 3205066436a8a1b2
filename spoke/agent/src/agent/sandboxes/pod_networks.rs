//! The pods' places in the network: who has which address, out of the ranges that the hub leases to this device.
//!
//! Guarantees:
//! - a pod's address is free again once its network is gone, and not before (`two_pods_never_have_one_address`); one that
//!   ended with the agent holds none (`a_pod_that_ended_with_the_agent_does_not_hold_its_address`);
//! - who finds no address waits, and is woken when there is one, because a pod has left or the hub has leased a range
//!   (`addresses_that_become_free_go_to_those_that_wait_in_their_order`,
//!   `a_new_range_is_for_those_that_wait_as_well`);
//! - an address of a range that is another device's by now is not used, nor kept
//!   (`a_pod_whose_address_is_another_devices_by_now_goes_on_with_a_new_one`,
//!   `an_address_that_was_kept_over_a_restart_is_used_only_while_it_is_this_devices`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{PodCidrV1, Protocol, ServiceV1};
use tracing::{info, warn};

use crate::addresses::{Addresses, Lease};
use crate::ledger::PodStateV1;
use crate::limits;
use crate::pods::{Pod, Sandbox};
use crate::ports::{Network, PodNetwork};
use waiting::Waiting;

mod waiting;

/// The network of each pod: its address, its place in the pod network, and who waits for one.
pub(crate) struct PodNetworks {
    network: Arc<dyn Network>,
    /// The device's own address, and the cluster's DNS domain.
    address: IpAddr,
    domain: String,
    addresses: Addresses,
    /// Addresses of pods of the last life that this one has not taken on yet.
    kept: BTreeMap<String, Lease>,
    waiting: Waiting,
}

impl PodNetworks {
    /// On a device with this address.
    pub(super) fn new(network: Arc<dyn Network>, address: IpAddr) -> Self {
        let domain = "cluster.local".to_owned();
        network.set_node(address, &domain);
        let (addresses, kept, waiting) = Default::default();
        Self { network, address, domain, addresses, kept, waiting }
    }

    /// The device has another address.
    pub(crate) fn move_to(&mut self, address: IpAddr) {
        if std::mem::replace(&mut self.address, address) != address {
            self.network.set_node(address, &self.domain);
        }
    }

    /// Names end in this.
    pub(crate) fn set_domain(&mut self, domain: String) {
        self.domain = domain;
        self.network.set_node(self.address, &self.domain);
    }

    /// Replaces or removes one Service.
    pub(crate) fn set_service(
        &self,
        realm: &ClusterName,
        (namespace, name): (&str, &str),
        service: Option<ServiceV1>,
    ) {
        self.network.set_service(realm, namespace, name, service);
    }

    /// These are the ranges of a realm now.
    pub(crate) fn set_ranges(
        &mut self,
        realm: &ClusterName,
        ranges: impl IntoIterator<Item = PodCidrV1>,
    ) {
        self.addresses.revoke_all(realm);
        for range in ranges {
            // The pod network speaks IPv4; a range of another family is for a newer agent.
            if let IpAddr::V4(base) = range.base {
                self.addresses.lease(realm, base, range.prefix);
            }
        }
    }

    /// Keeps the address of a pod of an earlier life.
    pub(super) fn keep(&mut self, state: &PodStateV1) {
        // The pod network speaks IPv4: a pod with another address is of a newer agent, and gets one of these.
        let Some(IpAddr::V4(ip)) = state.ip.filter(|_| state.done.is_none()) else { return };
        if let Some(lease) = self.addresses.hold(&state.realm, ip) {
            self.kept.insert(state.uid.clone(), lease);
        } else {
            warn!(pod = state.uid, %ip, "two pods had one address: this one gets another");
        }
    }

    /// The address that was kept for a pod.
    pub(super) fn take_kept(&mut self, uid: &str) -> Option<Lease> {
        self.kept.remove(uid)
    }

    /// A pod is gone, and this was left of its sandbox: its address is free, also one that was kept.
    pub(super) fn remove(&mut self, uid: &str, mut left: Sandbox) {
        for lease in [left.take_down(), self.kept.remove(uid)].into_iter().flatten() {
            self.addresses.release(lease);
        }
        self.waiting.forget(uid);
    }

    /// The pod that has waited longest for an address, of those for which there is one by now: it is to ask again.
    pub(crate) fn call_next(&mut self) -> Option<String> {
        self.waiting.call(|realm| self.addresses.has_free(realm))
    }

    /// Pods that have begun to wait for an address since this was last asked.
    pub(crate) fn take_new_waiters(&mut self) -> Vec<String> {
        self.waiting.take_new()
    }

    /// Puts a pod into the network; otherwise it waits for an address until it is [called](Self::call_next).
    pub(super) fn bring_up(&mut self, pod: &mut Pod) -> bool {
        let kept = pod.sandbox.ip();
        if let Some(ip) = kept.filter(|ip| self.addresses.is_foreign(&pod.realm, *ip)) {
            info!(pod = pod.spec.uid, %ip, "the address that the pod had is another device's by now");
            self.give_back(pod);
        }
        let (realm, uid) = (&pod.realm, &pod.spec.uid);
        let free = || self.waiting.lets(realm, uid).then(|| self.addresses.take(realm)).flatten();
        let Some(ip) = pod.sandbox.bring_up(free) else {
            self.waiting.wait(realm, uid);
            return false;
        };
        let ports = pod.spec.containers.iter().chain(&pod.spec.init).flat_map(|c| &c.ports);
        self.network.add_pod(PodNetwork {
            uid: pod.spec.uid.clone(),
            realm: pod.realm.clone(),
            namespace: pod.spec.namespace.clone(),
            ip,
            hostname: pod.spec.hostname.clone(),
            aliases: pod.spec.host_aliases.clone(),
            host_ports: ports
                .filter_map(|p| Some((p.host_port?, p.port, p.protocol == Protocol::Udp)))
                .collect(),
            memory_limit: limits::memory(&pod.spec),
        });
        true
    }

    /// Takes a pod out of the network.
    pub(super) fn take_down(&mut self, pod: &mut Pod) {
        self.network.remove_pod(&pod.spec.uid);
        self.give_back(pod);
    }

    /// A pod has its address no more.
    pub(super) fn give_back(&mut self, pod: &mut Pod) {
        if let Some(lease) = pod.sandbox.take_down() {
            self.addresses.release(lease);
        }
    }

    /// Looks whether the address that a pod is up with is another device's by now; whether that is news.
    pub(crate) fn strays(&self, pod: &mut Pod) -> bool {
        let ip = pod.sandbox.ip().filter(|_| pod.stays());
        let foreign = ip.is_some_and(|ip| self.addresses.is_foreign(&pod.realm, ip));
        pod.sandbox.set_stray(foreign)
    }

    /// Whether nothing is kept for pods of an earlier life, and nobody waits.
    #[cfg(test)]
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.kept.is_empty() && self.waiting.is_empty()
    }
}
