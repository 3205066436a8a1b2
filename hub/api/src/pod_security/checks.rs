//! What each check of the Pod Security Standards looks at, and its words, which clients read: those of
//! `k8s.io/pod-security-admission` for Kubernetes 1.36.
//!
//! Guarantees:
//! - a pod that asks for nothing keeps to what is not known to lead out of a container, and one that gives all up to the best
//!   practice (`a_plain_pod_is_baseline_and_a_careful_one_restricted`);
//! - all that is wrong is told at once, in upstream's order (`all_that_is_wrong_is_told_in_order`);
//! - a check is of the versions that upstream has it in (`a_version_has_its_own_checks`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::standard::{Level, Standard, Violation};

/// By the names of upstream's checks: those of the lower level first, each level's in alphabetical order.
const CHECKS: [fn(&Pod<'_>) -> Option<Violation>; 19] = [
    app_armor_profile,
    capabilities_baseline,
    host_namespaces,
    host_path_volumes,
    host_ports,
    host_probes,
    privileged,
    proc_mount_baseline,
    se_linux_options,
    seccomp_profile_baseline,
    sysctls,
    windows_host_process,
    allow_privilege_escalation,
    capabilities_restricted,
    proc_mount_restricted,
    restricted_volumes,
    run_as_non_root,
    run_as_user,
    seccomp_profile_restricted,
];

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Those that container runtimes give to everybody.
const USUAL_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const RESTRICTED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// With the version since which one is known to concern its pod alone.
const SAFE_SYSCTLS: [(&str, u64); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

/// All that a pod, or a template, asks for beyond a standard.
pub fn all(standard: Standard, pod: &Value) -> Vec<Violation> {
    let (annotations, spec) = (&pod["metadata"]["annotations"], &pod["spec"]);
    let pod = Pod { standard, annotations, spec };
    CHECKS.iter().filter_map(|check| check(&pod)).collect()
}

struct Pod<'a> {
    standard: Standard,
    annotations: &'a Value,
    spec: &'a Value,
}

impl<'a> Pod<'a> {
    fn has(&self, minor: u64) -> bool {
        self.standard.version.has(minor)
    }

    /// Whether the upper level has a check since this version, maybe in the place of one of the lower.
    fn is_restricted_since(&self, minor: u64) -> bool {
        self.standard.level == Level::Restricted && self.has(minor)
    }

    fn is_of_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Its users are none of its host.
    fn has_users_of_its_own(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(move |list| items(&spec[list]))
    }

    fn volumes(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        items(&self.spec["volumes"])
    }

    /// Names of the containers of which this holds.
    fn containers_where(&self, mut bad: impl FnMut(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|one| bad(one)).map(|one| text(&one["name"])).collect()
    }

    /// Who has a security context of which this holds: `pod and container "a"`.
    fn setters(&self, mut bad: impl FnMut(&Value) -> bool) -> Vec<String> {
        let own = bad(&self.spec["securityContext"]).then(|| "pod".to_owned());
        let containers = self.containers_where(|one| bad(&one["securityContext"]));
        let containers = (!containers.is_empty()).then(|| named("container", &containers));
        own.into_iter().chain(containers).collect()
    }
}

fn app_armor_profile(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut setters = pod.setters(|context| {
        let profile = &context["appArmorProfile"];
        let kind = text(&profile["type"]);
        let bad = profile.is_object() && !matches!(kind, "RuntimeDefault" | "Localhost");
        values.extend(bad.then(|| kind.to_owned()));
        bad
    });
    let allowed =
        |value: &str| matches!(value, "" | "runtime/default") || value.starts_with("localhost/");
    let pairs = pod.annotations.as_object().into_iter().flatten();
    let pairs = pairs.map(|(key, value)| (key, text(value)));
    let annotations: BTreeSet<String> = pairs
        .filter(|(key, value)| key.starts_with(APP_ARMOR) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if !annotations.is_empty() {
        setters.push(plural("annotation", annotations.len()));
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = if values.len() == 1 {
        "forbidden AppArmor profile"
    } else {
        "forbidden AppArmor profiles"
    };
    let detail = format!("must not set AppArmor profile type to {}", quoted(&values));
    set_by(&setters, reason, &detail)
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_restricted_since(22) {
        return None;
    }
    let (containers, added) = adding(pod, &USUAL_CAPABILITIES);
    let detail = added_capabilities(&containers, &added);
    violation(&containers, "non-default capabilities", detail)
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let shared: Vec<String> =
        shared.filter(|one| pod.spec[*one] == true).map(|one| format!("{one}=true")).collect();
    violation(&shared, "host namespaces", shared.join(", "))
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_restricted_since(0) {
        return None;
    }
    let volumes = pod.volumes().filter(|volume| !volume["hostPath"].is_null());
    let volumes: Vec<&str> = volumes.map(|volume| text(&volume["name"])).collect();
    violation(&volumes, "hostPath volumes", named("volume", &volumes))
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let containers = pod.containers_where(|container| {
        let open = items(&container["ports"]).filter_map(|port| port["hostPort"].as_i64());
        let open: Vec<String> =
            open.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let bad = !open.is_empty();
        ports.extend(open);
        bad
    });
    let ports: Vec<String> = ports.into_iter().collect();
    let (which, uses) = (named("container", &containers), uses(containers.len()));
    let noun = plural("hostPort", ports.len());
    violation(&containers, "hostPort", format!("{which} {uses} {noun} {}", ports.join(", ")))
}

fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.has(34) {
        return None;
    }
    let mut hosts = BTreeSet::new();
    let containers = pod.containers_where(|container| {
        let hooks = &container["lifecycle"];
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &hooks["postStart"],
            &hooks["preStop"],
        ];
        let asked =
            handlers.into_iter().flat_map(|it| [&it["httpGet"]["host"], &it["tcpSocket"]["host"]]);
        let asked: Vec<&str> = asked.map(text).filter(|host| !host.is_empty()).collect();
        hosts.extend(asked.iter().map(|host| (*host).to_owned()));
        !asked.is_empty()
    });
    let containers: BTreeSet<&str> = containers.into_iter().collect();
    let containers: Vec<&str> = containers.into_iter().collect();
    let hosts: Vec<String> = hosts.into_iter().collect();
    let (which, uses) = (named("container", &containers), uses(containers.len()));
    let noun = plural("probe or lifecycle host", hosts.len());
    let detail = format!("{which} {uses} {noun} {}", quoted(&hosts));
    violation(&containers, "probe or lifecycle host", detail)
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let containers = pod.containers_where(|one| one["securityContext"]["privileged"] == true);
    let which = named("container", &containers);
    let detail = format!("{which} must not set securityContext.privileged=true");
    violation(&containers, "privileged", detail)
}

fn proc_mount_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let relaxed = pod.has(35) && pod.has_users_of_its_own();
    if pod.is_restricted_since(35) || relaxed { None } else { proc_mount(pod) }
}

