//! Placements and their decisions.

use std::time::Duration;

use freewheel_hub_controllers::engine::{Client, Controller as _};
use freewheel_hub_controllers::events::Recorder;
use freewheel_hub_controllers::fleet::Placements;
use freewheel_hub_objects::Propagation;
use freewheel_hub_store::{Scope, Snapshot};
use serde_json::{Value, json};

use crate::hub::{Hub, condition, get, kind, list, reason};

const UNREACHABLE: &str = "cluster.open-cluster-management.io/unreachable";

fn bound(set: &str) -> Value {
    json!({"metadata": {"name": set}, "spec": {"clusterSet": set}})
}

fn placement(name: &str, spec: Value) -> Value {
    let mut placement = json!({"metadata": {"name": name}});
    placement["spec"] = spec;
    placement
}

/// Clusters that a Placement of `default` has chosen, as its decisions say.
fn chosen(s: &dyn Snapshot, name: &str) -> Vec<String> {
    let all = list(s, "root", "placementdecisions", "default");
    let of = |it: &&Value| {
        it["metadata"]["labels"]["cluster.open-cluster-management.io/placement"] == name
    };
    let lists = all
        .iter()
        .filter(of)
        .flat_map(|it| it["status"]["decisions"].as_array().into_iter().flatten());
    lists.map(|one| one["clusterName"].as_str().unwrap_or_default().to_owned()).collect()
}

fn why(s: &dyn Snapshot, name: &str) -> String {
    let placement = get(s, "root", "placements", "default", name).unwrap_or_default();
    reason(&placement, "PlacementSatisfied").to_owned()
}

/// A hub whose namespace `default` may choose from all clusters.
async fn hub(spokes: &[&str]) -> Hub {
    let hub = Hub::with_spokes(spokes).await;
    hub.create("root", "managedclustersetbindings", "default", bound("global")).await;
    hub
}

