//! What an add-on costs that is on many clusters, counted in objects that are read.
//!
//! `FREEWHEEL_CLUSTERS=1000` has that many; the costs are held against those on a tenth of them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a broken fixture fails its test")]

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_controllers::engine::{self, Client, Controller};
use freewheel_hub_controllers::events::Recorder;
use freewheel_hub_controllers::fleet::{AddOnFeatures, AddOnInstances, AddOns};
use freewheel_hub_controllers::index::Indexes;
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions};
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::add_ons::{GROUP, add_on, by_placements, by_template, installed, template};
use super::hub::counting::{Counting, Reads};
use super::hub::{cluster, condition, get, hub_access, kind, reason};

/// The controllers of add-ons alone, and clusters that a Placement has chosen already.
struct Fleet {
    objects: Objects,
    indexes: Indexes,
    reads: Reads,
    _running: JoinSet<()>,
}

fn place(plural: &str, namespace: &str, name: &str) -> ObjectRef {
    let (namespace, name) = (namespace.into(), name.to_owned());
    ObjectRef { kind: kind(plural), cluster: cluster("root"), namespace, name }
}

fn name(number: usize) -> String {
    format!("pi-{number:05}")
}

async fn create(objects: &Objects, plural: &str, namespace: &str, mut body: Value) -> Value {
    let kind = kind(plural);
    body["apiVersion"] = json!(kind.api_version());
    body["kind"] = json!(kind.kind());
    let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let place = place(plural, namespace, &name);
    let written = objects.create(&WriteOptions::default(), &place, body).await.unwrap();
    written.stored.object.value().unwrap()
}

async fn say(objects: &Objects, place: &ObjectRef, status: &Value) {
    let change = |mut value: Value| {
        value["status"] = status.clone();
        Ok(value)
    };
    objects.modify(&WriteOptions::default(), place, Some("status"), change).await.unwrap();
}

/// Decides that all of them are chosen, as the controller of Placements does.
async fn choose(objects: &Objects, clusters: usize) {
    let placement =
        create(objects, "placements", "default", json!({"metadata": {"name": "all"}, "spec": {}}))
            .await;
    let owner = json!([{"apiVersion": placement["apiVersion"], "kind": "Placement", "name": "all",
        "uid": placement["metadata"]["uid"]}]);
    let all: Vec<usize> = (0..clusters).collect();
    let mut names = Vec::new();
    for (slice, chosen) in all.chunks(100).enumerate() {
        let decision = format!("all-decision-{}", slice + 1);
        let label = "cluster.open-cluster-management.io/placement";
        let meta = json!({"name": decision, "labels": {label: "all"}, "ownerReferences": owner});
        create(objects, "placementdecisions", "default", json!({"metadata": meta})).await;
        let chosen: Vec<Value> =
            chosen.iter().map(|it| json!({"clusterName": name(*it), "reason": ""})).collect();
        let place = place("placementdecisions", "default", &decision);
        say(objects, &place, &json!({"decisions": chosen})).await;
        names.push(decision);
    }
    let group = json!({"decisionGroupIndex": 0, "decisionGroupName": "", "decisions": names, "clusterCount": clusters});
    let status = json!({"numberOfSelectedClusters": clusters, "decisionGroups": [group]});
    say(objects, &place("placements", "default", "all"), &status).await;
}

impl Fleet {
    /// With an add-on on all of these, of which nothing is left to do.
    async fn of(clusters: usize) -> Self {
        Self::with_strays(clusters, 0).await
    }