fn proc_mount_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_restricted_since(35) { proc_mount(pod) } else { None }
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut mounts = BTreeSet::new();
    let containers = pod.containers_where(|container| {
        let mount = container["securityContext"]["procMount"].as_str();
        let mount = mount.filter(|mount| *mount != "Default");
        mounts.extend(mount.map(str::to_owned));
        mount.is_some()
    });
    let mounts: Vec<String> = mounts.into_iter().collect();
    let which = named("container", &containers);
    let detail = format!("{which} must not set securityContext.procMount to {}", quoted(&mounts));
    violation(&containers, "procMount", detail)
}

fn se_linux_options(pod: &Pod<'_>) -> Option<Violation> {
    let (mut types, mut users, mut roles) = (BTreeSet::new(), false, false);
    let setters = pod.setters(|context| {
        let options = &context["seLinuxOptions"];
        let kind = text(&options["type"]);
        let allowed = matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || (kind == "container_engine_t" && pod.has(31));
        types.extend((!allowed).then(|| kind.to_owned()));
        let (user, role) = (!text(&options["user"]).is_empty(), !text(&options["role"]).is_empty());
        users |= user;
        roles |= role;
        !allowed || user || role
    });
    let types: Vec<String> = types.into_iter().collect();
    let mut wrong = Vec::new();
    if !types.is_empty() {
        wrong.push(named("type", &types));
    }
    wrong.extend(users.then(|| "user may not be set".to_owned()));
    wrong.extend(roles.then(|| "role may not be set".to_owned()));
    let detail = format!("set forbidden securityContext.seLinuxOptions: {}", wrong.join("; "));
    set_by(&setters, "seLinuxOptions", &detail)
}

