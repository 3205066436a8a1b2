//! A pod's life as `kubectl` shows it: crashes, init containers, configuration, sidecars, refusals.

mod probes;

use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually};

const CONFIG: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {greeting: one, PLAIN: from-all}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
";

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  containers: [{name: c, image: 'kit:v1', args: [exit, '3']}]
---
apiVersion: v1
kind: Pod
metadata: {name: returns}
spec:
  restartPolicy: Never
  containers: [{name: c, image: 'kit:v1', args: [return, '7']}]
---
apiVersion: v1
kind: Pod
metadata: {name: hoarder}
spec:
  volumes: [{name: v, emptyDir: {sizeLimit: 4Mi}}]
  containers:
    - {name: c, image: 'kit:v1', args: [fill, /v/file, '5'], volumeMounts: [{name: v, mountPath: /v}]}
---
apiVersion: v1
kind: Pod
metadata: {name: spread}
spec:
  restartPolicy: Never
  volumes: [{name: v, emptyDir: {}}]
  containers:
    - name: c
      image: 'kit:v1'
      args: [fill, /v/file, '5']
      resources: {limits: {ephemeral-storage: 4Mi}}
      volumeMounts: [{name: v, mountPath: /v}]
---
apiVersion: v1
kind: Pod
metadata: {name: modest}
spec:
  volumes: [{name: v, emptyDir: {sizeLimit: 8Mi}}]
  containers:
    - name: c
      image: 'kit:v1'
      args: [fill, /v/file, '5']
      resources: {limits: {ephemeral-storage: 8Mi}}
      volumeMounts: [{name: v, mountPath: /v}]
---
apiVersion: v1
kind: Pod
metadata: {name: init-crash}
spec:
  initContainers: [{name: i, image: 'kit:v1', args: [exit, '4']}]
  containers: [{name: c, image: 'kit:v1', args: [tick]}]
---
apiVersion: v1
kind: Pod
metadata: {name: init-fails}
spec:
  restartPolicy: Never
  initContainers: [{name: i, image: 'kit:v1', args: [exit, '4']}]
  containers: [{name: c, image: 'kit:v1', args: [tick]}]
---
apiVersion: v1
kind: Pod
metadata: {name: env, labels: {tier: front}, annotations: {note: hi}}
spec:
  restartPolicy: Never
  containers:
    - name: c
      image: 'kit:v1'
      args: [env]
      envFrom: [{configMapRef: {name: conf}, prefix: C_}]
      env:
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: conf, key: greeting}}}
        - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
        - {name: NONE, valueFrom: {configMapKeyRef: {name: absent, key: a, optional: true}}}
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: TIER, valueFrom: {fieldRef: {fieldPath: 'metadata.labels[''tier'']'}}}
        - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
        - {name: ALL, value: '$(GREETING) $(POD) $$(POD) $(UNKNOWN)'}
      resources: {limits: {memory: 64Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: live}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, configMap: {name: conf}}]
  containers:
    - {name: c, image: 'kit:v1', args: [watch, /conf/greeting], volumeMounts: [{name: v, mountPath: /conf}]}
---
apiVersion: v1
kind: Pod
metadata: {name: itself, labels: {tier: front}}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
    - name: v
      projected:
        sources:
          - configMap: {name: conf}
          - downwardAPI:
              items:
                - {path: labels, fieldRef: {fieldPath: metadata.labels}}
                - {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}
  containers:
    - {name: c, image: 'kit:v1', args: [watch, /pod/labels], volumeMounts: [{name: v, mountPath: /pod}]}
---
apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
    - name: side
      image: 'kit:v1'
      args: [keep, /out/word, from-the-sidecar]
      restartPolicy: Always
      volumeMounts: [{name: v, mountPath: /out}]
  containers:
    - {name: c, image: 'kit:v1', args: [wait, /in/word], volumeMounts: [{name: v, mountPath: /in}]}
---
apiVersion: v1
kind: Pod
metadata: {name: known}
spec:
  restartPolicy: Never
  containers: [{name: c, image: 'kit:v1', args: [cat, /var/run/secrets/kubernetes.io/serviceaccount/token]}]