    /// The same, where so many more are chosen which have no namespace.
    async fn with_strays(clusters: usize, strays: usize) -> Self {
        let reads = Reads::default();
        let objects = Objects::new(Arc::new(Counting::new(&reads)));
        create(&objects, "namespaces", "", json!({"metadata": {"name": "default"}})).await;
        for number in 0..clusters {
            let meta = json!({"metadata": {"name": name(number)}});
            create(&objects, "managedclusters", "", meta.clone()).await;
            create(&objects, "namespaces", "", meta).await;
        }
        for number in clusters..clusters + strays {
            create(&objects, "managedclusters", "", json!({"metadata": {"name": name(number)}}))
                .await;
        }
        choose(&objects, clusters + strays).await;
        create(&objects, "addontemplates", "", template("1")).await;
        let web = add_on(&by_placements(Value::Null), &by_template());
        create(&objects, "clustermanagementaddons", "", web).await;
        let indexes = Indexes::new(objects.store(), objects.kinds()).unwrap();
        let client = |name| Client::new(objects.clone(), name, Recorder::channel(&objects).0);
        let controllers: [Arc<dyn Controller>; 3] = [
            Arc::new(AddOns::new(client("addon-manager"), indexes.clone()).unwrap()),
            Arc::new(
                AddOnInstances::new(client("addon-agent"), indexes.clone(), hub_access()).unwrap(),
            ),
            Arc::new(AddOnFeatures::new(client("addon-feature")).unwrap()),
        ];
        let mut running = JoinSet::new();
        for controller in controllers {
            let store = objects.store().clone();
            running.spawn(engine::run(store, controller, CancellationToken::new()));
        }
        let fleet = Self { objects, indexes, reads, _running: running };
        fleet.settle().await;
        for number in [0, clusters / 2, clusters - 1] {
            let instance = installed(&*fleet.now(), &name(number)).unwrap();
            assert_eq!(condition(&instance, "Configured"), "True", "{instance}");
            assert!(fleet.work(number).is_object());
        }
        fleet
    }

    fn now(&self) -> Arc<dyn Snapshot> {
        self.objects.store().snapshot()
    }

    fn work(&self, number: usize) -> Value {
        get(&*self.now(), "root", "manifestworks", &name(number), "addon-web-deploy-0").unwrap()
    }

    /// Time is paused: it goes on when nobody has anything to do.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }

    fn seen(&self) -> u64 {
        self.reads.all() + self.indexes.entries_touched()
    }

