//! A ManagedCluster that is deleted and made anew between the gateway's look at it and what it writes for it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use freewheel_link::report::EventV1;

use crate::support::*;

/// The next one of the name, from this revision on.
#[derive(Default)]
struct Swap {
    /// Before the write of this kind that comes after so many others of it.
    before: Mutex<Option<(&'static str, usize)>>,
    done: AtomicU64,
}

struct Remade(MemoryStore, Arc<Swap>);

impl Remade {
    fn is_due(&self, txn: &Txn) -> bool {
        let of = |plural: &str| {
            let is_it =
                |one: &Operation| one.key().resource.as_str().split('.').next() == Some(plural);
            txn.operations.iter().any(is_it)
        };
        let mut before = self.1.before.lock().unwrap();
        match &mut *before {
            Some((plural, 0)) if of(plural) => before.take().is_some(),
            Some((plural, rest)) if of(plural) => {
                *rest -= 1;
                false
            }
            _ => false,
        }
    }

    async fn swap(&self) {
        let key = place(CLUSTERS, "", "pi-7").key();
        let mut value = self.0.snapshot().get(&key).unwrap().object.value().unwrap();
        value["metadata"]["uid"] = json!("the next one");
        let object = Object::from_value(value, BTreeMap::new()).unwrap();
        // Another object of that name is one that was made after the other had gone.
        let gone = vec![Operation::Delete(key.clone())];
        self.0.commit(Txn { expect: Vec::new(), operations: gone }).await.unwrap();
        let operations = vec![Operation::Put(key, object)];
        let swapped = self.0.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        self.1.done.store(swapped.revision, Ordering::SeqCst);
    }
}

#[async_trait]
impl Layer for Remade {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        if self.is_due(&txn) {
            self.swap().await;
        }
        self.0.commit(txn).await
    }
}

fn reports(uid: &str) -> [Report; 2] {
    let status = PodStatusV1 {
        realm: ClusterName::root(),
        namespace: "default".into(),
        name: "web".into(),
        uid: uid.into(),
        phase: PhaseV1::Running,
        ip: None,
        started: None,
        reason: String::new(),
        message: String::new(),
        conditions: Vec::new(),
        init: Vec::new(),
        containers: Vec::new(),
        parts: Parts::default(),
    };
    let event = EventV1 {
        realm: ClusterName::root(),
        namespace: "default".into(),
        pod: "web".into(),
        uid: uid.into(),
        field_path: String::new(),
        warning: false,
        reason: "Started".into(),
        message: "m".into(),
        at: 1_790_000_000_000,
    };
    [Report::Pod(status), Report::Event(event)]
}

/// All that a device does, until it is sent away.
async fn live(hub: &Hub) {
    let Ok(accepted) = hub.join(&Device::new(), "pi-7", TOKEN).await else { return };
    let uid = hub.get(PODS, "default", "web").await["metadata"]["uid"].clone();
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(accepted.certificate)));
    let (mut send, mut recv) = greet(&*link, hello("pi-7")).await;
    for (sequence, report) in (1..).zip(reports(uid.as_str().unwrap())) {
        let stamp = ReportStamp { boot_epoch: 1, sequence };
        let _ = frame::write(&mut send, &SpokeToHub::Report { stamp, report }).await;
    }
    let mut set = RecordSet::default();
    while let Ok(Some(message)) = recv.next::<HubToSpoke>().await {
        let HubToSpoke::Plan(plan) = message else { continue };
        plan.remove.iter().for_each(|key| set.remove(key));
        plan.put.iter().for_each(|record| set.put(record.clone()));
        let took = SpokeToHub::Took { generation: plan.to, digest: set.digest() };
        let _ = frame::write(&mut send, &took).await;
    }
}

/// What was written after this revision, but for the ends of sessions that are the old one's own.
fn written_after(hub: &Hub, swapped: u64) -> Vec<String> {
    let snapshot = hub.objects.store().snapshot();
    let kinds = kinds::all().iter().map(|kind| kind.storage().clone());
    let own = [internal::sessions(), internal::pod_cidrs()];
    let mut found = Vec::new();
    for resource in kinds.chain(own) {
        let all = Scope { resource, cluster: None, namespace: None };
        for stored in snapshot.range(&all, None).filter(|stored| swapped < stored.revision) {
            let ended = SessionRecord::read(&stored).is_some_and(|session| !session.connected);
            if !(ended && stored.key.resource == internal::sessions()) {
                found.push(format!("{} {}", stored.key.resource, stored.key.name));
            }
        }
    }
    found
}

async fn check(plural: &'static str, after: usize) {
    let swap = Arc::new(Swap::default());
    let store = Remade(MemoryStore::with_incarnation(7), swap.clone());
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    *swap.before.lock().unwrap() = Some((plural, after));
    let ended = tokio::time::timeout(Duration::from_secs(30), live(&hub)).await;
    let swapped = swap.done.load(Ordering::SeqCst);
    assert!(ended.is_ok() && 0 < swapped, "{plural} {after}: it was not sent away");
    eventually("the session is over", || hub.gateway.connected().is_empty()).await;
    assert_eq!(written_after(&hub, swapped), [""; 0], "{plural} {after}");
    hub.stop.cancel();
}

#[tokio::test]
async fn nothing_is_written_for_a_spoke_whose_cluster_was_remade_just_before() {
    // Its request is made, approved and answered.
    for after in 0..3 {
        check("certificatesigningrequests", after).await;
    }
    // Made by what is first said of the device, then labelled.
    for after in 0..2 {
        check("nodes", after).await;
    }
    for plural in ["sessions", "podcidrs", "pods", "events"] {
        check(plural, 0).await;
    }
}
