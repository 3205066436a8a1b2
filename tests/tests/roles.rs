//! Roles, accounts and tokens as kubectl uses them.

use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, has};

/// kubectl with this kubeconfig, in the fleet's folder.
fn kubectl_with(fleet: &Fleet, name: &str, kubeconfig: &str) -> Kubectl {
    let file = fleet.path(&format!("{name}.kubeconfig"));
    std::fs::write(&file, kubeconfig).expect("a kubeconfig");
    Kubectl::new(&file)
}

/// kubectl that shows this token and nothing else.
fn kubectl_of_token(fleet: &Fleet, name: &str, token: &str) -> Kubectl {
    let admin = std::fs::read_to_string(fleet.kubeconfig()).expect("the administrator's");
    let kubectl = kubectl_with(fleet, name, &admin);
    kubectl.does(&["config", "set-credentials", name, &format!("--token={token}")]);
    kubectl.does(&["config", "set-context", "--current", &format!("--user={name}")]);
    kubectl
}

#[test]
fn kubectl_gives_roles_and_asks_what_they_give() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    kubectl.does(&["create", "role", "pod-reader", "--verb=get,list,watch", "--resource=pods"]);
    kubectl.does(&["create", "rolebinding", "read-pods", "--role=pod-reader", "--user=jane"]);
    kubectl.does(&["auth", "can-i", "list", "pods", "--as=jane"]);
    kubectl.does(&["auth", "can-i", "get", "/openapi/v3", "--as=jane"]);
    for no in [
        &["auth", "can-i", "list", "pods", "--as=bob"][..],
        &["auth", "can-i", "list", "secrets", "--as=jane"],
    ] {
        let said = kubectl.try_run(no);
        assert_eq!(said.out.trim(), "no", "{no:?}");
    }
    let _ = kubectl.run(&["get", "pods", "--as=jane"]);
    let refused = kubectl.fails(&["get", "secrets", "--as=jane"]);
    has(
        &refused,
        &[
            r#"secrets is forbidden: User "jane" cannot list resource "secrets" in API group "" in the namespace "default""#,
        ],
    );
    has(
        &kubectl.run(&["auth", "can-i", "--list", "--as=jane"]),
        &["pods", "[get list watch]", "[/openapi/*]"],
    );
    let who = kubectl.run(&["auth", "whoami", "--as=jane", "--as-uid=u-7", "--as-group=dev"]);
    has(&who, &["jane", "u-7", "[dev system:authenticated]"]);
    let table = kubectl.run(&["get", "rolebindings", "-o", "wide"]);
    has(&table, &["read-pods", "Role/pod-reader", "jane"]);
    has(&kubectl.run(&["describe", "clusterrole", "view"]), &["pods/log", "[get list watch]"]);
    let reconciled = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: pod-reader, namespace: default}
rules:
- {apiGroups: [''], resources: [configmaps], verbs: [list]}
";
    let file = fleet.path("role.yaml");
    std::fs::write(&file, reconciled).expect("a file");
    let said = kubectl.run(&["auth", "reconcile", "-f", &file.display().to_string()]);
    has(&said, &["role.rbac.authorization.k8s.io/pod-reader reconciled"]);
    let _ = kubectl.run(&["get", "pods,configmaps", "--as=jane"]);
}

#[test]
fn kubectl_makes_tokens_and_kubeconfigs() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    kubectl.does(&["create", "serviceaccount", "builder"]);
    let token = kubectl.run(&["create", "token", "builder", "--duration=10m"]);
    let builder = kubectl_of_token(&fleet, "builder", token.trim());
    has(
        &builder.run(&["auth", "whoami"]),
        &["system:serviceaccount:default:builder", "system:serviceaccounts:default"],
    );
    assert!(builder.fails(&["get", "pods"]).contains("is forbidden"));
    kubectl.does(&[
        "create",
        "rolebinding",
        "builds",
        "--clusterrole=edit",
        "--serviceaccount=default:builder",
    ]);
    builder.does(&["create", "configmap", "made", "--from-literal=a=b"]);
    kubectl.does(&["delete", "serviceaccount", "builder"]);
    assert!(builder.fails(&["get", "pods"]).contains("Unauthorized"));

    let config =
        fleet.hub_cli(&["get", "kubeconfig", "--user", "ada", "--group", "dev", "--group", "ops"]);
    let ada = kubectl_with(&fleet, "ada", &config);
    has(&ada.run(&["auth", "whoami"]), &["ada", "[dev ops system:authenticated]"]);
    assert!(ada.fails(&["get", "pods"]).contains("is forbidden"));
    kubectl.does(&["create", "rolebinding", "ops", "--clusterrole=view", "--group=ops"]);
    let _ = ada.run(&["get", "pods"]);
}
