//! What kubectl shows of a pod's state: computed from containers, as its own printer does.

use freewheel_hub_schema::time;
use serde_json::{Value, json};

use super::super::accessors::{condition, flag, int, list, text};

/// Cells of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Ready containers, restartable init containers included.
    pub(super) ready: usize,
    /// All of those.
    pub(super) containers: usize,
    /// `Running`, `Init:0/1`, `CrashLoopBackOff`, …
    pub(super) reason: String,
    /// `3 (5m ago)`
    pub(super) restarts: String,
}

/// Rows of pods that are over say so, and clients may hide them.
pub(super) fn completed(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}

/// Restarts so far and the last moment of one.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += int(container, "/restartCount");
        let finished = time::parse_unix(text(container, "/lastState/terminated/finishedAt"));
        self.last = self.last.max(finished);
    }
}

/// Reads a pod at `now` (Unix seconds).
pub(super) fn shown(pod: &Value, now: i64) -> Shown {
    let sidecars: Vec<&str> = list(pod, "/spec/initContainers")
        .iter()
        .filter(|c| text(c, "/restartPolicy") == "Always")
        .map(|c| text(c, "/name"))
        .collect();
    let containers = list(pod, "/spec/containers").len() + sidecars.len();
    let mut reason = phase(pod);
    let init = initialising(pod, &sidecars);
    let mut ready = init.ready;
    let mut restarts = init.restarts;
    if let Some(found) = &init.reason {
        reason.clone_from(found);
    }
    let initialised = condition(pod, "Initialized").is_some_and(|c| text(c, "/status") == "True");
    if init.reason.is_none() || initialised {
        restarts = init.sidecar_restarts;
        let mut running = false;
        for container in list(pod, "/status/containerStatuses").iter().rev() {
            restarts.add(container);
            match container_reason(container) {
                Some(found) => reason = found,
                None if flag(container, "/ready") && state(container, "running").is_some() => {
                    running = true;
                    ready += 1;
                }
                None => {}
            }
        }
        if reason == "Completed" && running {
            let ready = condition(pod, "Ready").is_some_and(|c| text(c, "/status") == "True");
            reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        if text(pod, "/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut reason);
        } else if !over {
            "Terminating".clone_into(&mut reason);
        }
    }
    let ago = restarts.last.filter(|_| restarts.count != 0);
    let restarts = match ago {
        Some(last) => format!("{} ({} ago)", restarts.count, time::human(now - last)),
        None => restarts.count.to_string(),
    };
    Shown { ready, containers, reason, restarts }
}

fn phase(pod: &Value) -> String {
    let gated =
        condition(pod, "PodScheduled").is_some_and(|c| text(c, "/reason") == "SchedulingGated");
    let reason = text(pod, "/status/reason");
    match reason {
        _ if gated => "SchedulingGated",
        "" => text(pod, "/status/phase"),
        reason => reason,
    }
    .to_owned()
}

/// How far the init containers are.
#[derive(Default)]
struct Init {
    /// Set while they are not through.
    reason: Option<String>,
    ready: usize,
    restarts: Restarts,
    sidecar_restarts: Restarts,
}

fn initialising(pod: &Value, sidecars: &[&str]) -> Init {
    let mut init = Init::default();
    for (i, container) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
        let sidecar = sidecars.contains(&text(container, "/name"));
        init.restarts.add(container);
        if sidecar {
            init.sidecar_restarts.add(container);
        }
        let ended = state(container, "terminated");
        if ended.is_some_and(|t| int(t, "/exitCode") == 0) {
            continue;
        }
        if sidecar && flag(container, "/started") {
            init.ready += usize::from(flag(container, "/ready"));
            continue;
        }
        let waiting = state(container, "waiting").map_or("", |w| text(w, "/reason"));
        init.reason = Some(match (ended, waiting) {
            (Some(ended), _) => format!("Init:{}", ended_reason(ended)),
            (None, "" | "PodInitializing") => {
                format!("Init:{i}/{}", list(pod, "/spec/initContainers").len())
            }
            (None, waiting) => format!("Init:{waiting}"),
        });
        break;
    }
    init
}

