//! What a session reads of the store does not grow with the fleet, and one that waits takes little memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use freewheel_hub_schema::object::Resource;
use freewheel_hub_store::StoredBytes;

use crate::support::*;

/// A store that counts the objects that are walked over in ranges.
struct Counting {
    inner: MemoryStore,
    walked: Arc<AtomicUsize>,
}

struct Counted {
    inner: Arc<dyn Snapshot>,
    walked: Arc<AtomicUsize>,
}

impl Layer for Counting {
    fn below(&self) -> &dyn Store {
        &self.inner
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(Counted { inner: self.inner.snapshot(), walked: self.walked.clone() })
    }
}

impl Snapshot for Counted {
    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.inner.get(key)
    }

    fn range<'a>(
        &'a self,
        scope: &Scope,
        after: Option<&Key>,
    ) -> Box<dyn Iterator<Item = Arc<Stored>> + Send + 'a> {
        let count = |_: &Arc<Stored>| {
            self.walked.fetch_add(1, Ordering::Relaxed);
        };
        Box::new(self.inner.range(scope, after).inspect(count))
    }

    fn stored_bytes(&self) -> StoredBytes {
        self.inner.stored_bytes()
    }
}

/// How much is walked over while a spoke takes two pods in and gives them back, in a fleet of this size.
async fn walked(others: usize) -> usize {
    let walked = Arc::new(AtomicUsize::new(0));
    let store = Counting { inner: MemoryStore::with_incarnation(7), walked: walked.clone() };
    let hub = Hub::over(Arc::new(store), true, None).await;
    for index in 0..others {
        let name = format!("other-{index}");
        hub.create(PODS, "default", &name, pod(&name, &format!("node-{index}"))).await;
        hub.lease(&format!("10.64.{index}.0"), &format!("node-{index}")).await;
    }
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    walked.store(0, Ordering::Relaxed);
    for name in ["one", "two"] {
        hub.create(PODS, "default", name, pod(name, "pi-7")).await;
    }
    holder.settle(&mut session).await;
    for (name, sequence) in [("one", 1), ("two", 2)] {
        let uid = hub.get(PODS, "default", name).await["metadata"]["uid"].clone();
        let uid = uid.as_str().unwrap().to_owned();
        let place = place(PODS, "default", name);
        hub.objects
            .delete(&WriteOptions::default(), &place, &DeleteOptions::default())
            .await
            .unwrap();
        let stamp = ReportStamp { boot_epoch: 1, sequence };
        let report = Report::PodGone { realm: ClusterName::root(), uid };
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
        while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp) {}
        assert!(hub.objects.get(&place).is_err(), "{name} is gone");
    }
    holder.settle(&mut session).await;
    hub.stop.cancel();
    walked.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_spokes_pods_come_and_go_at_the_same_cost_in_a_larger_fleet() {
    let (small, large) = (walked(2).await, walked(200).await);
    assert!(
        large <= small,
        "{small} objects were walked over in a small fleet, {large} in a large one"
    );
}

#[tokio::test]
async fn an_event_costs_no_walk_over_all_that_is_named_like_its_pod() {
    for (others, told) in [(500, 1), (3_000, 0)] {
        let walked = Arc::new(AtomicUsize::new(0));
        let store = Counting { inner: MemoryStore::with_incarnation(7), walked: walked.clone() };
        let hub = Hub::over(Arc::new(store), true, None).await;
        hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
        let web = hub.get(PODS, "default", "web").await;
        let uid = web["metadata"]["uid"].as_str().unwrap().to_owned();
        for index in 0..others {
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "reason": "Noise", "type": "Normal",
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"},
                "source": {"component": "somebody"},
            });
            hub.create(("", "v1", "events"), "default", &format!("web.{index:06}"), event).await;
        }
        hub.listen().await;
        let (_link, mut session) = hub.spoke("pi-7").await;
        Holder::default().settle(&mut session).await;
        let before = walked.load(Ordering::Relaxed);
        let stamp = ReportStamp { boot_epoch: 1, sequence: 1 };
        let report = crate::events::event("web", &uid, 1);
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
        while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp) {}
        let walked = walked.load(Ordering::Relaxed) - before;
        assert!(walked < 1_500, "{walked}");
        let events = Resource::new("", "events");
        let scope = Scope { resource: events, cluster: None, namespace: None };
        let snapshot = hub.objects.store().snapshot();
        let ours = |stored: &Arc<Stored>| stored.object.header.fields["source"] == "kubelet";
        assert_eq!(snapshot.range(&scope, None).filter(ours).count(), told);
    }
}

#[tokio::test]
async fn a_connection_has_room_for_what_it_does_and_not_for_all_that_it_could_do() {
    let hub = Hub::new(true).await;
    for protocol in [ALPN_SESSION, ALPN_JOIN] {
        let (_near, far) = memory_transport::pair();
        let serves = hub.gateway.serve_link(far, Some(protocol), &hub.stop);
        let bytes = size_of_val(&serves);
        assert!(bytes <= 1024, "{bytes} bytes for as long as it lasts");
    }
}
