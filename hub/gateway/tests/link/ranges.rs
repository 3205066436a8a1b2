//! Ranges of addresses that a spoke does not need any more.

use std::collections::BTreeSet;

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
