//! People's certificate requests from the approval to their end, with every controller running.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::time::Duration;

use crate::hub::{self, Hub, condition, get, kind, list};
use freewheel_hub_objects::{ObjectRef, Propagation, WriteOptions};
use freewheel_hub_store::Snapshot;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

const REQUESTS: &str = "certificatesigningrequests";
/// `-----BEGIN CERTIFICATE REQUEST-----` and nothing else: the authority is played.
const PEM: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";

fn request(name: &str, usage: &str, seconds: u32) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "request": PEM, "signerName": "kubernetes.io/kube-apiserver-client", "usages": [usage],
        "expirationSeconds": seconds,
    }})
}

async fn decide(hub: &Hub, name: &str, decision: &str) {
    let now = freewheel_hub_schema::time::from_unix(hub.objects.clock().unix_seconds());
    let place = ObjectRef {
        kind: kind(REQUESTS),
        cluster: ClusterName::root(),
        namespace: "".into(),
        name: name.to_owned(),
    };
    let write = |mut value: Value| {
        value["status"]["conditions"] =
            json!([{"type": decision, "status": "True", "lastUpdateTime": now}]);
        Ok(value)
    };
    hub.objects.modify(&WriteOptions::default(), &place, Some("approval"), write).await.unwrap();
}

fn is_issued(request: &Value) -> bool {
    request["status"]["certificate"].is_string()
}

#[tokio::test(start_paused = true)]
async fn what_is_approved_is_signed_and_what_cannot_be_says_so() {
    let hub = Hub::with_spokes(&[]).await;
    for (name, usage) in [("jane", "client auth"), ("joe", "server auth"), ("jim", "client auth")] {
        hub.create("root", REQUESTS, "", request(name, usage, 3600)).await;
    }
    decide(&hub, "jane", "Approved").await;
    decide(&hub, "joe", "Approved").await;
    decide(&hub, "jim", "Denied").await;
    hub.eventually("each has its end", |s| {
        let of = |name| get(s, "root", REQUESTS, "", name).unwrap_or_default();
        is_issued(&of("jane")) && condition(&of("joe"), "Failed") == "True"
    })
    .await;
    let s = hub.snapshot();
    let joe = get(&*s, "root", REQUESTS, "", "joe").unwrap();
    assert_eq!(hub::reason(&joe, "Failed"), "SignerValidationFailure");
    assert_eq!(condition(&joe, "Approved"), "True");
    assert!(!is_issued(&joe));
    assert!(!is_issued(&get(&*s, "root", REQUESTS, "", "jim").unwrap()));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_signer_that_is_not_here_is_told_about() {
    let hub = Hub::with_spokes(&[]).await;
    let mut kubelet = request("pi", "client auth", 3600);
    kubelet["spec"]["signerName"] = json!("kubernetes.io/kubelet-serving");
    hub.create("root", REQUESTS, "", kubelet).await;
    decide(&hub, "pi", "Approved").await;
    hub.eventually("an event says that nobody signs", |s| {
        let mut events = list(s, "root", "events", "").into_iter();
        events.any(|event| event["reason"] == "NoSigner" && event["involvedObject"]["name"] == "pi")
    })
    .await;
    assert!(!is_issued(&get(&*hub.snapshot(), "root", REQUESTS, "", "pi").unwrap()));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_over_are_deleted_in_their_time() {
    let hub = Hub::with_spokes(&[]).await;
    let there = |name: &str| get(&*hub.snapshot(), "root", REQUESTS, "", name).is_some();
    for (name, seconds) in [("issued", 90_000), ("short", 1200), ("denied", 600), ("open", 600)] {
        hub.create("root", REQUESTS, "", request(name, "client auth", seconds)).await;
    }
    decide(&hub, "issued", "Approved").await;
    decide(&hub, "short", "Approved").await;
    decide(&hub, "denied", "Denied").await;
    let all = ["issued", "short", "denied", "open"];
    for (minutes, left) in
        [(19, &all[..]), (40, &["issued", "denied", "open"]), (24 * 60 - 60, &["open"]), (2, &[])]
    {
        tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
        let found: Vec<_> = all.into_iter().filter(|name| there(name)).collect();
        assert_eq!(found, left, "{minutes} minutes later");
    }
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn servers_beside_the_api_are_told_how_its_clients_are_known() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    const NAME: &str = "extension-apiserver-authentication";
    let config = |s: &dyn Snapshot, realm: &str| get(s, realm, "configmaps", "kube-system", NAME);
    let ca = |s: &dyn Snapshot, realm: &str| {
        let root = get(s, realm, "configmaps", "default", "kube-root-ca.crt")?;
        let own = config(s, realm)?;
        Some(own["data"]["client-ca-file"] == root["data"]["ca.crt"])
    };
    for realm in ["root", "pi-1"] {
        hub.eventually("it is there", |s| ca(s, realm) == Some(true)).await;
    }
    hub.change("root", "configmaps", "kube-system", NAME, |config| {
        config["data"] = json!({"client-ca-file": "none", "requestheader-allowed-names": "[]"});
    })
    .await;
    hub.eventually("it is right again", |s| ca(s, "root") == Some(true)).await;
    let own = config(&*hub.snapshot(), "root").unwrap();
    assert_eq!(own["data"]["requestheader-allowed-names"], "[]", "this is somebody's");
    hub.delete("configmaps", "kube-system", NAME, Propagation::Background).await;
    hub.eventually("it is put back", |s| ca(s, "root") == Some(true)).await;
    for (namespace, name, key) in
        [("kube-system", NAME, "client-ca-file"), ("default", "kube-root-ca.crt", "ca.crt")]
    {
        hub.change("root", "configmaps", namespace, name, |config| {
            config["immutable"] = json!(true);
            config["data"][key] = json!("none");
        })
        .await;
        hub.eventually("what cannot be changed is made anew", |s| {
            let config = get(s, "root", "configmaps", namespace, name);
            config.is_some_and(|it| it["data"][key] != "none" && it["immutable"].is_null())
        })
        .await;
    }
    hub.stop().await;
}
