//! The hub's registry for ordinary tools: a login, a list, names that tools write.

use std::path::PathBuf;

use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, has};
use serde_json::{Value, json};

/// A client that knows the hub's CA, and a name and a password in place of a certificate.
fn with_login(fleet: &Fleet, name: &str, password: &str) -> Kubectl {
    let text = std::fs::read_to_string(fleet.kubeconfig()).expect("the administrator's kubeconfig");
    let mut config: Value = serde_json::from_str(&text).expect("kubeconfigs are JSON");
    config["users"][0]["user"] = json!({"username": name, "password": password});
    let path: PathBuf = fleet.path(&format!("{password}.kubeconfig"));
    std::fs::write(&path, config.to_string()).expect("a kubeconfig");
    Kubectl::new(&path)
}

#[test]
fn tools_log_in_with_a_name_and_a_password() {
    let fleet = Fleet::hub();
    fleet.push("hello-http", "team/app:v1");
    let line = fleet.hub_cli(&["token", "create", "--registry", "--ttl", "1h"]);
    let words: Vec<&str> = line.split_whitespace().collect();
    let port = fleet.api_port();
    let ["docker", "login", registry, "--username", name, "--password", password] = words[..]
    else {
        panic!("no line to paste: {line}");
    };
    assert!(registry.ends_with(&format!(":{port}")), "{registry}");

    let tool = with_login(&fleet, name, password);
    has(&tool.run(&["get", "--raw", "/v2/_catalog"]), &[r#"{"repositories":["team/app"]}"#]);
    has(&tool.run(&["get", "--raw", "/v2/team/app/manifests/v1"]), &["application/wasm", ".wasm"]);
    // It opens the registry alone, and deletes nothing there.
    has(&tool.fails(&["get", "--raw", "/api/v1/namespaces"]), &["orbidden"]);
    let path = "/v2/team/app/manifests/v1";
    has(&tool.fails(&["delete", "--raw", path]), &["orbidden"]);
    let wrong = with_login(&fleet, name, "wrong");
    has(&wrong.fails(&["get", "--raw", "/v2/_catalog"]), &["provide credentials"]);
    let kubectl = fleet.kubectl();
    kubectl.does(&["-n", "kube-system", "delete", "secret", &format!("registry-login-{name}")]);
    has(&tool.fails(&["get", "--raw", "/v2/_catalog"]), &["provide credentials"]);
}

#[test]
fn images_are_listed_inspected_and_removed() {
    let fleet = Fleet::hub();
    let own = format!("127.0.0.1:{}/app:v2", fleet.api_port());
    fleet.push("hello-http", "app:v1");
    let refused = fleet.try_hub_cli(&["inspect", "app:v2"]);
    has(&String::from_utf8_lossy(&refused.stderr), &["there is no app:v2", "hub images"]);
    fleet.push("hello-http", &own);
    let list = fleet.hub_cli(&["images"]);
    has(&list, &["NAME", "app    v1    sha256:", "app    v2    sha256:"]);
    let shown = fleet.hub_cli(&["inspect", &own]);
    has(&shown, &["Tags:     v1, v2", "Image:    app@sha256:", "Module:   sha256:", "File:     "]);
    let pinned = shown.split_whitespace().find(|word| word.starts_with("app@")).expect("a digest");
    for (name, said) in [
        ("app", &["\"app\" says neither a tag nor a digest", "app:TAG", "tags are v1, v2"][..]),
        ("none", &["there is no none in the hub's registry", "hub images"]),
    ] {
        let refused = fleet.try_hub_cli(&["rm", name]);
        assert!(!refused.status.success());
        has(&String::from_utf8_lossy(&refused.stderr), said);
    }
    has(&fleet.hub_cli(&["rm", "app:v1"]), &["app:v1 removed", pinned]);
    assert!(!fleet.hub_cli(&["images"]).contains("v1"));
    has(&fleet.hub_cli(&["rm", pinned]), &["removed, with its tags"]);
    assert!(!fleet.hub_cli(&["images"]).contains("app"));
}
