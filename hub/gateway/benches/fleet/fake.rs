//! Spokes that hold what they are told, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};

use freewheel_link::record_set::Sealed;

use crate::support::*;

pub(crate) const SERVICES: (&str, &str, &str) = ("", "v1", "services");

pub(crate) const CONFIG_MAPS: (&str, &str, &str) = ("", "v1", "configmaps");

/// What waits in a pipe of a spoke: a larger one would be most of what is measured.
const PIPE: usize = 1024;

pub(crate) fn service(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": kind, "selector": {"app": name}, "ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

pub(crate) fn config_map(name: &str, bytes: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"k": "x".repeat(bytes)},
    })
}

/// A hub, its spokes, and how many plans those have taken.
pub(crate) struct Fleet {
    hub: Hub,
    identity: Vec<Vec<u8>>,
    links: Vec<Arc<memory_transport::MemoryTransport>>,
    taken: Arc<AtomicUsize>,
}

impl Fleet {
    /// So many devices join, pi-0 and so on.
    pub(crate) async fn join(hub: Hub, spokes: usize) -> Self {
        let mut identity = Vec::new();
        for number in 0..spokes {
            let device = Device::new();
            let joined = loop {
                match hub.join(&device, &name(number), TOKEN).await {
                    // More than ten a second of one token come back later, as devices do.
                    Err(JoinError::Refused(refused)) if refused.cause == JoinRefusal::Busy => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    joined => break joined.unwrap(),
                }
            };
            identity.push(joined.certificate);
        }
        Self { hub, identity, links: Vec::new(), taken: Arc::default() }
    }

    /// All of them come; `keep`: they keep the records, and so can take more than the first plan.
    pub(crate) async fn connect(&mut self, keep: bool) {
        for (number, identity) in self.identity.iter().enumerate() {
            let (near, far) = memory_transport::pair_of(PIPE);
            far.show_certificate(CertificateDer::from(identity.clone()));
            let (gateway, stop) = (self.hub.gateway.clone(), self.hub.stop.clone());
            tokio::spawn(async move { gateway.serve_link(far, Some(ALPN_SESSION), &stop).await });
            let session = greet(&*near, hello(&name(number))).await;
            self.links.push(near);
            tokio::spawn(take_plans(session, keep, self.taken.clone()));
        }
    }

    /// Plans that were taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Waits until so many are.
    pub(crate) async fn until_taken(&self, plans: usize) {
        let wait = async {
            while self.taken() < plans {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("plans are taken");
    }

    /// Waits until all hold what they are to hold, and nothing has moved for a while.
    pub(crate) async fn rest(&self) {
        let names: Vec<_> =
            (0..self.links.len()).map(|n| ClusterName::try_from(name(n)).unwrap()).collect();
        let mut still = 0;
        let mut before = self.taken();
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let agreed = names.iter().all(|name| self.hub.gateway.agreed(name).is_some());
            let now = self.taken();
            still = if agreed && now == before { still + 1 } else { 0 };
            before = now;
            if still == 5 {
                return;
            }
        }
        panic!("no rest in a minute");
    }

    /// One change of the root.
    pub(crate) async fn change(&self, what: &str, round: usize) {
        let hub = &self.hub;
        match what {
            "a ClusterIP Service" => {
                let name = format!("inner-{round}");
                hub.create(SERVICES, "default", &name, service(&name, "ClusterIP")).await;
            }
            "a NodePort Service" => {
                let name = format!("outer-{round}");
                hub.create(SERVICES, "default", &name, service(&name, "NodePort")).await;
            }
            "a ConfigMap that nobody names" => {
                let name = format!("unnamed-{round}");
                hub.create(CONFIG_MAPS, "default", &name, config_map(&name, 100)).await;
            }
            "a label" => {
                let label = |mut value: Value| {
                    value["metadata"]["labels"]["round"] = json!(round.to_string());
                    Ok(value)
                };
                let of = place(SERVICES, "default", "warm");
                hub.objects.modify(&WriteOptions::default(), &of, None, label).await.unwrap();
            }
            _ => drop(self.create_pod(&format!("more-{round}"), "pi-0").await),
        }
    }

    /// One more pod on this node; the bytes of its body.
    pub(crate) async fn create_pod(&self, name: &str, node: &str) -> usize {
        self.hub.create(PODS, "default", name, pod(name, node)).await;
        let of = place(PODS, "default", name);
        self.hub.objects.get(&of).unwrap().object.body.len()
    }
}

fn name(number: usize) -> String {
    format!("pi-{number}")
}

async fn take_plans(mut session: Session, keep: bool, taken: Arc<AtomicUsize>) {
    let (mut set, mut digest) = (RecordSet::default(), SetDigest::default());
    while let Ok(Some(message)) = session.1.next::<HubToSpoke>().await {
        let HubToSpoke::Plan(plan) = message else { continue };
        assert!(!plan.cut, "no record here is that large");
        if plan.snapshot && plan.part == 0 {
            (set, digest) = Default::default();
        }
        plan.remove.iter().for_each(|key| set.remove(key));
        for record in plan.put {
            if keep {
                set.put(record);
            } else {
                digest.add(Sealed::from(record).digest());
            }
        }
        if plan.more {
            continue;
        }
        let digest = if keep { set.digest() } else { digest };
        let took = SpokeToHub::Took { generation: plan.to, digest };
        if frame::write(&mut session.0, &took).await.is_err() {
            return;
        }
        taken.fetch_add(1, Ordering::SeqCst);
    }
}