    /// The work of the add-on is applied on one cluster.
    async fn apply(&self, number: usize) -> u64 {
        let before = self.seen();
        let generation = self.work(number)["metadata"]["generation"].clone();
        let said = ["Applied", "Available"].map(|kind| {
            json!({"type": kind, "status": "True", "reason": "It", "message": "", "observedGeneration": generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        });
        let place = place("manifestworks", &name(number), "addon-web-deploy-0");
        say(&self.objects, &place, &json!({"conditions": said})).await;
        self.settle().await;
        let instance = installed(&*self.now(), &name(number)).unwrap();
        assert_eq!(reason(&instance, "Progressing"), "Completed", "{instance}");
        self.seen() - before
    }

    /// One cluster is not heard of any more.
    async fn silence(&self, number: usize) -> u64 {
        let before = self.seen();
        let unknown = json!({"type": "ManagedClusterConditionAvailable", "status": "Unknown", "reason": "It",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let place = place("managedclusters", "", &name(number));
        say(&self.objects, &place, &json!({"conditions": [unknown]})).await;
        self.settle().await;
        let instance = installed(&*self.now(), &name(number)).unwrap();
        assert_eq!(condition(&instance, "Available"), "Unknown", "{instance}");
        self.seen() - before
    }

    /// One cluster is set up by something of its own, which then changes.
    async fn set_up(&self, number: usize) -> u64 {
        let config = json!({"metadata": {"name": "own"}, "spec": {
            "customizedVariables": [{"name": "SITE", "value": "north"}], "agentInstallNamespace": ""}});
        let cluster = name(number);
        create(&self.objects, "addondeploymentconfigs", &cluster, config).await;
        let own = json!([{"group": GROUP, "resource": "addondeploymentconfigs",
            "namespace": cluster, "name": "own"}]);
        let change = |mut value: Value| {
            value["spec"]["configs"] = own.clone();
            Ok(value)
        };
        let how = WriteOptions::default();
        let instance = place("managedclusteraddons", &cluster, "web");
        self.objects.modify(&how, &instance, None, change).await.unwrap();
        self.settle().await;
        let before = self.seen();
        let config = place("addondeploymentconfigs", &cluster, "own");
        let change = |mut value: Value| {
            value["spec"]["customizedVariables"][0]["value"] = json!("south");
            Ok(value)
        };
        self.objects.modify(&how, &config, None, change).await.unwrap();
        self.settle().await;
        let map = &self.work(number)["spec"]["workload"]["manifests"][0];
        assert_eq!(map["data"]["site"], "south", "{map}");
        self.seen() - before
    }

    /// Another add-on, which is on one cluster, is set up by something else.
    async fn change_another(&self, number: usize) -> u64 {
        let small = json!({"metadata": {"name": "small"}, "spec": {
            "installStrategy": {"type": "Manual"}, "supportedConfigs": by_template()}});
        create(&self.objects, "clustermanagementaddons", "", small).await;
        let there = json!({"metadata": {"name": "small"}, "spec": {}});
        create(&self.objects, "managedclusteraddons", &name(number), there).await;
        self.settle().await;
        let before = self.seen();
        let change = |mut value: Value| {
            value["spec"]["supportedConfigs"] = json!([]);
            Ok(value)
        };
        let place = place("clustermanagementaddons", "", "small");
        self.objects.modify(&WriteOptions::default(), &place, None, change).await.unwrap();
        self.settle().await;
        self.seen() - before
    }
}

/// Few clusters, and ten times as many. A look at each of them is found among 400 as it is among 1,000: where few cost at
/// most 1,000 objects, one more for each cluster is beyond the quarter that many may cost more. A look at one in three is
/// sure to be found among 1,000 alone.
fn few_and_many() -> [usize; 2] {
    let told = std::env::var("FREEWHEEL_CLUSTERS");
    let many: usize = told.map_or(400, |text| text.parse().expect("a number of clusters"));
    assert!(400 <= many, "FREEWHEEL_CLUSTERS={many} are too few to show a cost");
    [many / 10, many]
}

#[tokio::test(start_paused = true)]
async fn what_changes_on_a_cluster_costs_that_cluster() {
    let mut costs = Vec::new();
    for clusters in few_and_many() {
        let fleet = Fleet::of(clusters).await;
        let installed = fleet.seen() / clusters as u64;
        let one = [
            ("applied", fleet.apply(7).await),
            ("silent", fleet.silence(8).await),
            ("set up by its own", fleet.set_up(9).await),
            ("another add-on", fleet.change_another(10).await),
        ];
        costs.push((installed, one));
    }
    let [(few_installed, few), (many_installed, many)] = &costs[..] else { panic!("{costs:?}") };
    assert!(*many_installed <= few_installed * 3 / 2, "to install it, by cluster: {costs:?}");
    for ((what, few), (_, many)) in few.iter().zip(many) {
        assert!(
            *many <= few + few / 4 && *few <= 1_000,
            "{what}: {few} objects are read on few clusters, {many} on ten times as many"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_resists_costs_that_cluster() {
    let mut costs = Vec::new();
    for clusters in few_and_many() {
        let fleet = Fleet::with_strays(clusters, 1).await;
        let cost = fleet.apply(7).await;
        // Its namespace comes, and nothing else.
        let stray = name(clusters);
        assert!(installed(&*fleet.now(), &stray).is_none());
        create(&fleet.objects, "namespaces", "", json!({"metadata": {"name": stray}})).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(installed(&*fleet.now(), &stray).is_some(), "on {clusters}");
        costs.push(cost);
    }
    let [few, many] = costs[..] else { panic!("{costs:?}") };
    assert!(many <= few + few / 4 && few <= 1_000, "{costs:?}");
}