---
apiVersion: v1
kind: Pod
metadata: {name: inline}
spec:
  volumes: [{name: v, csi: {driver: inline.example.com}}]
  containers: [{name: c, image: 'kit:v1', args: [tick], volumeMounts: [{name: v, mountPath: /v}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: annotated}
spec:
  containers: [{name: c, image: 'kit:v1', args: [tick]}]
---
apiVersion: v1
kind: Pod
metadata: {name: lacks-config}
spec:
  restartPolicy: Never
  containers: [{name: c, image: 'kit:v1', args: [env], envFrom: [{configMapRef: {name: late}}]}]
";

/// One container that swaps what the others, which start again and again, mount of their volume.
fn shuffled() -> String {
    let peek = |name: usize| {
        format!(
            "{{name: p{name}, image: 'zoo:v1', args: [peek], volumeMounts: [\
             {{name: v, mountPath: /p, subPath: s}}, \
             {{name: v, mountPath: /k/key.der, subPath: s/key.der}}]}}"
        )
    };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: shuffled}}, spec: {{volumes: [{{name: v, emptyDir: {{}}}}], \
         terminationGracePeriodSeconds: 1, containers: [{{name: c, image: 'zoo:v1', args: [shuffle], \
         volumeMounts: [{{name: v, mountPath: /v}}]}}, {}]}}}}",
        PEEKERS.map(peek).join(", ")
    )
}

const PEEKERS: [usize; 6] = [0, 1, 2, 3, 4, 5];

#[test]
fn pods_live_as_kubectl_users_know_it() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(CONFIG);
    kubectl.apply(PODS);
    fleet.push("zoo", "zoo:v1");
    kubectl.apply(&shuffled());
    environment(&kubectl);
    happened_in_order(&kubectl);
    live_configuration(&kubectl);
    shared_folder(&kubectl);
    account(&kubectl);
    refusal(&kubectl);
    missing_configuration(&kubectl);
    crash_loop(&kubectl);
    init_containers(&kubectl);
    exit_codes(&kubectl);
    evictions(&kubectl);
    device(&kubectl);
    nothing_outside_of_a_volume_is_read(&kubectl);
}

/// Waits until a command's output has all these parts.
#[track_caller]
fn shows(kubectl: &Kubectl, arguments: &[&str], parts: &[&str]) -> String {
    eventually(&format!("{arguments:?} shows {parts:?}"), PATIENCE, || {
        let said = kubectl.try_run(arguments);
        if said.ok && parts.iter().all(|part| said.out.contains(part)) {
            Ok(said.out)
        } else {
            Err(format!("{}{}", said.out, said.err))
        }
    })
}

fn environment(kubectl: &Kubectl) {
    let _ = shows(kubectl, &["get", "pod", "env"], &["Completed"]);
    let env = kubectl.run(&["logs", "env"]);
    let ip = kubectl.run(&["get", "pod", "env", "-o", "jsonpath={.status.podIP}"]);
    for line in [
        "C_PLAIN=from-all",
        "C_greeting=one",
        "GREETING=one",
        "TOKEN=s3cret",
        "POD=env",
        "NODE=pi-1",
        "TIER=front",
        "LIMIT=64",
        "ALL=one env $(POD) $(UNKNOWN)",
        "KUBERNETES_SERVICE_HOST=10.128.0.1",
        &format!("POD_IP={ip}"),
    ] {
        assert!(env.lines().any(|l| l == line), "{line} is missing in:\n{env}");
    }
    assert!(!env.contains("NONE="), "{env}");
}

/// Events of one moment stand in the order in which they happened.
fn happened_in_order(kubectl: &Kubectl) {
    let text =
        shows(kubectl, &["describe", "pod", "env"], &["Scheduled", "Pulled", "Created", "Started"]);
    let events = text.split("Events:").nth(1).expect("events");
    let places: Vec<usize> = ["Scheduled", "Pulled", "Created", "Started"]
        .iter()
        .map(|reason| events.find(reason).expect("the event"))
        .collect();
    assert!(places.is_sorted(), "{events}");
}

fn live_configuration(kubectl: &Kubectl) {
    let _ = shows(kubectl, &["logs", "live"], &["one"]);
    kubectl.does(&["patch", "configmap", "conf", "-p", "{\"data\":{\"greeting\":\"two\"}}"]);
    let said = shows(kubectl, &["logs", "live"], &["two"]);
    assert_eq!(said, "one\ntwo\n");
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(kubectl.run(&["get", "pod", "live", "-o", restarts]), "0");
    let _ = shows(kubectl, &["logs", "itself"], &["tier=\"front\""]);
    kubectl.does(&["label", "pod", "itself", "tier=back", "--overwrite"]);
    let said = shows(kubectl, &["logs", "itself"], &["back"]);
    assert_eq!(said, "tier=\"front\"\ntier=\"back\"\n");
}

