//! The audit log: who did what, as kube-apiserver tells it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_apiserver::{AccessOptions, Limits};
use freewheel_hub_audit::{Audit, AuditLog, LogDestination, LogOptions, Policy};
use freewheel_hub_store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::support::Hub;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// A hub that tells of what this says, and its file.
struct Audited {
    hub: Hub,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

async fn audited(rules: &str) -> Audited {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{rules}]");
    let log = AuditLog::open(LogOptions {
        destination: LogDestination::File(path.clone()),
        bytes_max: 100 << 20,
        age_days_max: 0,
        backups_max: 0,
    });
    let audit = Audit { policy: Policy::read(&policy).unwrap(), log: log.unwrap() };
    let more = (AccessOptions::default(), Some(Arc::new(audit)));
    let hub = Hub::made(MemoryStore::new(), Limits::default(), more).await;
    Audited { hub, path, _folder: folder }
}

impl Audited {
    /// The first so many events of the request with this number.
    async fn told(&self, number: &str, count: usize) -> Vec<Value> {
        let found = async {
            loop {
                let text = std::fs::read_to_string(&self.path).unwrap();
                let all = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                let events = all.map(|line| serde_json::from_str::<Value>(line).unwrap());
                let events: Vec<_> = events.filter(|event| event["auditID"] == number).collect();
                if count <= events.len() {
                    return events;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect("events come")
    }
}

fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["stage"].as_str().unwrap()).collect()
}

fn secret(name: &str) -> String {
    json!({"metadata": {"name": name}, "data": {"canary": "Y2FuYXJ5"}}).to_string()
}

#[tokio::test]
async fn bodies_that_are_told_of_are_on_their_connection_s_account_as_well() {
    let audited = audited("{level: Request}").await;
    let line = audited.hub.admin().line().await;
    // Of none of these is it known how large it will be, and nothing comes.
    let mut stuck = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let line = line.clone();
        stuck.spawn(async move { line.post_nothing(SECRETS).await.status() });
    }
    for _ in 0..3 {
        let told = tokio::time::timeout(Duration::from_secs(40), stuck.join_next()).await;
        assert_eq!(told.expect("there is room for one").unwrap().unwrap(), 429);
    }
}

#[tokio::test]
async fn what_is_read_is_told_however_full_its_connection_is() {
    let audited = audited("{level: RequestResponse, verbs: [get]}, {level: Request}").await;
    let admin = audited.hub.admin();
    let maps = "/api/v1/namespaces/default/configmaps";
    let large = json!({"metadata": {"name": "large"}, "data": {"a": "x".repeat(1_000_000)}});
    assert_eq!(admin.post(maps, &large).await.code, 201);
    let line = admin.line().await;
    // They may be as large as any, and nothing comes: as soon as one of them is refused, the other leaves room for an
    // answer, and for no copies of it.
    let mut stuck = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let line = line.clone();
        stuck.spawn(async move { line.post_nothing(SECRETS).await.status() });
    }
    let told = tokio::time::timeout(Duration::from_secs(40), stuck.join_next()).await;
    assert_eq!(told.expect("there is room for one").unwrap().unwrap(), 429);
    let response = line.get(&format!("{maps}/large")).await;
    assert_eq!(response.status(), 200);
    let number = response.headers()["audit-id"].to_str().unwrap().to_owned();
    http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    let event = audited.told(&number, 2).await.pop().unwrap();
    assert_eq!(event["responseObject"]["metadata"]["name"], "large");
    assert!(stuck.try_join_next().is_none(), "the other is still there");
}

