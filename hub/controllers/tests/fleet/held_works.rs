//! ManifestWorks that something holds up: a slow disk, an object that does not go.

use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Kind, Strategy};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Operation, Snapshot, Store, Txn};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::hub::{Hub, condition, get, list};
use super::works::{map, value, work, work_of};

/// A store in which what these clusters are to have takes long.
struct Slow {
    below: MemoryStore,
    clusters: &'static [&'static str],
    each: Duration,
}

impl Slow {
    fn in_clusters(clusters: &'static [&'static str], each: Duration) -> Self {
        Self { below: MemoryStore::with_incarnation(1), clusters, each }
    }
}

#[async_trait]
impl Layer for Slow {
    fn below(&self) -> &dyn Store {
        &self.below
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let slow = |operation: &Operation| {
            let key = operation.key();
            matches!(operation, Operation::Put(..))
                && self.clusters.contains(&key.cluster.as_str())
                && key.name.starts_with("map-")
        };
        if txn.operations.iter().any(slow) {
            tokio::time::sleep(self.each).await;
        }
        self.below.commit(txn).await
    }
}

/// A hub over this store whose clusters' namespaces stand.
async fn hub_over(store: impl Store, spokes: &'static [&'static str]) -> Hub {
    let hub = Hub::over(store, spokes).await;
    hub.eventually("namespaces stand", |s| {
        spokes.iter().all(|spoke| {
            get(s, "root", "serviceaccounts", spoke, "default").is_some()
                && get(s, spoke, "serviceaccounts", "default", "default").is_some()
        })
    })
    .await;
    hub
}

/// A store that does not let `a-stuck` go.
struct Stuck(MemoryStore);

