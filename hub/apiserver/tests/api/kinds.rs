//! Kinds of all groups through the API: warned of, listed as tables, watched.

use serde_json::{Value, json};

use crate::support::Hub;

/// Path of the collection, what is made, what its maker is warned of, and the cells of its row but the age.
fn cases() -> Vec<(&'static str, Value, &'static str, Value)> {
    let pods = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "hello"}]}});
    let once = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "hello"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    vec![
        (
            "/apis/apps/v1/namespaces/default/daemonsets",
            json!({"spec": {"selector": selector, "template": pods}}),
            "",
            json!(["x", 0, 0, 0, 0, 0, "<none>"]),
        ),
        (
            "/apis/batch/v1/namespaces/default/jobs",
            json!({"spec": {"template": once}}),
            "",
            json!(["x", "Running", "0/1", ""]),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
            json!({"spec": {"podSelector": selector}}),
            "NetworkPolicy: kept without effect: it is NOT enforced yet",
            json!(["x", "a=b"]),
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"provisioner": "example.com/disk"}),
            "StorageClass: kept without effect: ",
            json!(["x", "example.com/disk", "Delete", "Immediate", false]),
        ),
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            json!({"value": 5}),
            "",
            json!(["x", 5, false]),
        ),
    ]
}

#[tokio::test]
async fn kinds_are_warned_of_listed_and_watched() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for (path, mut body, warned, row) in cases() {
        let mut watch = admin.watch(&format!("{path}?watch=1")).await;
        body["metadata"] = json!({"name": "x"});
        let made = admin.post(path, &body).await;
        assert_eq!(made.code, 201, "{}", made.text());
        let warning = made.headers.get("warning").map(|text| text.to_str().unwrap());
        assert!(warning.unwrap_or_default().contains(warned), "{path}: {warning:?}");
        assert_eq!(warning.is_none(), warned.is_empty(), "{path}: {warning:?}");
        assert_eq!(watch.brief().await, ("ADDED".to_owned(), "x".to_owned()));
        let as_table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        let table = admin.send("GET", path, &as_table, String::new()).await.json();
        let mut cells = table["rows"][0]["cells"].as_array().unwrap().clone();
        cells.truncate(row.as_array().unwrap().len());
        assert_eq!(json!(cells), row, "{path}");
    }
}
