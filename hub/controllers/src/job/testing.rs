//! Jobs and their pods, of which a test says what it is about.

use freewheel_hub_schema::object::Resource;
use serde_json::{Value, json};

use super::observe::{COMPLETION_INDEX, JobPod, TRACKING_FINALIZER, Wanted};
use crate::testing::stored;

/// A Job `pi` of one completion, with this in its spec.
pub(super) fn job(spec: &Value) -> Wanted {
    job_with(spec, &json!({"startTime": "1970-01-01T00:00:00Z"}))
}

/// The same with this status.
pub(super) fn job_with(spec: &Value, status: &Value) -> Wanted {
    let mut all = json!({"completions": 1, "parallelism": 1, "backoffLimit": 6,
        "template": {"spec": {"containers": [], "restartPolicy": "Never"}}});
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    let value = json!({"metadata": {"name": "pi", "uid": "u"}, "spec": all, "status": status});
    Wanted::read(&stored(&Resource::new("batch", "jobs"), "pi", value)).unwrap()
}

/// A pod in the making that its Job has not counted.
pub(super) struct JobPodBuilder(String, Value);

pub(super) fn pod(name: &str) -> JobPodBuilder {
    let value = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "annotations": {},
        "creationTimestamp": "1970-01-01T00:00:01Z", "finalizers": [TRACKING_FINALIZER]},
        "spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running"}});
    JobPodBuilder(name.to_owned(), value)
}

impl JobPodBuilder {
    pub(super) fn phase(mut self, phase: &str) -> Self {
        self.1["status"]["phase"] = json!(phase);
        self
    }

    pub(super) fn index(self, index: u32) -> Self {
        self.note(COMPLETION_INDEX, index)
    }

    pub(super) fn note(mut self, name: &str, number: u32) -> Self {
        self.1["metadata"]["annotations"][name] = json!(number.to_string());
        self
    }

    /// With this much time left.
    pub(super) fn deleting(mut self, grace: i64) -> Self {
        self.1["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:30Z");
        self.1["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self
    }

    pub(super) fn restarts(mut self, count: i32) -> Self {
        self.1["status"]["containerStatuses"] = json!([{"name": "c", "restartCount": count, "ready": true, "image": "", "imageID": ""}]);
        self
    }

    pub(super) fn exited(mut self, code: i32) -> Self {
        self.1["status"]["containerStatuses"] = json!([{"name": "c", "restartCount": 0, "ready": false,
            "image": "", "imageID": "", "state": {"terminated": {"exitCode": code}}}]);
        self.phase(if code == 0 { "Succeeded" } else { "Failed" })
    }

    pub(super) fn counted(mut self) -> Self {
        self.1["metadata"]["finalizers"] = json!([]);
        self
    }

    pub(super) fn done(self) -> JobPod {
        JobPod::read(stored(&Resource::new("", "pods"), &self.0, self.1)).unwrap()
    }
}