fn state<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    container.get("state")?.get(name).filter(|v| !v.is_null())
}

fn container_reason(container: &Value) -> Option<String> {
    let waiting = state(container, "waiting").map_or("", |w| text(w, "/reason"));
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    state(container, "terminated").map(ended_reason)
}

fn ended_reason(ended: &Value) -> String {
    match (text(ended, "/reason"), int(ended, "/signal")) {
        ("", 0) => format!("ExitCode:{}", int(ended, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One container in this state, in a pod of this phase.
    fn pod(phase: &str, status: Value) -> Value {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": phase}});
        pod["status"]["containerStatuses"] = Value::Array(vec![status]);
        pod
    }

    #[track_caller]
    fn check(pod: &Value, ready: usize, reason: &str, restarts: &str) {
        let shown = shown(pod, 600);
        assert_eq!((shown.ready, shown.reason.as_str()), (ready, reason));
        assert_eq!(shown.restarts, restarts);
    }

    #[test]
    fn containers_decide_what_is_shown() {
        check(
            &json!({"spec": {"containers": [{}]}, "status": {"phase": "Pending"}}),
            0,
            "Pending",
            "0",
        );
        let up = json!({"ready": true, "state": {"running": {}}});
        check(&pod("Running", up.clone()), 1, "Running", "0");
        let waiting = json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "1970-01-01T00:05:00Z"}}});
        check(&pod("Running", waiting), 0, "CrashLoopBackOff", "3 (5m ago)");
        let ended = |state: Value| json!({"state": {"terminated": state}});
        check(&pod("Succeeded", ended(json!({"reason": "Completed"}))), 0, "Completed", "0");
        check(
            &pod("Failed", ended(json!({"reason": "OOMKilled", "exitCode": 137}))),
            0,
            "OOMKilled",
            "0",
        );
        check(&pod("Failed", ended(json!({"exitCode": 3}))), 0, "ExitCode:3", "0");
        check(&pod("Failed", ended(json!({"signal": 9}))), 0, "Signal:9", "0");
        let mut going = pod("Running", up);
        going["metadata"] = json!({"deletionTimestamp": "1970-01-01T00:00:00Z"});
        check(&going, 1, "Terminating", "0");
        going["status"]["phase"] = json!("Succeeded");
        check(&going, 1, "Succeeded", "0");
    }

    #[test]
    fn a_finished_container_does_not_hide_a_running_one() {
        let mut both = json!({
            "spec": {"containers": [{}, {}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"state": {"terminated": {"reason": "Completed"}}},
                {"ready": true, "state": {"running": {}}},
            ]},
        });
        check(&both, 1, "NotReady", "0");
        both["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        check(&both, 1, "Running", "0");
    }

    #[test]
    fn init_containers_come_first() {
        let mut pod = json!({
            "spec": {"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}], "containers": [{}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"running": {}}},
                {"name": "s", "state": {"waiting": {"reason": "PodInitializing"}}},
            ]},
        });
        check(&pod, 0, "Init:0/2", "0");
        pod["status"]["initContainerStatuses"][0]["state"] =
            json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        check(&pod, 0, "Init:Error", "0");
        pod["status"]["initContainerStatuses"][0]["state"] =
            json!({"waiting": {"reason": "CrashLoopBackOff"}});
        check(&pod, 0, "Init:CrashLoopBackOff", "0");
        pod["status"]["initContainerStatuses"] = json!([
            {"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 0}}},
            {"name": "s", "started": true, "ready": true, "state": {"running": {}}},
        ]);
        pod["status"]["phase"] = json!("Running");
        pod["status"]["containerStatuses"] = json!([{"ready": true, "state": {"running": {}}}]);
        check(&pod, 2, "Running", "0");
        assert_eq!(shown(&pod, 0).containers, 2);
    }
}