#[async_trait]
impl Layer for Stuck {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let stuck = |operation: &Operation| matches!(operation, Operation::Delete(key) if &*key.name == "a-stuck");
        if txn.operations.iter().any(stuck) {
            return Err(CommitError::Unavailable("it is stuck".to_owned()));
        }
        self.0.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_told_and_holds_up_nothing_else() {
    let hub = hub_over(Stuck(MemoryStore::with_incarnation(1)), &["pi-1"]).await;
    let all = ["a-stuck", "b", "c"].map(|name| map(name, "1"));
    hub.create("root", "manifestworks", "pi-1", work("w", &all, json!({}))).await;
    hub.eventually("they are applied", |s| {
        condition(&work_of(s, "pi-1", "w"), "Applied") == "True"
    })
    .await;
    hub.change("root", "manifestworks", "pi-1", "w", |it| {
        it["spec"]["workload"]["manifests"] = json!([map("c", "1")]);
    })
    .await;
    hub.eventually("the one that it names no more goes", |s| value(s, "b").is_null()).await;
    hub.eventually("its status goes on, and tells of the other", |s| {
        let work = work_of(s, "pi-1", "w");
        let applied = &work["status"]["conditions"][0];
        applied["type"] == "Applied"
            && applied["status"] == "True"
            && applied["observedGeneration"] == 2
            && applied["message"].as_str().is_some_and(|it| it.contains("it is stuck"))
    })
    .await;
    hub.delete("manifestworks", "pi-1", "w", Propagation::Background).await;
    hub.eventually("all go that can, and it says why it waits", |s| {
        let conditions = work_of(s, "pi-1", "w")["status"]["conditions"].to_string();
        value(s, "c").is_null() && value(s, "a-stuck") == "1" && conditions.contains("it is stuck")
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_long_round_has_applied_goes_with_the_rest() {
    let slow = Slow::in_clusters(&["pi-1"], Duration::from_millis(900));
    let hub = hub_over(slow, &["pi-1"]).await;
    let all: Vec<Value> = (0..10).map(|n| map(&format!("map-{n}"), "1")).collect();
    let first_is_there = async |works: &[&str]| {
        for name in works {
            let all = work(name, &all, json!({}));
            hub.create("root", "manifestworks", "pi-1", all).await;
        }
        hub.eventually("the first is there", |s| value(s, "map-0") == "1").await;
    };
    let all_are_gone = |s: &dyn Snapshot| (0..10).all(|n| value(s, &format!("map-{n}")).is_null());
    first_is_there(&["a"]).await;
    hub.change("root", "manifestworks", "pi-1", "a", |it| {
        it["spec"]["workload"]["manifests"] = json!([map("other", "1")]);
    })
    .await;
    hub.eventually("what an edit names no more goes", |s| {
        value(s, "other") == "1"
            && condition(&work_of(s, "pi-1", "a"), "Applied") == "True"
            && all_are_gone(s)
    })
    .await;
    first_is_there(&["b"]).await;
    hub.delete("manifestworks", "pi-1", "b", Propagation::Background).await;
    hub.eventually("it goes", |s| work_of(s, "pi-1", "b").is_null()).await;
    assert!(all_are_gone(&*hub.snapshot()), "it goes after what it owns");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_work_that_is_made_anew_begins_anew() {
    let slow = Slow::in_clusters(&["pi-1"], Duration::from_millis(900));
    let hub = hub_over(slow, &["pi-1"]).await;
    let maps: Vec<Value> = (0..6).map(|n| map(&format!("map-{n}"), "1")).collect();
    for _ in 0..3 {
        hub.create("root", "manifestworks", "pi-1", work("a", &maps, json!({}))).await;
        hub.eventually("some are there", |s| value(s, "map-1") == "1").await;
        // What it owns is not looked at again, by whoever takes its name.
        hub.change("root", "manifestworks", "pi-1", "a", |it| {
            it["metadata"]["finalizers"] = json!([]);
        })
        .await;
        hub.delete("manifestworks", "pi-1", "a", Propagation::Background).await;
        for n in 0..6 {
            if !value(&*hub.snapshot(), &format!("map-{n}")).is_null() {
                hub.delete_in("pi-1", "configmaps", "default", &format!("map-{n}")).await;
            }
        }
    }
    hub.create("root", "manifestworks", "pi-1", work("a", &maps, json!({}))).await;
    hub.eventually("it is applied", |s| condition(&work_of(s, "pi-1", "a"), "Applied") == "True")
        .await;
    for n in 0..6 {
        assert_eq!(value(&*hub.snapshot(), &format!("map-{n}")), "1", "{n}");
    }
    hub.stop().await;
}

/// Nothing is special about it.
struct Plain;

impl Strategy for Plain {}

#[tokio::test(start_paused = true)]
async fn a_work_that_waits_for_a_kind_is_applied_as_soon_as_it_is_there() {
    let hub = hub_over(MemoryStore::with_incarnation(1), &["pi-1"]).await;
    let widget =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    hub.create("root", "manifestworks", "pi-1", work("a", &[widget], json!({}))).await;
    hub.eventually("it waits", |s| condition(&work_of(s, "pi-1", "a"), "Applied") == "False").await;
    tokio::time::sleep(Duration::from_mins(20)).await;
    let cluster = ClusterName::try_from("pi-1").unwrap();
    let kind = Kind::new(Gvk::new("example.com", "v1", "Widget"), "widgets", Plain);
    hub.objects.kinds().add(&cluster, kind.cluster_scoped()).unwrap();
    let began = tokio::time::Instant::now();
    hub.eventually("it is applied", |s| condition(&work_of(s, "pi-1", "a"), "Applied") == "True")
        .await;
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn works_of_some_clusters_hold_up_no_other() {
    const SLOW: [&str; 6] = ["pi-1", "pi-2", "pi-3", "pi-4", "pi-5", "pi-6"];
    let slow = Slow::in_clusters(&SLOW, Duration::from_secs(30));
    let hub = hub_over(slow, &["pi-1", "pi-2", "pi-3", "pi-4", "pi-5", "pi-6", "pi-7"]).await;
    for spoke in SLOW {
        for of in 0..3 {
            let one = work(&format!("w-{of}"), &[map(&format!("map-{of}"), "1")], json!({}));
            hub.create("root", "manifestworks", spoke, one).await;
        }
    }
    hub.eventually("they are at it", |s| {
        let begun = SLOW.iter().map(|spoke| list(s, spoke, "appliedmanifestworks", "").len());
        10 <= begun.sum::<usize>()
    })
    .await;
    let began = tokio::time::Instant::now();
    hub.create("root", "manifestworks", "pi-7", work("one", &[map("one", "1")], json!({}))).await;
    hub.eventually("another cluster has what it asks for", |s| {
        condition(&work_of(s, "pi-7", "one"), "Applied") == "True"
    })
    .await;
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn works_of_one_cluster_hold_up_no_other() {
    // As many works as could take all workers.
    const MANY: usize = 70;
    let slow = Slow::in_clusters(&["pi-1"], Duration::from_secs(6));
    let hub = hub_over(slow, &["pi-1", "pi-2"]).await;
    for of in 0..MANY {
        let one = work(&format!("many-{of}"), &[map(&format!("map-{of}"), "1")], json!({}));
        hub.create("root", "manifestworks", "pi-1", one).await;
    }
    hub.eventually("they are at it", |s| !list(s, "pi-1", "appliedmanifestworks", "").is_empty())
        .await;
    let began = tokio::time::Instant::now();
    hub.create("root", "manifestworks", "pi-2", work("one", &[map("one", "1")], json!({}))).await;
    hub.eventually("the other cluster has what it asks for", |s| {
        condition(&work_of(s, "pi-2", "one"), "Applied") == "True"
    })
    .await;
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    hub.eventually("all of them come to their end", |s| {
        (0..MANY).all(|of| {
            condition(&work_of(s, "pi-1", &format!("many-{of}")), "Applied") == "True"
                && value(s, &format!("map-{of}")) == "1"
        })
    })
    .await;
    hub.stop().await;
}