#[tokio::test]
async fn events_are_those_of_kube_apiserver() {
    let audited = audited("{level: Metadata}").await;
    let admin = audited.hub.admin();
    let headers = [
        ("audit-id", "mine-1"),
        ("content-type", "application/json"),
        ("user-agent", "kubectl/v1.36"),
        ("impersonate-user", "jane"),
        ("impersonate-group", "system:masters"),
        ("x-forwarded-for", "10.1.2.3"),
    ];
    let answer = admin.send("POST", SECRETS, &headers, secret("s")).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let events = audited.told("mine-1", 2).await;
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    let mut last = events[1].clone();
    for stamp in ["requestReceivedTimestamp", "stageTimestamp"] {
        let stamp = last.as_object_mut().unwrap().remove(stamp).unwrap();
        assert_eq!(stamp.as_str().unwrap().len(), "2026-11-29T15:50:03.000001Z".len());
    }
    let expected = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "mine-1",
        "stage": "ResponseComplete", "requestURI": SECRETS, "verb": "create",
        "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        "impersonatedUser": {"username": "jane", "groups": ["system:masters", "system:authenticated"]},
        "sourceIPs": ["10.1.2.3", "127.0.0.1"], "userAgent": "kubectl/v1.36",
        "objectRef": {"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "annotations": {
            "authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "masters may do everything",
            "freewheel.dev/cluster": "root",
        },
    });
    assert_eq!(last, expected);
    let received = events[0].as_object().unwrap();
    assert!(!received.contains_key("responseStatus") && !received.contains_key("impersonatedUser"));
    // What is not there.
    let path = format!("/clusters/pi-7{SECRETS}/none");
    admin.send("GET", &path, &[("audit-id", "mine-2")], "").await;
    let last = audited.told("mine-2", 2).await.pop().unwrap();
    assert_eq!(last["annotations"]["freewheel.dev/cluster"], "pi-7");
    assert_eq!(last["responseStatus"]["code"], 404);
    admin.send("GET", &format!("{SECRETS}/none"), &[("audit-id", "mine-3")], "").await;
    let last = audited.told("mine-3", 2).await.pop().unwrap();
    let status = json!({
        "metadata": {}, "status": "Failure", "message": "secrets \"none\" not found",
        "reason": "NotFound", "details": {"name": "none", "kind": "secrets"}, "code": 404,
    });
    assert_eq!(last["responseStatus"], status);
}

#[tokio::test]
async fn who_is_refused_is_told_of() {
    let audited = audited("{level: Metadata, omitStages: [RequestReceived]}").await;
    let jane = audited.hub.client(Some(&audited.hub.authority.client("jane", "people")));
    assert_eq!(jane.send("GET", SECRETS, &[("audit-id", "a")], "").await.code, 403);
    let event = &audited.told("a", 1).await[0];
    assert_eq!(event["user"]["username"], "jane");
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(event["responseStatus"]["code"], 403);
    assert_eq!(event["responseStatus"]["reason"], "Forbidden");
    let stranger = audited.hub.client(None);
    assert_eq!(stranger.send("GET", SECRETS, &[("audit-id", "b")], "").await.code, 403);
    let event = &audited.told("b", 1).await[0];
    assert_eq!(event["user"]["username"], "system:anonymous");
    assert_eq!(event["responseStatus"]["code"], 403);
    // A token that is nobody's: nobody knows whose the request is.
    let token = [("audit-id", "c"), ("authorization", "Bearer nobody-s")];
    assert_eq!(stranger.send("GET", SECRETS, &token, "").await.code, 401);
    let event = &audited.told("c", 1).await[0];
    assert_eq!((&event["user"], &event["stage"]), (&json!({}), &json!("ResponseStarted")));
    assert_eq!(event["responseStatus"]["reason"], "Unauthorized");
}

#[tokio::test]
async fn bodies_are_told_where_the_policy_asks_for_them() {
    let rules = "{level: None, verbs: [list]}, \
                 {level: Metadata, resources: [{resources: [secrets]}]}, \
                 {level: Request, resources: [{resources: [serviceaccounts]}]}, \
                 {level: RequestResponse, omitManagedFields: true}";
    let audited = audited(rules).await;
    let admin = audited.hub.admin();
    let send = async |method: &str, path: &str, number: &str, kind: &str, body: String| {
        let headers = [("audit-id", number), ("content-type", kind), ("accept-encoding", "gzip")];
        admin.send(method, path, &headers, body).await
    };
    let (json_type, yaml_type) = ("application/json", "application/yaml");
    assert_eq!(send("POST", SECRETS, "secret", json_type, secret("s")).await.code, 201);
    assert_eq!(
        send("GET", &format!("{SECRETS}/s"), "read", json_type, String::new()).await.code,
        200
    );
    let account = "metadata:\n  name: a\n  labels: {x: 'y'}\n".to_owned();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(send("POST", accounts, "account", yaml_type, account).await.code, 201);
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "b".repeat(200_000)}}).to_string();
    assert_eq!(send("POST", maps, "map", json_type, map).await.code, 201);
    let patch = r#"{"data": {"a": "c"}}"#.to_owned();
    let kind = "application/merge-patch+json";
    assert_eq!(send("PATCH", &format!("{maps}/m"), "patch", kind, patch).await.code, 200);
    for number in ["secret", "read"] {
        for event in audited.told(number, 2).await {
            assert!(event.get("requestObject").is_none() && event.get("responseObject").is_none());
            assert!(!event.to_string().contains("Y2FuYXJ5"), "{event}");
        }
    }
    let last = audited.told("account", 2).await.pop().unwrap();
    assert_eq!(last["requestObject"], json!({"metadata": {"name": "a", "labels": {"x": "y"}}}));
    assert!(last.get("responseObject").is_none());
    let last = audited.told("map", 2).await.pop().unwrap();
    assert_eq!(last["requestObject"]["metadata"]["name"], "m");
    assert_eq!(last["responseObject"]["data"]["a"].as_str().unwrap().len(), 200_000);
    assert!(last["responseObject"]["metadata"].get("managedFields").is_none());
    let last = audited.told("patch", 2).await.pop().unwrap();
    assert_eq!(last["requestObject"], json!({"data": {"a": "c"}}));
    assert_eq!(last["responseObject"]["data"]["a"], "c");
    assert_eq!(last["objectRef"]["name"], "m");
    send("GET", maps, "list", json_type, String::new()).await;
    send("GET", &format!("{maps}/m"), "end", json_type, String::new()).await;
    audited.told("end", 2).await;
    assert!(audited.told("list", 0).await.is_empty());
}

