//! Rollouts that rest, are aborted, or go back by themselves.

use std::time::Duration;

use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::hub::{Hub, condition, get, list, reason};
use super::work_sets::{given, hub, is_well, pairs, set, template};

const SPOKES: [&str; 3] = ["pi-1", "pi-2", "pi-3"];

fn site(s: &dyn Snapshot) -> Value {
    get(s, "root", "manifestworkreplicasets", "default", "site").unwrap_or_default()
}

async fn annotate(hub: &Hub, key: &str, value: &str) {
    hub.change("root", "manifestworkreplicasets", "default", "site", |it| {
        it["metadata"]["annotations"][key] = json!(value);
    })
    .await;
}

async fn ask_for(hub: &Hub, value: &str) {
    hub.change("root", "manifestworkreplicasets", "default", "site", |it| {
        it["spec"]["manifestWorkTemplate"] = template(value);
    })
    .await;
}

/// One cluster after the other, each with a minute for it.
fn one_by_one(value: &str, rollback: &str) -> Value {
    let one = json!({"type": "Progressive",
        "progressive": {"maxConcurrency": 1, "progressDeadline": "60s"}});
    let mut set = set(value, one, "Background");
    set["metadata"]["annotations"] = json!({"freewheel.dev/rollback": rollback});
    set
}

async fn gets(hub: &Hub, cluster: &str, value: &str) {
    hub.eventually("it has it", |s| {
        get(s, cluster, "configmaps", "default", "site")
            .is_some_and(|map| map["data"]["key"] == value)
    })
    .await;
}

/// A hub whose clusters all have the first template, and are well with it.
async fn complete(rollback: &str) -> Hub {
    let hub = hub(&SPOKES).await;
    let set = one_by_one("1", rollback);
    hub.create("root", "manifestworkreplicasets", "default", set).await;
    for spoke in SPOKES {
        gets(&hub, spoke, "1").await;
        is_well(&hub, spoke, "1").await;
    }
    hub.eventually("all is done", |s| reason(&site(s), "PlacementRolledOut") == "Complete").await;
    hub
}

async fn four_are_chosen(hub: &Hub) {
    hub.eventually("who is new is chosen", |s| {
        let placement = get(s, "root", "placements", "default", "all").unwrap_or_default();
        placement["status"]["numberOfSelectedClusters"] == 4
    })
    .await;
}

