//! Pods that have ended, pods of which some containers have, and pods that no device takes on.

use freewheel_link::ended::{ContainerEndedV1, ContainersEndedV1};
use freewheel_link::plan::{PodEndedV1, PodOsV1};
use freewheel_link::report::TerminatedV1;

use super::*;

#[test]
fn a_pod_that_has_ended_says_so_in_its_record() {
    let ended = |status: &Value| {
        let mut value = pod("a", &json!({"restartPolicy": "Never"}));
        value["status"] = status.clone();
        translate(&value).unwrap().1.parts.get::<PodEndedV1>().unwrap()
    };
    for phase in ["Pending", "Running", "Unknown"] {
        assert_eq!(ended(&json!({"phase": phase, "reason": "Evicted"})), None, "{phase}");
    }
    let done = PodEndedV1 { failed: false, reason: String::new(), message: String::new() };
    assert_eq!(ended(&json!({"phase": "Succeeded"})), Some(done));
    let status = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
    let (reason, message) = ("Evicted".to_owned(), "low on memory".to_owned());
    assert_eq!(ended(&status), Some(PodEndedV1 { failed: true, reason, message }));
}

#[test]
fn a_container_that_has_ended_in_a_pod_that_lives_on_is_in_its_record() {
    let ended = |policy: &str, phase: &str, code: i32| {
        let mut value = pod("a", &json!({"restartPolicy": policy}));
        let terminated = json!({
            "exitCode": code, "reason": "Completed", "startedAt": "1970-01-01T00:00:01Z",
            "finishedAt": "1970-01-01T00:05:00Z",
        });
        let status = |name: &str, state: Value| {
            json!({"name": name, "restartCount": 2, "image": "i", "imageID": "", "ready": false,
                "state": state})
        };
        value["status"] = json!({"phase": phase, "containerStatuses": [
            status("job", json!({"terminated": terminated})), status("web", json!({"running": {}})),
        ]});
        let parts = translate(&value).unwrap().1.parts;
        parts.get::<ContainersEndedV1>().unwrap().map(|ended| ended.containers)
    };
    let how = TerminatedV1 {
        code: 0,
        signal: 0,
        reason: "Completed".to_owned(),
        message: String::new(),
        started: 1000,
        finished: 300_000,
    };
    let job = ContainerEndedV1 { name: "job".to_owned(), restarts: 2, how };
    assert_eq!(ended("OnFailure", "Running", 0), Some(vec![job]));
    assert_eq!(ended("OnFailure", "Running", 1), None, "it is started again");
    assert_eq!(ended("Never", "Running", 1).unwrap().len(), 1);
    assert_eq!(ended("Always", "Running", 0), None);
    assert_eq!(ended("Never", "Failed", 1), None, "the pod says it all");
}

#[test]
fn a_pod_for_another_system_says_so_in_its_record() {
    let os = |spec: Value| translate(&pod("a", &spec)).unwrap().1.parts.get::<PodOsV1>().unwrap();
    let windows = PodOsV1 { name: "windows".to_owned() };
    assert_eq!(os(json!({"os": {"name": "windows"}})), Some(windows));
    assert_eq!((os(json!({"os": {"name": "linux"}})), os(json!({}))), (None, None));
}