fn shared_folder(kubectl: &Kubectl) {
    // The container ends by itself; then the sidecar is stopped, and the pod has succeeded.
    let _ = shows(kubectl, &["get", "pod", "shared"], &["Completed", "0/2"]);
    assert_eq!(kubectl.run(&["logs", "shared", "-c", "c"]), "from-the-sidecar\n");
}

/// What a pod reads as its token is the one of its account, and bound to it.
fn account(kubectl: &Kubectl) {
    let _ = shows(kubectl, &["get", "pod", "known"], &["Completed"]);
    let token = kubectl.run(&["logs", "known"]);
    let review = format!(
        "{{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {{token: {token}}}}}"
    );
    let said = kubectl.try_apply(&["create", "-f", "-", "-o", "json"], &review);
    for part in
        ["system:serviceaccount:default:default", "authentication.kubernetes.io/pod-name", "known"]
    {
        assert!(said.ok && said.out.contains(part), "{part}: {}{}", said.out, said.err);
    }
}

fn refusal(kubectl: &Kubectl) {
    let _ = shows(kubectl, &["describe", "pod", "inline"], &["UnsupportedField", "volume \"v\""]);
    kubectl.does(&["delete", "pod", "inline", "--timeout=20s"]);
    let said =
        kubectl.try_run(&["debug", "live", "--image=kit:v1", "--target=c", "--container=eye"]);
    assert!(
        said.ok && said.err.contains("spokes start no further containers"),
        "{}{}",
        said.out,
        said.err
    );
    let _ = shows(
        kubectl,
        &["describe", "pod", "live"],
        &["UnsupportedField", "\"eye\" will not start"],
    );
    let said = kubectl.try_run(&["logs", "live", "--all-containers"]);
    assert!(said.ok && said.err.contains("cannot start"), "{}{}", said.out, said.err);
    // Who would sit at it is told, and not kept waiting.
    let asked = ["debug", "-i", "live", "--image=kit:v1", "--target=c", "--container=ear"];
    let said = kubectl.try_run(&asked);
    let why = "container \"ear\" in pod \"live\" cannot start: spokes start no further containers";
    assert!(said.err.contains(why), "{}{}", said.out, said.err);
    // A typing error is told at once, and what runs goes on.
    let _ = shows(kubectl, &["get", "pod", "annotated"], &["Running"]);
    let key = "freewheel.dev/http-instance-reuse";
    let said = kubectl.fails(&["annotate", "pod", "annotated", &format!("{key}=many")]);
    let at = format!("metadata.annotations[{key}]: Invalid value: \"many\"");
    assert!(said.contains(&at), "{said}");
    let _ = shows(kubectl, &["get", "pod", "annotated"], &["Running"]);
    kubectl.does(&["delete", "pod", "annotated", "--wait=false"]);
}

fn missing_configuration(kubectl: &Kubectl) {
    let parts = ["CreateContainerConfigError", "configmap \"late\" not found"];
    let _ = shows(kubectl, &["describe", "pod", "lacks-config"], &parts);
    kubectl.does(&["create", "configmap", "late", "--from-literal=LATE=better"]);
    let _ = shows(kubectl, &["get", "pod", "lacks-config"], &["Completed"]);
    assert!(kubectl.run(&["logs", "lacks-config"]).contains("LATE=better"));
}

fn crash_loop(kubectl: &Kubectl) {
    let _ = shows(kubectl, &["get", "pod", "crash"], &["CrashLoopBackOff"]);
    let parts =
        ["Back-off restarting failed container c", "Reason:       Error", "Exit Code:    3"];
    let _ = shows(kubectl, &["describe", "pod", "crash"], &parts);
    let why = "jsonpath={.status.containerStatuses[0].state.waiting.message}";
    let _ = shows(kubectl, &["get", "pod", "crash", "-o", why], &["restarting failed container=c"]);
    // It goes on: after 10 s the next start, after 20 s more the one after that.
    let path = "jsonpath={.status.containerStatuses[0].restartCount}";
    eventually("restarts are counted", Duration::from_secs(30), || {
        let count = kubectl.run(&["get", "pod", "crash", "-o", path]);
        if count.parse::<u32>().is_ok_and(|count| 2 <= count) { Ok(()) } else { Err(count) }
    });
    // What repeats is one event that counts.
    let text = shows(kubectl, &["describe", "pod", "crash"], &["x2 over"]);
    assert_eq!(text.matches("Started container c").count(), 1, "{text}");
}