fn seccomp_profile_baseline(pod: &Pod<'_>) -> Option<Violation> {
    match (pod.has(19), pod.is_restricted_since(19)) {
        (_, true) => None,
        (true, false) => seccomp_set(pod),
        (false, false) => seccomp_annotated(pod),
    }
}

fn seccomp_annotated(pod: &Pod<'_>) -> Option<Violation> {
    let containers =
        pod.containers().map(|one| format!("{SECCOMP_CONTAINER}{}", text(&one["name"])));
    let keys = std::iter::once(SECCOMP_POD.to_owned()).chain(containers);
    let said = keys.filter_map(|key| Some((pod.annotations[&key].as_str()?, key)));
    let allowed = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let wrong: BTreeSet<String> = said
        .filter(|(value, _)| !allowed(value))
        .map(|(value, key)| format!("{key}={value:?}"))
        .collect();
    let wrong: Vec<String> = wrong.into_iter().collect();
    let noun = plural("annotation", wrong.len());
    violation(&wrong, "seccompProfile", format!("forbidden {noun} {}", wrong.join(", ")))
}

/// Of a profile that is set, whether it is none.
fn bad_seccomp(context: &Value) -> Option<bool> {
    let profile = Some(&context["seccompProfile"]).filter(|profile| profile.is_object())?;
    Some(!matches!(text(&profile["type"]), "RuntimeDefault" | "Localhost"))
}

fn seccomp_set(pod: &Pod<'_>) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let setters = pod.setters(|context| {
        let bad = bad_seccomp(context) == Some(true);
        types.extend(bad.then(|| text(&context["seccompProfile"]["type"]).to_owned()));
        bad
    });
    let types: Vec<String> = types.into_iter().collect();
    let detail = format!("must not set securityContext.seccompProfile.type to {}", quoted(&types));
    set_by(&setters, "seccompProfile", &detail)
}

fn seccomp_profile_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.is_restricted_since(19) || (pod.has(25) && pod.is_of_windows()) {
        return None;
    }
    let wrong = seccomp_set(pod);
    if wrong.is_some() || bad_seccomp(&pod.spec["securityContext"]) == Some(false) {
        return wrong;
    }
    let unset = pod.containers_where(|one| bad_seccomp(&one["securityContext"]).is_none());
    let which = named("container", &unset);
    let detail = format!(
        r#"pod or {which} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#
    );
    violation(&unset, "seccompProfile", detail)
}

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    let safe =
        |name: &str| SAFE_SYSCTLS.iter().any(|(safe, since)| *safe == name && pod.has(*since));
    let set = items(&pod.spec["securityContext"]["sysctls"]).map(|one| text(&one["name"]));
    let wrong: Vec<&str> = set.filter(|name| !safe(name)).collect();
    violation(&wrong, "forbidden sysctls", wrong.join(", "))
}

fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| context["windowsOptions"]["hostProcess"] == true);
    let detail = "must not set securityContext.windowsOptions.hostProcess=true";
    set_by(&setters, "hostProcess", detail)
}