#[tokio::test]
async fn a_watch_is_told_when_it_begins_and_when_it_ends() {
    let audited = audited("{level: RequestResponse}").await;
    let path = format!("{SECRETS}?watch=true");
    let admin = audited.hub.admin();
    let watch = admin.open("GET", &path, &[("audit-id", "w")], "".into()).await;
    let events = audited.told("w", 2).await;
    assert_eq!(stages(&events), ["RequestReceived", "ResponseStarted"]);
    assert_eq!(
        (&events[1]["verb"], &events[1]["responseStatus"]["code"]),
        (&json!("watch"), &json!(200))
    );
    drop(watch);
    let events = audited.told("w", 3).await;
    assert_eq!(stages(&events), ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert!(events.iter().all(|event| event.get("responseObject").is_none()));
}

#[tokio::test]
async fn what_the_log_takes_is_counted() {
    let audited = audited("{level: Metadata}").await;
    let admin = audited.hub.admin();
    admin.send("GET", SECRETS, &[("audit-id", "x")], "").await;
    audited.told("x", 2).await;
    let text = admin.get("/metrics").await.text();
    let line = text.lines().find(|line| line.starts_with("apiserver_audit_event_total"));
    // The question itself has begun.
    assert_eq!(line, Some("apiserver_audit_event_total 3"));
    assert!(text.contains("apiserver_audit_error_total{plugin=\"log\"} 0"), "{text}");
}

#[tokio::test]
async fn what_rules_say_of_a_write_is_told() {
    let audited = audited("{level: Metadata, omitStages: [RequestReceived]}").await;
    let admin = audited.hub.admin();
    let group = "/apis/admissionregistration.k8s.io/v1";
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["secrets", "serviceaccounts/token"]});
    let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "object.metadata.name != 'bad'"}],
        "auditAnnotations": [{"key": "who", "valueExpression": "'by ' + request.userInfo.username"}]});
    // Nobody says in another's name what was decided.
    for name in ["rule", "authorization.k8s.io"] {
        let mut spec = spec.clone();
        spec["auditAnnotations"][0]["key"] = json!(if name == "rule" { "who" } else { "decision" });
        let policy = json!({"metadata": {"name": name}, "spec": spec});
        let made = admin.post(&format!("{group}/validatingadmissionpolicies"), &policy).await;
        assert_eq!(made.code, 201, "{}", made.text());
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Audit"]}});
        let path = format!("{group}/validatingadmissionpolicybindings");
        assert_eq!(admin.post(&path, &binding).await.code, 201);
    }
    let headers =
        |number: &'static str| [("audit-id", number), ("content-type", "application/json")];
    assert_eq!(admin.send("POST", SECRETS, &headers("bad"), secret("bad")).await.code, 201);
    let annotations = &audited.told("bad", 1).await[0]["annotations"];
    assert_eq!(annotations["rule/who"], "by admin");
    assert_eq!(annotations["authorization.k8s.io/decision"], "allow");
    let failure =
        annotations["validation.policy.admission.k8s.io/validation_failure"].as_str().unwrap();
    let failure: Value = serde_json::from_str(failure).unwrap();
    assert_eq!(failure[0]["validationActions"], json!(["Audit"]));
}
