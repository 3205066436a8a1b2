//! API Priority and Fairness: who is served while somebody asks for more than there is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_apiserver::authn::TokenFile;
use freewheel_hub_apiserver::authz::{AuthorizerOptions, WebhookOptions};
use freewheel_hub_apiserver::{AccessOptions, Bounds, Limits, Remote};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Client, Hub, bootstrap, create};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const SCHEMA_UID: &str = "x-kubernetes-pf-flowschema-uid";
const LEVEL_UID: &str = "x-kubernetes-pf-prioritylevel-uid";
const LEVELS: &str = "/debug/api_priority_and_fairness/dump_priority_levels";

fn person(hub: &Hub, name: &str) -> Client {
    hub.client(Some(&hub.authority.client(name, "people")))
}

/// A hub with so many seats for a cluster, in whose root people may do everything.
async fn hub(seats: u32) -> Hub {
    hub_with(seats, AccessOptions::default()).await
}

async fn hub_with(seats: u32, options: AccessOptions) -> Hub {
    let flows = Bounds { seats, ..Bounds::default() };
    let limits = Limits { flows, ..Limits::default() };
    let hub = Hub::made(MemoryStore::new().sparse(3), limits, (options, None)).await;
    let binding = json!({"metadata": {"name": "people"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "people"}]});
    create(&hub.objects, "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", binding).await;
    hub
}

/// How many requests of a level wait and are served.
async fn level(admin: &Client, name: &str) -> (usize, usize) {
    let text = admin.get(LEVELS).await.text();
    let row = text.lines().find(|line| line.starts_with(&format!("{name},"))).expect("the level");
    let cells: Vec<_> = row.split(',').map(str::trim).collect();
    (cells[4].parse().unwrap(), cells[5].parse().unwrap())
}

#[tokio::test]
async fn one_client_s_flood_is_refused_and_others_are_served() {
    // Seventeen of them are for those who belong to nothing in particular; four of those are for who has few.
    let hub = hub(200).await;
    let (admin, greedy) = (hub.admin(), person(&hub, "greedy").line().await);
    let mut asks = JoinSet::new();
    for _ in 0..1_000 {
        let greedy = greedy.clone();
        asks.spawn(async move { greedy.post_no_little(MAPS).await });
    }
    // At least so many find neither a seat nor a place in one of six queues of fifty.
    let refused = async {
        for _ in 0..600 {
            let answer = asks.join_next().await.unwrap().unwrap();
            assert_eq!(answer.status(), 429);
            assert_eq!(answer.headers()["retry-after"], "5");
        }
    };
    timeout(Duration::from_secs(14), refused).await.expect("all are refused that find no place");
    let (waiting, served) = level(&admin, "global-default").await;
    assert!(0 < waiting && waiting <= 300 && 13 <= served, "{waiting} {served}");
    let other = person(&hub, "other");
    let served = async {
        let map = json!({"metadata": {"name": "other"}});
        assert_eq!(other.post(MAPS, &map).await.code, 201);
        assert_eq!(other.get(MAPS).await.code, 200);
    };
    timeout(Duration::from_secs(10), served).await.expect("others are served meanwhile");
    let figures = admin.get("/metrics").await.text();
    let labels = "priority_level=\"global-default\",flow_schema=\"global-default\"";
    for line in [
        format!("apiserver_flowcontrol_rejected_requests_total{{{labels},reason=\"queue-full\"}} "),
        format!("apiserver_flowcontrol_dispatched_requests_total{{{labels}}} "),
        format!("apiserver_flowcontrol_current_inqueue_requests{{{labels}}} "),
        format!(
            "apiserver_flowcontrol_request_wait_duration_seconds_count{{{labels},execute=\"true\"}} "
        ),
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"global-default\"} 17\n"
            .to_owned(),
    ] {
        assert!(figures.contains(&line), "{line}\n{figures}");
    }
}

fn custom_level() -> Value {
    let queuing = json!({"queues": 8, "handSize": 2, "queueLengthLimit": 10});
    let limited = json!({"nominalConcurrencyShares": 5,
        "limitResponse": {"type": "Queue", "queuing": queuing}});
    json!({"metadata": {"name": "site"}, "spec": {"type": "Limited", "limited": limited}})
}

fn custom_schema() -> Value {
    let rule = json!({"subjects": [{"kind": "Group", "group": {"name": "people"}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
            "namespaces": ["*"], "clusterScope": true}]});
    json!({"metadata": {"name": "visitors"}, "spec": {"matchingPrecedence": 700,
        "priorityLevelConfiguration": {"name": "site"}, "rules": [rule]}})
}