fn allow_privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.is_restricted_since(8) || (pod.has(25) && pod.is_of_windows()) {
        return None;
    }
    let bad = |one: &Value| one["securityContext"]["allowPrivilegeEscalation"] != false;
    let containers = pod.containers_where(bad);
    let which = named("container", &containers);
    let detail = format!("{which} must set securityContext.allowPrivilegeEscalation=false");
    violation(&containers, "allowPrivilegeEscalation != false", detail)
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.is_restricted_since(22) || (pod.has(25) && pod.is_of_windows()) {
        return None;
    }
    let keeping = pod.containers_where(|container| {
        let dropped = &container["securityContext"]["capabilities"]["drop"];
        !items(dropped).any(|one| one == "ALL")
    });
    let (containers, added) = adding(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let which = named("container", &keeping);
        details.push(format!(r#"{which} must set securityContext.capabilities.drop=["ALL"]"#));
    }
    if !containers.is_empty() {
        details.push(added_capabilities(&containers, &added));
    }
    violation(&details, "unrestricted capabilities", details.join("; "))
}

fn restricted_volumes(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.is_restricted_since(0) {
        return None;
    }
    let mut types = BTreeSet::new();
    let volumes = pod.volumes().filter(|volume| {
        let fields = volume.as_object().into_iter().flatten();
        let sources = fields.filter(|(key, value)| *key != "name" && !value.is_null());
        let mut sources: Vec<&str> = sources.map(|(key, _)| key.as_str()).collect();
        sources.sort_by_key(|source| !RESTRICTED_VOLUMES.contains(source));
        let source = sources.first().copied().unwrap_or("unknown");
        let bad = !RESTRICTED_VOLUMES.contains(&source);
        types.extend(bad.then(|| source.to_owned()));
        bad
    });
    let volumes: Vec<&str> = volumes.map(|volume| text(&volume["name"])).collect();
    let types: Vec<String> = types.into_iter().collect();
    let (which, uses) = (named("volume", &volumes), uses(volumes.len()));
    let detail = format!("{which} {uses} {}", named("restricted volume type", &types));
    violation(&volumes, "restricted volume types", detail)
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.is_restricted_since(0) || (pod.has(35) && pod.has_users_of_its_own()) {
        return None;
    }
    let reason = "runAsNonRoot != true";
    let setters = pod.setters(|context| context["runAsNonRoot"] == false);
    let wrong = set_by(&setters, reason, "must not set securityContext.runAsNonRoot=false");
    if wrong.is_some() || pod.spec["securityContext"]["runAsNonRoot"] == true {
        return wrong;
    }
    let unset = pod.containers_where(|one| one["securityContext"]["runAsNonRoot"] != true);
    let which = named("container", &unset);
    let detail = format!("pod or {which} must set securityContext.runAsNonRoot=true");
    violation(&unset, reason, detail)
}

fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.is_restricted_since(23) || (pod.has(35) && pod.has_users_of_its_own()) {
        return None;
    }
    let setters = pod.setters(|context| context["runAsUser"] == 0);
    set_by(&setters, "runAsUser=0", "must not set runAsUser=0")
}

/// Who adds capabilities beyond these, and which.
fn adding<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, Vec<String>) {
    let mut added = BTreeSet::new();
    let containers = pod.containers_where(|container| {
        let own = items(&container["securityContext"]["capabilities"]["add"]).map(text);
        let own: Vec<&str> = own.filter(|one| !allowed.contains(one)).collect();
        added.extend(own.iter().map(|one| (*one).to_owned()));
        !own.is_empty()
    });
    (containers, added.into_iter().collect())
}

fn added_capabilities(containers: &[&str], added: &[String]) -> String {
    let which = named("container", containers);
    format!("{which} must not include {} in securityContext.capabilities.add", quoted(added))
}

fn violation<T>(by: &[T], reason: &'static str, detail: String) -> Option<Violation> {
    (!by.is_empty()).then_some(Violation { reason, detail })
}

fn set_by(setters: &[String], reason: &'static str, detail: &str) -> Option<Violation> {
    violation(setters, reason, format!("{} {detail}", setters.join(" and ")))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `container "a"`, `containers "a", "b"`
fn named<T: AsRef<str>>(noun: &str, names: &[T]) -> String {
    format!("{} {}", plural(noun, names.len()), quoted(names))
}

fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.as_ref())).collect();
    quoted.join(", ")
}

fn plural(noun: &str, count: usize) -> String {
    format!("{noun}{}", if count == 1 { "" } else { "s" })
}

const fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

#[cfg(test)]
mod tests;
