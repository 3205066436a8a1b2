//! Server-side apply with a stock kubectl: it needs no device.

use freewheel_tests::kubectl::{Kubectl, Said};
use freewheel_tests::{Fleet, has};

#[test]
fn kubectl_applies_at_the_server() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    makes_and_changes(&kubectl);
    conflicts(&kubectl);
    differences(&kubectl);
    from_client_to_server(&kubectl);
}

fn config_map(name: &str, level: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{level: {level}, kept: as-it-is}}\n"
    )
}

fn apply(kubectl: &Kubectl, more: &[&str], yaml: &str) -> Said {
    let mut arguments = vec!["apply", "--server-side", "-f", "-"];
    arguments.extend(more);
    kubectl.try_apply(&arguments, yaml)
}

fn of(kubectl: &Kubectl, object: &str, path: &str) -> String {
    kubectl.run(&["get", object, "--show-managed-fields", "-o", &format!("jsonpath={{{path}}}")])
}

fn makes_and_changes(kubectl: &Kubectl) {
    let pretended = apply(kubectl, &["--dry-run=server"], &config_map("logger", "info"));
    assert_eq!(pretended.out.trim(), "configmap/logger serverside-applied (server dry run)");
    let made = apply(kubectl, &[], &config_map("logger", "info"));
    assert_eq!(made.out.trim(), "configmap/logger serverside-applied", "{}", made.err);
    let version = of(kubectl, "cm/logger", ".metadata.resourceVersion");
    assert!(apply(kubectl, &[], &config_map("logger", "info")).ok);
    assert_eq!(of(kubectl, "cm/logger", ".metadata.resourceVersion"), version, "nothing changed");
    assert!(apply(kubectl, &[], &config_map("logger", "debug")).ok);
    assert_eq!(of(kubectl, "cm/logger", ".data.level"), "debug");
    let owners = of(kubectl, "cm/logger", ".metadata.managedFields[*].manager");
    assert_eq!(owners, "kubectl");
    has(
        &kubectl.run(&["get", "cm", "logger", "-o", "yaml", "--show-managed-fields"]),
        &["fieldsType: FieldsV1", "f:level: {}", "operation: Apply"],
    );
    let hidden = kubectl.run(&["get", "cm", "logger", "-o", "yaml"]);
    assert!(!hidden.contains("managedFields"), "{hidden}");
}

fn conflicts(kubectl: &Kubectl) {
    let mine = config_map("logger", "trace");
    let refused = apply(kubectl, &["--field-manager=somebody"], &mine);
    assert!(!refused.ok);
    has(
        &refused.err,
        &[
            "Apply failed with 1 conflict: conflict with \"kubectl\": .data.level",
            "--force-conflicts",
        ],
    );
    let forced = apply(kubectl, &["--field-manager=somebody", "--force-conflicts"], &mine);
    assert!(forced.ok, "{}", forced.err);
    assert_eq!(of(kubectl, "cm/logger", ".data.level"), "trace");
    let owners = of(kubectl, "cm/logger", ".metadata.managedFields[*].manager");
    assert_eq!(owners, "kubectl somebody");
    kubectl.does(&[
        "patch",
        "cm",
        "logger",
        "--type=merge",
        "-p",
        "{\"data\":{\"level\":\"off\"}}",
    ]);
    let refused = apply(kubectl, &["--field-manager=somebody"], &mine);
    has(&refused.err, &["conflict with \"kubectl-patch\" using v1: .data.level"]);
}

fn differences(kubectl: &Kubectl) {
    let wanted = config_map("logger", "loud");
    let arguments = ["diff", "--server-side", "--force-conflicts", "-f", "-"];
    let shown = kubectl.try_apply(&arguments, &wanted);
    assert!(!shown.ok, "there is a difference");
    has(&shown.out, &["-  level: \"off\"", "+  level: loud"]);
    assert_eq!(of(kubectl, "cm/logger", ".data.level"), "off", "nothing was written");
}

/// kubectl takes over what it applied before by itself.
fn from_client_to_server(kubectl: &Kubectl) {
    kubectl.apply(&config_map("moved", "info"));
    let owners = of(kubectl, "cm/moved", ".metadata.managedFields[*].manager");
    assert_eq!(owners, "kubectl-client-side-apply");
    let moved = apply(kubectl, &[], &config_map("moved", "debug"));
    assert!(moved.ok, "{}", moved.err);
    let path = ".metadata.managedFields[*]['manager', 'operation']";
    assert_eq!(of(kubectl, "cm/moved", path), "kubectl-last-applied kubectl Apply Apply");
    let less = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: moved}\ndata: {level: debug}\n";
    assert!(apply(kubectl, &[], less).ok);
    assert_eq!(of(kubectl, "cm/moved", ".data.kept"), "", "what is left out goes");
}