#[tokio::test]
async fn a_clusters_flow_schemas_are_its_own() {
    let hub = hub(200).await;
    let (admin, jane) = (hub.admin(), person(&hub, "jane"));
    let cluster = json!({"metadata": {"name": "pi-7"}, "spec": {"hubAcceptsClient": true}});
    create(&hub.objects, "cluster.open-cluster-management.io/v1", "ManagedCluster", cluster).await;
    bootstrap(&hub.objects, &ClusterName::try_from("pi-7").unwrap()).await;
    let mut uids = Vec::new();
    for (plural, object) in
        [("prioritylevelconfigurations", custom_level()), ("flowschemas", custom_schema())]
    {
        let made = admin.post(&format!("/clusters/pi-7{FLOW}/{plural}"), &object).await;
        assert_eq!(made.code, 201, "{}", made.text());
        assert!(!made.headers.contains_key("warning"), "{:?}", made.headers);
        uids.push(made.json()["metadata"]["uid"].as_str().unwrap().to_owned());
    }
    let pods = "/api/v1/namespaces/default/pods";
    let is_told = async {
        loop {
            // Who may not do it has passed, too.
            let answer = jane.get(&format!("/clusters/pi-7{pods}")).await;
            assert_eq!(answer.code, 403, "{}", answer.text());
            let told = [LEVEL_UID, SCHEMA_UID].map(|name| answer.headers.get(name).cloned());
            if let [Some(level), Some(schema)] = told {
                assert_eq!([level, schema].map(|uid| uid.to_str().unwrap().to_owned()), *uids);
                break;
            }
        }
    };
    timeout(Duration::from_secs(20), is_told).await.expect("the schema counts soon");
    let in_root = jane.get(pods).await;
    assert_eq!(in_root.code, 200);
    assert!(!in_root.headers.contains_key(SCHEMA_UID), "what is suggested is no object there");
    let own = admin.get(&format!("/clusters/pi-7{LEVELS}")).await.text();
    let root = admin.get(LEVELS).await.text();
    assert!(own.contains("\nsite,") && !root.contains("\nsite,"), "{own}{root}");
    assert_eq!(jane.get(&format!("/clusters/pi-7{LEVELS}")).await.code, 403);
    let figures = admin.get("/metrics").await.text();
    let line = "apiserver_flowcontrol_dispatched_requests_total{priority_level=\"custom\",flow_schema=\"custom\"} ";
    assert!(figures.contains(line) && !figures.contains("visitors"), "{figures}");
    let gone = admin.delete(&format!("/clusters/pi-7{FLOW}/flowschemas/visitors")).await;
    assert_eq!(gone.code, 200);
    let is_forgotten = async {
        while jane.get(&format!("/clusters/pi-7{pods}")).await.headers.contains_key(SCHEMA_UID) {}
    };
    timeout(Duration::from_secs(20), is_forgotten).await.expect("and counts no more");
}

#[tokio::test]
async fn a_watch_gives_its_seat_back_when_it_has_begun() {
    // One of them is for those who belong to nothing in particular.
    let hub = hub(12).await;
    let (admin, jane) = (hub.admin(), person(&hub, "jane"));
    let mut watches = Vec::new();
    for path in [
        format!("{MAPS}?watch=1&resourceVersion=0"),
        format!(
            "{MAPS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
        ),
    ] {
        let map = json!({"metadata": {"name": format!("m-{}", watches.len())}});
        assert_eq!(admin.post(MAPS, &map).await.code, 201);
        let mut watch = jane.watch(&path).await;
        assert_eq!(watch.brief().await.0, "ADDED");
        watches.push(watch);
        let is_free = async { while level(&admin, "global-default").await != (0, 0) {} };
        timeout(Duration::from_secs(10), is_free).await.expect("its seat is free");
        let got = timeout(Duration::from_secs(10), jane.get(MAPS)).await.expect("it is served");
        assert_eq!(got.code, 200);
    }
    let map = json!({"metadata": {"name": "late"}});
    assert_eq!(jane.post(MAPS, &map).await.code, 201);
    // Both have seen two or one before, and go on.
    for watch in &mut watches {
        while watch.brief().await.1 != "late" {}
    }
}