async fn abort(hub: &Hub) {
    let generation = site(&*hub.snapshot())["metadata"]["generation"].to_string();
    annotate(hub, "freewheel.dev/abort-rollout", &generation).await;
    hub.eventually("that is said", |s| {
        condition(&site(s), "RolloutAborted") == "True"
            && reason(&site(s), "RolloutAborted") == "Aborted"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_a_later_wave_goes_back_in_all() {
    let mut hub = complete("Automatic").await;
    ask_for(&hub, "2").await;
    gets(&hub, "pi-1", "2").await;
    is_well(&hub, "pi-1", "2").await;
    // The second is never well with it.
    hub.eventually("the second has it", |s| given(s, "site")[1].1 == "2").await;
    hub.eventually("it is aborted", |s| {
        let set = site(s);
        condition(&set, "RolloutAborted") == "True"
            && reason(&set, "RolloutAborted") == "TooManyFailures"
            && set["status"]["conditions"].to_string().contains("too long (1)")
            && !set["status"].to_string().contains("pi-2")
    })
    .await;
    let all = SPOKES.map(|spoke| (spoke, "1"));
    hub.eventually("all have the first one again", |s| given(s, "site") == pairs(&all)).await;
    hub.eventually("that is told", |s| {
        let told = list(s, "root", "events", "default");
        told.iter().any(|event| event["reason"] == "RolloutAborted" && event["type"] == "Warning")
    })
    .await;
    hub.restart().await;
    hub.join("pi-4").await;
    four_are_chosen(&hub).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(given(&*hub.snapshot(), "site"), pairs(&all), "who is new is not begun with");
    assert_eq!(condition(&site(&*hub.snapshot()), "RolloutAborted"), "True");
    ask_for(&hub, "3").await;
    hub.eventually("something else begins anew", |s| {
        given(s, "site")[0].1 == "3" && condition(&site(s), "RolloutAborted").is_empty()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_first_rollout_that_fails_has_nothing_to_go_back_to() {
    let hub = hub(&SPOKES).await;
    let set = one_by_one("1", "Automatic");
    hub.create("root", "manifestworkreplicasets", "default", set).await;
    hub.eventually("that is said", |s| {
        let set = site(s);
        condition(&set, "RolloutAborted") == "False"
            && reason(&set, "RolloutAborted") == "NoEarlierTemplate"
    })
    .await;
    assert_eq!(given(&*hub.snapshot(), "site"), pairs(&[("pi-1", "1")]), "it stands");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_aborts_a_rollout_gets_back_what_all_had() {
    let hub = complete("Manual").await;
    ask_for(&hub, "2").await;
    gets(&hub, "pi-1", "2").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let s = hub.snapshot();
    assert_eq!(given(&*s, "site")[0].1, "2", "nobody is asked to go back");
    assert_eq!(condition(&site(&*s), "RolloutAborted"), "");
    drop(s);
    abort(&hub).await;
    hub.change("root", "manifestworkreplicasets", "default", "site", |it| {
        it["metadata"]["annotations"] = json!({"freewheel.dev/rollback": "Manual"});
        it["spec"]["cascadeDeletionPolicy"] = json!("Foreground");
    })
    .await;
    let all = SPOKES.map(|spoke| (spoke, "1"));
    hub.eventually("all have the first one again", |s| given(s, "site") == pairs(&all)).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let s = hub.snapshot();
    assert_eq!(given(&*s, "site"), pairs(&all), "the template is the one that was aborted");
    assert_eq!(condition(&site(&*s), "RolloutAborted"), "True");
    drop(s);
    ask_for(&hub, "3").await;
    hub.eventually("it was about that one alone", |s| given(s, "site")[0].1 == "3").await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_rollout_begins_with_nobody_new() {
    let hub = complete("Manual").await;
    annotate(&hub, "freewheel.dev/rollout-paused", "true").await;
    ask_for(&hub, "2").await;
    hub.eventually("it rests", |s| condition(&site(s), "RolloutPaused") == "True").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let all = SPOKES.map(|spoke| (spoke, "1"));
    assert_eq!(given(&*hub.snapshot(), "site"), pairs(&all));
    annotate(&hub, "freewheel.dev/rollout-paused", "false").await;
    hub.eventually("it goes on", |s| {
        given(s, "site")[0].1 == "2" && condition(&site(s), "RolloutPaused").is_empty()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_came_between_goes_back_too() {
    let hub = complete("Manual").await;
    ask_for(&hub, "2").await;
    gets(&hub, "pi-1", "2").await;
    is_well(&hub, "pi-1", "2").await;
    hub.eventually("two have it", |s| given(s, "site")[1].1 == "2").await;
    ask_for(&hub, "3").await;
    let mixed = pairs(&[("pi-1", "3"), ("pi-2", "2"), ("pi-3", "1")]);
    hub.eventually("one has the next", |s| given(s, "site") == mixed).await;
    abort(&hub).await;
    let all = SPOKES.map(|spoke| (spoke, "1"));
    hub.eventually("all have the first one again", |s| given(s, "site") == pairs(&all)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_is_not_begun_with_while_a_rollout_is_aborted() {
    let hub = complete("Manual").await;
    abort(&hub).await;
    hub.join("pi-4").await;
    four_are_chosen(&hub).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let all = SPOKES.map(|spoke| (spoke, "1"));
    assert_eq!(given(&*hub.snapshot(), "site"), pairs(&all));
    ask_for(&hub, "2").await;
    hub.eventually("something else begins anew", |s| given(s, "site")[0].1 == "2").await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_template_is_kept_though_some_failed_that_may() {
    let hub = hub(&SPOKES).await;
    let mut set = one_by_one("1", "Manual");
    set["spec"]["placementRefs"][0]["rolloutStrategy"]["progressive"]["maxFailures"] = json!(1);
    hub.create("root", "manifestworkreplicasets", "default", set).await;
    for spoke in ["pi-1", "pi-3"] {
        gets(&hub, spoke, "1").await;
        is_well(&hub, spoke, "1").await;
    }
    hub.eventually("all but the second are well", |s| {
        let summary = &site(s)["status"]["summary"];
        summary["updated"] == 3 && summary["applied"] == 3 && summary["progressing"] == 1
    })
    .await;
    ask_for(&hub, "2").await;
    gets(&hub, "pi-1", "2").await;
    abort(&hub).await;
    let all = SPOKES.map(|spoke| (spoke, "1"));
    hub.eventually("all have the first one again", |s| given(s, "site") == pairs(&all)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_chosen_goes_back_though_another_placement_is_missing() {
    let hub = complete("Automatic").await;
    hub.change("root", "manifestworkreplicasets", "default", "site", |it| {
        it["spec"]["manifestWorkTemplate"] = template("2");
        let refs = it["spec"]["placementRefs"].as_array_mut();
        refs.into_iter().for_each(|refs| refs.insert(0, json!({"name": "nowhere"})));
    })
    .await;
    hub.eventually("one has it", |s| given(s, "site")[0].1 == "2").await;
    hub.eventually("it is aborted", |s| {
        let set = site(s);
        reason(&set, "RolloutAborted") == "TooManyFailures"
            && reason(&set, "PlacementVerified") == "PlacementDecisionNotFound"
    })
    .await;
    let all = SPOKES.map(|spoke| (spoke, "1"));
    hub.eventually("all have the first one again", |s| given(s, "site") == pairs(&all)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_never_goes_back_by_itself_says_so() {
    let hub = hub(&SPOKES).await;
    let mut set = set("1", json!({"type": "All"}), "Background");
    set["metadata"]["annotations"] = json!({"freewheel.dev/rollback": "Automatic"});
    hub.create("root", "manifestworkreplicasets", "default", set).await;
    hub.eventually("that is said", |s| {
        let set = site(s);
        condition(&set, "RolloutAborted") == "False"
            && reason(&set, "RolloutAborted") == "NeverAutomatic"
    })
    .await;
    hub.stop().await;
}
