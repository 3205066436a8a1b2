//! Pods that keep to a standard and pods that do not.

use serde_json::json;

use super::super::standard::Version;
use super::*;

fn standard(level: Level, version: Version) -> Standard {
    Standard { level, version }
}

fn told(standard: Standard, pod: &Value) -> String {
    standard.violations(pod).to_string()
}

fn pod(spec: &Value) -> Value {
    json!({"metadata": {}, "spec": spec})
}

const BASELINE: Standard = Standard { level: Level::Baseline, version: Version::Latest };
const RESTRICTED: Standard = Standard { level: Level::Restricted, version: Version::Latest };

#[test]
fn a_plain_pod_is_baseline_and_a_careful_one_restricted() {
    let plain = pod(&json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    assert_eq!(told(BASELINE, &plain), "");
    assert_eq!(
        told(RESTRICTED, &plain),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let own = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}});
    let careful = pod(&json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": own}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "projected": {}}],
    }));
    assert_eq!(told(RESTRICTED, &careful), "");
    let privileged = standard(Level::Privileged, Version::Latest);
    assert!(privileged.violations(&pod(&json!({"hostNetwork": true}))).is_empty());
}

#[test]
fn all_that_is_wrong_is_told_in_order() {
    let mut wrong = pod(&json!({
        "hostNetwork": true, "hostIPC": true,
        "securityContext": {
            "sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}],
            "seLinuxOptions": {"type": "spc_t", "user": "u"},
            "seccompProfile": {"type": "Unconfined"},
        },
        "initContainers": [{"name": "i", "ports": [{"hostPort": 81}, {"hostPort": 80}, {"hostPort": 0}]}],
        "containers": [{"name": "c", "ports": [{"hostPort": 80}], "securityContext": {
            "privileged": true, "procMount": "Unmasked", "capabilities": {"add": ["SYS_TIME", "KILL", "BPF"]},
            "windowsOptions": {"hostProcess": true}, "appArmorProfile": {"type": "Unconfined"},
        }, "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}],
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
    }));
    wrong["metadata"]["annotations"] = json!({format!("{APP_ARMOR}c"): "unconfined"});
    assert_eq!(
        told(BASELINE, &wrong),
        "forbidden AppArmor profiles (container \"c\" and annotation must not set AppArmor profile type to \
         \"Unconfined\", \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\"), \
         non-default capabilities (container \"c\" must not include \"BPF\", \"SYS_TIME\" in securityContext.capabilities.add), \
         host namespaces (hostNetwork=true, hostIPC=true), \
         hostPath volumes (volume \"v\"), \
         hostPort (containers \"i\", \"c\" use hostPorts 80, 81), \
         probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\"), \
         privileged (container \"c\" must not set securityContext.privileged=true), \
         procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\"), \
         seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set), \
         seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\"), \
         forbidden sysctls (kernel.msgmax), \
         hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)"
    );
    assert_eq!(
        RESTRICTED.violations(&wrong).reasons(),
        "forbidden AppArmor profiles, host namespaces, hostPort, probe or lifecycle host, privileged, seLinuxOptions, \
         forbidden sysctls, hostProcess, allowPrivilegeEscalation != false, unrestricted capabilities, procMount, \
         restricted volume types, runAsNonRoot != true, seccompProfile"
    );
}

#[test]
fn who_says_the_contrary_is_told_alone() {
    let own =
        json!({"runAsNonRoot": false, "runAsUser": 0, "seccompProfile": {"type": "Unconfined"}});
    let wrong = pod(&json!({
        "containers": [{"name": "a", "securityContext": own}, {"name": "b"}],
        "ephemeralContainers": [{"name": "e", "securityContext": {"runAsUser": 0}}],
        "volumes": [{"name": "v", "nfs": {}}, {"name": "w", "hostPath": {}}, {"name": "x"}],
    }));
    let told = told(RESTRICTED, &wrong);
    for part in [
        "restricted volume types (volumes \"v\", \"w\", \"x\" use restricted volume types \"hostPath\", \"nfs\", \"unknown\")",
        "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
        "runAsUser=0 (containers \"a\", \"e\" must not set runAsUser=0)",
        "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_version_has_its_own_checks() {
    let at =
        |minor, spec: &Value| told(standard(Level::Restricted, Version::Minor(minor)), &pod(spec));
    let plain = json!({"containers": [{"name": "a"}]});
    let reasons =
        "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)";
    assert_eq!(at(7, &plain), reasons);
    assert!(at(21, &plain).contains("allowPrivilegeEscalation"));
    assert!(!at(21, &plain).contains("capabilities"));
    assert!(at(22, &plain).contains("capabilities"));
    let mut windows = plain.clone();
    windows["os"] = json!({"name": "windows"});
    assert!(at(24, &windows).contains("capabilities"));
    assert_eq!(at(25, &windows), reasons);
    let mut own_users = plain;
    own_users["hostUsers"] = json!(false);
    assert!(at(34, &own_users).contains("runAsNonRoot"));
    assert!(!at(35, &own_users).contains("runAsNonRoot"));
    let mut old = pod(&json!({"containers": [{"name": "a"}]}));
    old["metadata"]["annotations"] = json!({SECCOMP_POD: "unconfined"});
    assert_eq!(
        told(standard(Level::Baseline, Version::Minor(18)), &old),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
    );
    assert_eq!(told(standard(Level::Baseline, Version::Minor(19)), &old), "");
}