fn init_containers(kubectl: &Kubectl) {
    let _ = shows(kubectl, &["get", "pod", "init-crash"], &["Init:CrashLoopBackOff", "0/1"]);
    let _ = shows(kubectl, &["get", "pod", "init-fails"], &["Init:Error", "0/1"]);
    let phase = kubectl.run(&["get", "pod", "init-fails", "-o", "jsonpath={.status.phase}"]);
    assert_eq!(phase, "Failed");
    assert!(kubectl.fails(&["logs", "init-fails"]).contains("PodInitializing"));
}

/// `std::process::exit(3)` and what `main` returns, where a program is built with the SDK.
fn exit_codes(kubectl: &Kubectl) {
    for (pod, path, code) in [
        ("crash", "lastState.terminated", "3"),
        ("returns", "state.terminated", "7"),
        ("env", "state.terminated", "0"),
    ] {
        let path = format!("jsonpath={{.status.containerStatuses[0].{path}.exitCode}}");
        let _ = shows(kubectl, &["get", "pod", pod, "-o", &path], &[code]);
    }
    let path = "jsonpath={.status.initContainerStatuses[0].state.terminated.exitCode}";
    let _ = shows(kubectl, &["get", "pod", "init-fails", "-o", path], &["4"]);
}

/// Who has more on the disk than it may goes, with kubelet's words; its neighbour stays.
fn evictions(kubectl: &Kubectl) {
    for (pod, why) in [
        ("hoarder", "Usage of EmptyDir volume \"v\" exceeds the limit \"4Mi\"."),
        ("spread", "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi."),
    ] {
        let reason = ["get", "pod", pod, "-o", "jsonpath={.status.phase} {.status.reason}"];
        let _ = shows(kubectl, &reason, &["Failed Evicted"]);
        let parts =
            ["Status:           Failed", "Reason:           Evicted", why, "DisruptionTarget"];
        let _ = shows(kubectl, &["describe", "pod", pod], &parts);
        // It may have had to go before it said so.
        let log = kubectl.run(&["logs", pod]);
        assert!(["wrote 5 MiB\n", ""].contains(&&*log), "its log can still be read: {log}");
    }
    let _ = shows(kubectl, &["get", "pod", "modest"], &["Running", "1/1"]);
}

/// Whatever a neighbour does with the names in a volume while it is mounted.
fn nothing_outside_of_a_volume_is_read(kubectl: &Kubectl) {
    eventually("all have looked twice, and seen what is theirs", 3 * PATIENCE, || {
        let mut said = String::new();
        let mut twice = 0;
        for name in PEEKERS {
            let container = format!("p{name}");
            let own = kubectl.try_run(&["logs", "shuffled", "-c", &container]).out;
            let before = kubectl.try_run(&["logs", "shuffled", "-c", &container, "-p"]).out;
            twice += usize::from(own.contains("peek: ") && before.contains("peek: "));
            said = said + &own + &before;
        }
        assert!(!said.contains("ESCAPED"), "{said}");
        let whole = said.matches("peek: 2 of its own").count();
        if twice == PEEKERS.len() && 0 < whole { Ok(()) } else { Err(said) }
    });
}

/// What guests may have is less than what the device has, and neither is nothing.
fn device(kubectl: &Kubectl) {
    let amount = |list: &str, what: &str| -> u64 {
        let path = format!("jsonpath={{.status.{list}.{what}}}");
        let said = kubectl.run(&["get", "node", "pi-1", "-o", &path]);
        let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1000), ("", 1)];
        let read = |(unit, size)| Some(said.strip_suffix(unit)?.parse::<u64>().ok()? * size);
        units.into_iter().find_map(read).unwrap_or_else(|| panic!("{list} {what}: {said}"))
    };
    for what in ["memory", "ephemeral-storage"] {
        let (has, gives) = (amount("capacity", what), amount("allocatable", what));
        assert!(0 < gives && gives < has, "{what}: {gives} of {has}");
    }
    assert_eq!(amount("capacity", "pods"), amount("allocatable", "pods"));
}