#[tokio::test(start_paused = true)]
async fn a_placement_gets_its_decisions() {
    let hub = hub(&["pi-1", "pi-2", "pi-3"]).await;
    let two = placement("two", json!({"numberOfClusters": 2}));
    hub.create("root", "placements", "default", two).await;
    hub.eventually("two are chosen", |s| chosen(s, "two") == ["pi-1", "pi-2"]).await;
    hub.eventually("that is told", |s| {
        let placement = get(s, "root", "placements", "default", "two").unwrap();
        let events = list(s, "root", "events", "default");
        let told = |reason: &str| {
            events.iter().any(|it| it["reason"] == reason && it["involvedObject"]["name"] == "two")
        };
        placement["status"]["numberOfSelectedClusters"] == 2
            && condition(&placement, "PlacementSatisfied") == "True"
            && reason(&placement, "PlacementSatisfied") == "AllDecisionsScheduled"
            && condition(&placement, "PlacementMisconfigured") == "False"
            && placement["status"]["decisionGroups"]
                == json!([{"decisionGroupIndex": 0,
                "decisionGroupName": "", "decisions": ["two-decision-1"], "clusterCount": 2}])
            && ["DecisionCreate", "DecisionUpdate", "ScoreUpdate"].into_iter().all(told)
    })
    .await;
    let decision =
        get(&*hub.snapshot(), "root", "placementdecisions", "default", "two-decision-1").unwrap();
    assert_eq!(decision["metadata"]["ownerReferences"][0]["kind"], "Placement");
    assert_eq!(
        decision["metadata"]["labels"]["cluster.open-cluster-management.io/decision-group-index"],
        "0"
    );
    hub.delete("placements", "default", "two", Propagation::Background).await;
    hub.eventually("decisions go with it", |s| {
        chosen(s, "two").is_empty()
            && get(s, "root", "placementdecisions", "default", "two-decision-1").is_none()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_placement_says_why_it_gets_nothing() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "placements", "default", placement("web", json!({}))).await;
    hub.eventually("nothing is bound", |s| why(s, "web") == "NoManagedClusterSetBindings").await;
    hub.create("root", "managedclustersets", "", json!({"metadata": {"name": "north"}})).await;
    hub.create("root", "managedclustersetbindings", "default", bound("north")).await;
    hub.eventually("nobody is in it", |s| why(s, "web") == "AllManagedClusterSetsEmpty").await;
    hub.change("root", "placements", "default", "web", |it| {
        it["spec"]["clusterSets"] = json!(["south"]);
    })
    .await;
    hub.eventually("it asks for another", |s| why(s, "web") == "NoIntersection").await;
    hub.create("root", "managedclustersetbindings", "default", bound("global")).await;
    let nobody =
        json!([{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"site": "attic"}}}}]);
    hub.change("root", "placements", "default", "web", |it| {
        it["spec"]["clusterSets"] = json!([]);
        it["spec"]["predicates"] = nobody.clone();
    })
    .await;
    hub.eventually("nobody matches", |s| why(s, "web") == "NoManagedClusterMatched").await;
    hub.change("root", "managedclusters", "", "pi-1", |it| {
        it["metadata"]["labels"]["site"] = json!("attic");
    })
    .await;
    hub.eventually("somebody does", |s| {
        chosen(s, "web") == ["pi-1"] && why(s, "web") == "AllDecisionsScheduled"
    })
    .await;
    hub.change("root", "placements", "default", "web", |it| {
        it["spec"]["numberOfClusters"] = json!(3);
    })
    .await;
    hub.eventually("more are asked for", |s| why(s, "web") == "NotAllDecisionsScheduled").await;
    hub.change("root", "placements", "default", "web", |it| {
        it["spec"]["prioritizerPolicy"] =
            json!({"configurations": [{"scoreCoordinate": {"type": "BuiltIn", "builtIn": "Odd"}}]});
    })
    .await;
    hub.eventually("it cannot be understood", |s| {
        let placement = get(s, "root", "placements", "default", "web").unwrap();
        condition(&placement, "PlacementMisconfigured") == "True"
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_chosen_stays() {
    let hub = hub(&["pi-2", "pi-3"]).await;
    // By the default weights it would move to who has no decisions: others' count as much as its own.
    let stays = json!({"numberOfClusters": 1, "prioritizerPolicy": {"configurations": [
        {"scoreCoordinate": {"type": "BuiltIn", "builtIn": "Steady"}, "weight": 3}]}});
    hub.create("root", "placements", "default", placement("one", stays)).await;
    hub.eventually("the first is chosen", |s| chosen(s, "one") == ["pi-2"]).await;
    hub.join("pi-1").await;
    let cel = json!({"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions":
        ["managedCluster.metadata.name != 'pi-3' && managedCluster.spec.hubAcceptsClient"]}}}]});
    hub.create("root", "placements", "default", placement("later", cel)).await;
    hub.eventually("the new one is chosen by others", |s| chosen(s, "later") == ["pi-1", "pi-2"])
        .await;
    hub.change("root", "placements", "default", "one", |it| {
        it["spec"]["scoreRateLimit"] = json!("0s");
    })
    .await;
    hub.eventually("it looks again, and sees that others have it too", |s| {
        let all = list(s, "root", "placementdecisions", "default");
        let own = all.iter().find(|it| it["metadata"]["name"] == "one-decision-1");
        own.is_some_and(|it| {
            it["status"]["decisions"]
                == json!([{"clusterName": "pi-2", "reason": "", "score": 200}])
        })
    })
    .await;
    hub.delete("managedclusters", "", "pi-2", Propagation::Background).await;
    hub.eventually("who goes is chosen no more", |s| {
        // Balance: nobody has chosen pi-3 yet.
        chosen(s, "one") == ["pi-3"] && chosen(s, "later") == ["pi-1"]
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_cluster_keeps_what_it_has_and_gets_nothing_new() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    let waits = json!({"numberOfClusters": 1, "tolerations": [
        {"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 300}]});
    hub.create("root", "placements", "default", placement("keeps", json!({"numberOfClusters": 1})))
        .await;
    hub.eventually("it is here", |s| chosen(s, "keeps") == ["pi-1"]).await;
    hub.create("root", "placements", "default", placement("moves", waits)).await;
    hub.eventually("it is there", |s| chosen(s, "moves") == ["pi-2"]).await;
    for spoke in ["pi-1", "pi-2"] {
        hub.connect(spoke, false).await;
    }
    hub.eventually("both are silent", |s| {
        ["pi-1", "pi-2"].iter().all(|name| {
            let taints =
                get(s, "root", "managedclusters", "", name).unwrap()["spec"]["taints"].clone();
            taints[0]["key"] == UNREACHABLE
                && taints[0]["effect"] == "NoSelectIfNew"
                && taints[0]["timeAdded"].is_string()
        })
    })
    .await;
    hub.create("root", "placements", "default", placement("new", json!({}))).await;
    hub.eventually("nothing new goes there", |s| why(s, "new") == "NoManagedClusterMatched").await;
    assert_eq!(chosen(&*hub.snapshot(), "keeps"), ["pi-1"]);
    assert_eq!(chosen(&*hub.snapshot(), "moves"), ["pi-2"]);
    hub.eventually("who has said for how long it waits has waited", |s| {
        chosen(s, "moves").is_empty()
    })
    .await;
    hub.connect("pi-1", true).await;
    hub.eventually("who is back is chosen", |s| {
        chosen(s, "moves") == ["pi-1"]
            && chosen(s, "new") == ["pi-1"]
            && chosen(s, "keeps") == ["pi-1"]
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn scores_alone_wait_for_their_turn() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    let policy = json!({"mode": "Exact", "configurations": [{"weight": 1,
        "scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": "load", "scoreName": "free"}}}]});
    let score = |value: i32| json!({"scores": [{"name": "free", "value": value}]});
    hub.eventually("both have a namespace", |s| {
        ["pi-1", "pi-2"]
            .iter()
            .all(|name| get(s, "root", "serviceaccounts", name, "default").is_some())
    })
    .await;
    for (name, value) in [("pi-1", 10), ("pi-2", 70)] {
        hub.create("root", "addonplacementscores", name, json!({"metadata": {"name": "load"}}))
            .await;
        hub.change_status("root", "addonplacementscores", name, "load", |it| {
            it["status"] = score(value);
        })
        .await;
    }
    let spec = json!({"prioritizerPolicy": policy, "sortBy": "Score", "scoreRateLimit": "2m"});
    hub.create("root", "placements", "default", placement("all", spec.clone())).await;
    let mut one = spec;
    one["numberOfClusters"] = json!(1);
    hub.create("root", "placements", "default", placement("best", one)).await;
    hub.eventually("the best come first", |s| {
        chosen(s, "all") == ["pi-2", "pi-1"] && chosen(s, "best") == ["pi-2"]
    })
    .await;
    let began = tokio::time::Instant::now();
    hub.change_status("root", "addonplacementscores", "pi-1", "load", |it| {
        it["status"] = score(90);
    })
    .await;
    hub.eventually("another choice is written at once", |s| chosen(s, "best") == ["pi-1"]).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(chosen(&*hub.snapshot(), "all"), ["pi-2", "pi-1"], "it is the same choice");
    hub.eventually("the order is, later", |s| chosen(s, "all") == ["pi-1", "pi-2"]).await;
    assert!(Duration::from_secs(60) < began.elapsed(), "{:?}", began.elapsed());
    let decision =
        get(&*hub.snapshot(), "root", "placementdecisions", "default", "all-decision-1").unwrap();
    assert_eq!(decision["status"]["decisions"][0]["score"], 90);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn expressions_follow_the_scores_that_they_ask_for() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    hub.eventually("both have a namespace", |s| {
        let has = |name: &&str| get(s, "root", "serviceaccounts", name, "default").is_some();
        ["pi-1", "pi-2"].iter().all(has)
    })
    .await;
    let text = "managedCluster.scores('load').exists(s, s.name == 'free' && s.value > 50)";
    let cel = json!({"celSelector": {"celExpressions": [text]}});
    let spec = json!({"predicates": [{"requiredClusterSelector": cel}]});
    hub.create("root", "placements", "default", placement("roomy", spec)).await;
    hub.eventually("nobody has said anything", |s| why(s, "roomy") == "NoManagedClusterMatched")
        .await;
    let score = |value: i32| json!({"scores": [{"name": "free", "value": value}]});
    for (name, value) in [("pi-1", 10), ("pi-2", 70)] {
        hub.create("root", "addonplacementscores", name, json!({"metadata": {"name": "load"}}))
            .await;
        hub.change_status("root", "addonplacementscores", name, "load", |it| {
            it["status"] = score(value);
        })
        .await;
    }
    hub.eventually("one has room", |s| chosen(s, "roomy") == ["pi-2"]).await;
    hub.change_status("root", "addonplacementscores", "pi-1", "load", |it| {
        it["status"] = score(60);
    })
    .await;
    hub.eventually("now the other one has, too", |s| chosen(s, "roomy") == ["pi-1", "pi-2"]).await;
    let began = tokio::time::Instant::now();
    let end = hub.objects.clock().unix_seconds() + 600;
    hub.change_status("root", "addonplacementscores", "pi-2", "load", |it| {
        it["status"]["validUntil"] = json!(freewheel_hub_schema::time::from_unix(end));
    })
    .await;
    hub.eventually("what is out of date is not said", |s| chosen(s, "roomy") == ["pi-1"]).await;
    let took = began.elapsed().as_secs();
    assert!((590..610).contains(&took), "{took}");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn decisions_are_put_back() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    let groups = json!({"groupStrategy": {"clustersPerDecisionGroup": 1, "decisionGroups": [
        {"groupName": "canary", "groupClusterSelector": {"labelSelector": {"matchLabels": {"canary": "yes"}}}}]}});
    hub.create(
        "root",
        "placements",
        "default",
        placement("web", json!({"decisionStrategy": groups})),
    )
    .await;
    hub.change("root", "managedclusters", "", "pi-2", |it| {
        it["metadata"]["labels"]["canary"] = json!("yes");
    })
    .await;
    let stands = |s: &dyn Snapshot| {
        let of = |n: u8| {
            get(s, "root", "placementdecisions", "default", &format!("web-decision-{n}"))
                .unwrap_or_default()
        };
        let name = |it: &Value| {
            it["metadata"]["labels"]["cluster.open-cluster-management.io/decision-group-name"]
                .clone()
        };
        of(1)["status"]["decisions"][0]["clusterName"] == "pi-2"
            && name(&of(1)) == "canary"
            && of(2)["status"]["decisions"][0]["clusterName"] == "pi-1"
            && name(&of(2)) == ""
    };
    hub.eventually("there are two groups", stands).await;
    hub.change_status("root", "placementdecisions", "default", "web-decision-1", |it| {
        it["status"]["decisions"] = json!([{"clusterName": "elsewhere", "reason": ""}]);
    })
    .await;
    hub.delete("placementdecisions", "default", "web-decision-2", Propagation::Background).await;
    hub.eventually("they are again", stands).await;
    hub.change("root", "placements", "default", "web", |it| {
        it["spec"]["decisionStrategy"] = json!({});
    })
    .await;
    hub.eventually("there is one", |s| {
        chosen(s, "web") == ["pi-1", "pi-2"]
            && get(s, "root", "placementdecisions", "default", "web-decision-2").is_none()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_cluster_concerns_placements_that_may_choose_it() {
    let hub = hub(&["pi-1"]).await;
    for namespace in ["north", "south"] {
        hub.create("root", "namespaces", "", json!({"metadata": {"name": namespace}})).await;
        hub.create("root", "managedclustersets", "", json!({"metadata": {"name": namespace}}))
            .await;
        hub.create("root", "managedclustersetbindings", namespace, bound(namespace)).await;
        hub.create("root", "placements", namespace, placement("web", json!({}))).await;
    }
    hub.create(
        "root",
        "placements",
        "default",
        placement("other", json!({"clusterSets": ["south"]})),
    )
    .await;
    hub.create("root", "placements", "default", placement("any", json!({}))).await;
    let cel = json!({"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions": ["true"]}}}]});
    hub.create("root", "placements", "default", placement("cel", cel)).await;
    let objects = &hub.objects;
    let client = Client::new(objects.clone(), "looks", Recorder::channel(objects).0);
    let controller = Placements::new(client, hub.indexes.clone()).unwrap();
    let resource = kind("managedclusters").storage().clone();
    let (_, mut watch) =
        objects.store().follow(vec![Scope { resource, cluster: None, namespace: None }]);
    let mut touched = async || -> Vec<String> {
        let events = watch.next().await.unwrap();
        let now = objects.store().snapshot();
        let keys = events.iter().flat_map(|event| controller.keys(event, &*now));
        let mut names: Vec<_> = keys.map(|key| format!("{}/{}", key.namespace, key.name)).collect();
        names.sort();
        names.dedup();
        names
    };
    hub.change("root", "managedclusters", "", "pi-1", |it| {
        it["metadata"]["labels"]["cluster.open-cluster-management.io/clusterset"] = json!("north");
    })
    .await;
    assert_eq!(touched().await, ["default/any", "default/cel", "north/web"]);
    hub.change("root", "managedclusters", "", "pi-1", |it| {
        it["metadata"]["annotations"]["note"] = json!("x");
    })
    .await;
    assert_eq!(touched().await, ["default/cel"], "only expressions look at that");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_stays_chosen_is_in_a_decision_at_any_moment() {
    let mut hub = hub(&["pi-2", "pi-3"]).await;
    let one_by_one =
        json!({"decisionStrategy": {"groupStrategy": {"clustersPerDecisionGroup": 1}}});
    hub.create("root", "placements", "default", placement("all", one_by_one)).await;
    hub.eventually("both are chosen", |s| chosen(s, "all") == ["pi-2", "pi-3"]).await;
    hub.always("placementdecisions", |s| {
        let now = chosen(s, "all");
        assert!(["pi-2", "pi-3"].iter().all(|it| now.iter().any(|own| own == it)), "{now:?}");
        for decision in list(s, "root", "placementdecisions", "default") {
            let index = &decision["metadata"]["labels"]["cluster.open-cluster-management.io/decision-group-index"];
            let canary = &decision["metadata"]["labels"]["cluster.open-cluster-management.io/decision-group-name"];
            let first = &decision["status"]["decisions"][0]["clusterName"];
            assert!(canary != "canary" || (first == "pi-3" && index == "0"), "{decision}");
        }
    });
    hub.join("pi-1").await;
    hub.eventually("all three are", |s| chosen(s, "all") == ["pi-1", "pi-2", "pi-3"]).await;
    hub.change("root", "managedclusters", "", "pi-3", |it| {
        it["metadata"]["labels"]["canary"] = json!("true");
    })
    .await;
    hub.change("root", "placements", "default", "all", |it| {
        it["spec"]["decisionStrategy"]["groupStrategy"]["decisionGroups"] = json!([{"groupName": "canary",
            "groupClusterSelector": {"labelSelector": {"matchLabels": {"canary": "true"}}}}]);
    })
    .await;
    hub.eventually("the canary is the first", |s| chosen(s, "all") == ["pi-3", "pi-1", "pi-2"])
        .await;
    hub.stop().await;
}
