//! Ranges of addresses that a spoke does not need any more.

use std::collections::BTreeSet;

use freewheel_hub_objects::clock::{Clock, SystemClock, SystemRandom};

use crate::support::*;

/// The ranges that somebody has leased.
fn leased(hub: &Hub) -> BTreeSet<String> {
    let scope = Scope { resource: internal::pod_cidrs(), cluster: None, namespace: None };
    let snapshot = hub.objects.store().snapshot();
    snapshot.range(&scope, None).map(|stored| stored.key.name.to_string()).collect()
}

/// The ranges that the spoke is told of.
fn told(holder: &Holder) -> BTreeSet<String> {
    let ranges = holder.set.iter().filter(|record| record.key.kind == Kind::POD_CIDR_V1);
    ranges.map(|record| record.body::<PodCidrV1>().unwrap().base.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn ranges_of_a_spoke_that_shrinks_come_back_after_it_has_let_go_of_them() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    for base in ["10.64.0.0", "10.64.1.0", "10.64.2.0"] {
        hub.lease(base, "pi-7").await;
    }
    hub.lease("10.64.3.0", "pi-8").await;
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let has_address = |mut value: Value| {
        value["status"]["podIP"] = json!("10.64.1.5");
        Ok(value)
    };
    let place = place(PODS, "default", "web");
    hub.objects
        .modify(&WriteOptions::default(), &place, Some("status"), has_address)
        .await
        .unwrap();
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let all = set(&["10.64.0.0", "10.64.1.0", "10.64.2.0", "10.64.3.0"]);
    for _ in 0..20 {
        holder.settle(&mut session).await;
        if told(&holder) == set(&["10.64.1.0"]) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    assert_eq!(told(&holder), set(&["10.64.1.0"]), "the one with its pod's address stays");
    assert_eq!(leased(&hub), all, "it may have heard of that too late for a pod");
    for _ in 0..100 {
        if leased(&hub) != all {
            break;
        }
        tokio::time::sleep(Duration::from_secs(15)).await;
        holder.settle(&mut session).await;
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(leased(&hub), set(&["10.64.1.0", "10.64.3.0"]));
}

/// How often it is told that there is no range for this node.
fn told_of_full(hub: &Hub, node: &str) -> u64 {
    let resource = freewheel_hub_schema::object::Resource::new("", "events");
    let scope = Scope { resource, cluster: None, namespace: None };
    let snapshot = hub.objects.store().snapshot();
    let events = snapshot.range(&scope, None).map(|event| event.object.value().unwrap());
    let mine = events.filter(|event| {
        event["reason"] == "CIDRNotAvailable"
            && event["involvedObject"]["kind"] == "Node"
            && event["involvedObject"]["name"] == node
    });
    mine.map(|event| event["count"].as_u64().unwrap()).sum()
}

/// A wall clock that goes with tokio's.
struct Passing(i128, tokio::time::Instant);

impl Clock for Passing {
    fn unix_nanos(&self) -> i128 {
        self.0 + i128::try_from(self.1.elapsed().as_nanos()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_network_is_told_of_at_the_node_and_asked_less_and_less_often() {
    let clock = Arc::new(Passing(SystemClock.unix_nanos(), tokio::time::Instant::now()));
    let store = Arc::new(MemoryStore::with_incarnation(7));
    let hub = Hub::of(Objects::with(store, clock, Arc::new(SystemRandom)), true, None).await;
    hub.listen().await;
    let key = |number: u32| {
        let base = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + (number << 8));
        Key::new(&internal::pod_cidrs(), &ClusterName::root(), "", &base.to_string())
    };
    let all: Vec<u32> = (0..1 << 14).collect();
    for some in all.chunks(1024) {
        let put = |number: &u32| {
            let object = Object { header: Header::default(), body: "pi-8".into() };
            Operation::Put(key(*number), object)
        };
        let operations = some.iter().map(put).collect();
        hub.objects.store().commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    assert_eq!(told(&holder), BTreeSet::new());
    eventually("it is told", || 0 < told_of_full(&hub, "pi-7")).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let times = told_of_full(&hub, "pi-7");
    assert!((5..=16).contains(&times), "{times} times in ten minutes");
    let free = vec![Operation::Delete(key(77))];
    hub.objects.store().commit(Txn { expect: Vec::new(), operations: free }).await.unwrap();
    for _ in 0..90 {
        holder.settle(&mut session).await;
        if told(&holder) == BTreeSet::from(["10.64.77.0".to_owned()]) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("no range within a minute and a half: {:?}", told(&holder));
}
