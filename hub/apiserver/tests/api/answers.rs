//! Requests to a real kube-apiserver 1.36, and what it answered: ours must be the same.
//!
//! Failures are compared by code, reason, message and details; created objects by their spec and by who owns what of
//! it. What differs on purpose is listed with its reason.

use crate::support::{Answer, Client, Hub};
use serde_json::{Value, json};

/// Cases that differ, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("dry-run create: defaults", "no token volume is added to pods"),
    ("wrong kind", "kube-apiserver names a Go package"),
    ("wrong version", "kube-apiserver names a Go file"),
    ("patch with wrong type", "the message holds the whole object with its times and uid"),
    ("version", "we are no kube-apiserver"),
    ("who am I", "a certificate's user has no uid"),
    ("watch too old", "the recorded answer is a stream; tests/watches.rs has ours"),
];

#[tokio::test]
async fn answers_are_those_of_kube_apiserver() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/answers.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["case"].as_str().unwrap();
        let answer = replay(&admin, &case["request"]).await;
        if DIFFERENT.iter().any(|(different, _)| *different == name) {
            continue;
        }
        if let Some(difference) = compare(case, &answer) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

async fn replay(client: &Client, request: &Value) -> Answer {
    let text = |key: &str| request[key].as_str().unwrap();
    let body = match &request["body"] {
        Value::String(raw) => raw.clone(),
        value => value.to_string(),
    };
    let headers = [("content-type", text("contentType")), ("user-agent", "curl/8.0")];
    client.send(text("method"), text("path"), &headers, body).await
}

fn compare(case: &Value, answer: &Answer) -> Option<String> {
    let want = &case["answer"];
    if case["code"] != answer.code {
        return Some(format!("code {} is not {}: {}", answer.code, case["code"], answer.text()));
    }
    let got = answer.json();
    if want["kind"] != "Status" {
        let (want, got) = (&want["spec"], &got["spec"]);
        let (want, got) = (without_addresses(want), without_addresses(got));
        if want != got {
            return Some(format!("\n  spec {got}\n  not  {want}"));
        }
        let (want, got) = (owners(&case["answer"]), owners(&answer.json()));
        return (want != got).then(|| format!("\n  owners {got}\n  not    {want}"));
    }
    for key in ["status", "reason", "message"] {
        // The port of its clock differs, ours has another revision.
        if want[key] != got[key] && !same_but_revision(&want[key], &got[key]) {
            return Some(format!("\n  {key} {}\n  not     {}", got[key], want[key]));
        }
    }
    let (want, got) = (without_uid(&want["details"]), without_uid(&got["details"]));
    (want != got).then(|| format!("\n  details {got}\n  not     {want}"))
}

fn same_but_revision(want: &Value, got: &Value) -> bool {
    let head = |value: &Value| {
        value.as_str().and_then(|text| Some(text.split_once("current: ")?.0.to_owned()))
    };
    head(want).is_some() && head(want) == head(got)
}

/// Who owns what of an object, whenever that came to be.
fn owners(object: &Value) -> Value {
    let mut owners = object["metadata"]["managedFields"].clone();
    for entry in owners.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        entry.remove("time");
    }
    owners
}

/// Addresses depend on the range that they are taken from.
fn without_addresses(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(spec) = spec.as_object_mut() {
        for key in ["clusterIP", "clusterIPs"] {
            spec.remove(key);
        }
    }
    spec
}

fn without_uid(details: &Value) -> Value {
    let mut details = details.clone();
    if let Some(details) = details.as_object_mut() {
        details.remove("uid");
    }
    if details.is_null() { json!({}) } else { details }
}