#[tokio::test]
async fn bodies_that_wait_for_seats_hold_up_no_other_level_of_their_connection() {
    let hub = hub(200).await;
    let (admin, greedy) = (hub.admin(), person(&hub, "greedy").line().await);
    let mut asks = JoinSet::new();
    for _ in 0..40 {
        let greedy = greedy.clone();
        asks.spawn(async move { greedy.post_no_little(MAPS).await });
    }
    let waiting = async |least: usize| {
        let waits = async { while level(&admin, "global-default").await.0 < least {} };
        timeout(Duration::from_secs(10), waits).await.expect("they wait");
        level(&admin, "global-default").await.0
    };
    let before = waiting(20).await;
    let line = admin.line().await;
    let large = json!({"metadata": {"name": "large"}, "data": {"text": "x".repeat(600_000)}});
    let mut larges = JoinSet::new();
    for _ in 0..8 {
        let (other, large) = (line.clone(), large.to_string().into());
        larges.spawn(async move { other.post_as(("greedy", "people"), MAPS, large).await });
    }
    waiting(before + 3).await;
    // Who would fill what comes before it is read is told so.
    for _ in 0..5 {
        let told = timeout(Duration::from_secs(10), larges.join_next()).await;
        let told = told.expect("it does not wait").unwrap().unwrap();
        assert_eq!(
            (told.status().as_u16(), &told.headers()["retry-after"]),
            (429, &"5".parse().unwrap())
        );
    }
    let lease = json!({"metadata": {"name": "leader"}}).to_string();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let leads = timeout(Duration::from_secs(5), line.post_of(leases, lease.into())).await;
    assert_eq!(leads.expect("it needs no seat of theirs").status(), 201);
}

#[tokio::test]
async fn a_body_that_waits_leaves_others_of_a_token_s_connection_their_room() {
    let tokens = TokenFile::read("s3cret,root,u-1,\"system:masters\"\n").unwrap();
    let hub = hub_with(200, AccessOptions { tokens, ..AccessOptions::default() }).await;
    let (admin, greedy) = (hub.admin(), person(&hub, "greedy").line().await);
    let mut asks = JoinSet::new();
    for _ in 0..40 {
        let greedy = greedy.clone();
        asks.spawn(async move { greedy.post_no_little(MAPS).await });
    }
    let waiting = async |least: usize| {
        let waits = async { while level(&admin, "global-default").await.0 < least {} };
        timeout(Duration::from_secs(10), waits).await.expect("they wait");
    };
    waiting(20).await;
    let before = level(&admin, "global-default").await.0;
    let line = hub.client(None).line().await;
    let known = ("authorization", "Bearer s3cret");
    let large = json!({"metadata": {"name": "large"}, "data": {"text": "x".repeat(600_000)}});
    let (other, large) = (line.clone(), large.to_string().into());
    asks.spawn(async move {
        let headers = [known, ("impersonate-user", "greedy"), ("impersonate-group", "people")];
        other.post_with(&headers, MAPS, large).await
    });
    waiting(before + 1).await;
    let lease = json!({"metadata": {"name": "leader"}}).to_string();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let headers = [known];
    let leads = line.post_with(&headers, leases, lease.into());
    let leads = timeout(Duration::from_secs(5), leads).await;
    assert_eq!(leads.expect("it needs no seat of theirs").status(), 201);
}

/// Answers whatever it is asked about other resources.
struct HangsForMaps;

#[async_trait]
impl Remote for HangsForMaps {
    async fn ask(&self, review: &Value) -> Result<Value, String> {
        if review["spec"]["resourceAttributes"]["resource"] == "configmaps" {
            return std::future::pending().await;
        }
        let mut answered = review.clone();
        answered["status"] = json!({"allowed": true});
        Ok(answered)
    }
}

#[tokio::test]
async fn bodies_that_wait_for_an_authorizer_hold_up_nobody_else() {
    let webhook = AuthorizerOptions::Webhook(WebhookOptions::default(), Arc::new(HangsForMaps));
    let issuer = "https://hub:6443".to_owned();
    let options = AccessOptions { authorizers: vec![webhook], issuer, ..AccessOptions::default() };
    let hub = Hub::with(options).await;
    let line = person(&hub, "jane").line().await;
    let large = json!({"metadata": {"name": "large"}, "data": {"text": "x".repeat(600_000)}});
    let mut larges = JoinSet::new();
    for _ in 0..5 {
        let (line, large) = (line.clone(), large.to_string().into());
        larges.spawn(async move { line.post_of(MAPS, large).await });
    }
    // Who would fill what comes before it is read is told so.
    for _ in 0..2 {
        let told = timeout(Duration::from_secs(10), larges.join_next()).await;
        assert_eq!(told.expect("it does not wait").unwrap().unwrap().status(), 429);
    }
    let lease = json!({"metadata": {"name": "leader"}}).to_string();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let leads = timeout(Duration::from_secs(5), line.post_of(leases, lease.into())).await;
    assert_eq!(leads.expect("nobody hangs for it").status(), 201);
}
