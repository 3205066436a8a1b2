//! Pod: containers that share an address, bound to one spoke.
//!
//! ```text
//! pod               what is special about pods as objects
//! pod/subresources  by which one thing of a spec changes
//! pod/quota         what they count for in quotas
//! pod/status        the STATUS, READY and RESTARTS that kubectl shows
//! pod_spec/         defaults, validation and field classes, shared with pod templates
//! ```
//!
//! Guarantees:
//! - spec.nodeName is set once, through the door `binding` where the pod was not made with one
//!   (`a_binding_keeps_its_condition_and_moves_nothing_else`, `a_pod_changes_little`);
//! - an annotation that means something to a device says what it can take (`an_annotation_with_a_meaning_has_one`);
//! - of what runs, nothing but the image changes under a pod's feet (`a_pod_changes_little`).

mod quota;
mod status;
mod subresources;

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, Concern, FieldPaths, Kind, READ_WRITE, Strategy, Trait, keep_metadata, keep_other_half,
};
use freewheel_hub_schema::quantity::Quantity;
use serde_json::{Value, json};

use super::accessors::{
    AGE, NAME, age, child, column, condition, flag, list, name, set_default, text, text_or, wide,
};
use super::node::PROXY;
use super::pod_spec;
use crate::http_annotations;
use crate::pins::RESOLVED;

pub use pod_spec::qos_class;

/// How long every pod tolerates that its Node is not heard of, unless it says something else. That it is said
/// at all is for other people's tools: the hub evicts nobody by it who has not said the same.
pub const TOLERATED_SECONDS: i64 = 300;

/// Annotation of pods that were made with the very tolerations that others get: for which taints, with commas between.
/// The hub's own: nobody else puts it there or takes it off.
pub const OWN_TOLERATIONS: &str = "freewheel.dev/own-tolerations";

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "Ready containers of all."),
    column("Status", "string", "What it is doing, or what is wrong with it."),
    column("Restarts", "string", "How often its containers were started again, and when last."),
    AGE,
    wide("IP", "string", "Its address."),
    wide("Node", "string", "Where it runs."),
    wide("Nominated Node", "string", "Where room is being made for it."),
    wide("Readiness Gates", "string", "Conditions met of those that its readiness waits for."),
];
const FIELDS: &[&str] = &[
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
];

/// Pod of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "Pod"), "pods", Rules)
        .short(["po"])
        .category(["all"])
        .subresource_of("binding", "Binding", &["create"])
        .foreign_subresource("eviction", Gvk::new("policy", "v1", "Eviction"), &["create"])
        .subresource("ephemeralcontainers", READ_WRITE)
        .subresource("log", &["get"])
        .subresource_of("portforward", "PodPortForwardOptions", &["create", "get"])
        .subresource("resize", READ_WRITE)
        .with_status()
        .concerns(Concern::ItsNode)
        .columns(COLUMNS)
        .fields(FIELDS.iter().copied())
        .aliases([("status.podIPs", "status.podIP"), ("spec.host", "spec.nodeName")])
        .keeps(RESOLVED)
        .with(&[Trait::GoesFirst, Trait::RunsOnNodes, Trait::ShowsTheDeleted])
        .subresource_of("proxy", "PodProxyOptions", PROXY)
        .subresource_of("exec", "PodExecOptions", &["create", "get"])
        .subresource_of("attach", "PodAttachOptions", &["create", "get"])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        pod_spec::default(spec);
        set_default(spec, "enableServiceLinks", true);
        // Who names none gets one by admission.
        let account = spec.get("serviceAccountName").or_else(|| spec.get("serviceAccount"));
        if let Some(account) = account.cloned() {
            spec.insert("serviceAccount".to_owned(), account.clone());
            spec.insert("serviceAccountName".to_owned(), account);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        let class = qos_class(object.get("spec").unwrap_or(&Value::Null));
        let gated = !list(object, "/spec/schedulingGates").is_empty();
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if gated {
            // kubectl shows the reason; who binds the pod replaces the condition.
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "observedGeneration": 1,
            }]);
        }
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), status);
        }
    }

    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        // A binding writes its own condition together with spec.nodeName.
        if subresource == Some("binding") {
            return;
        }
        if let Some(door @ ("ephemeralcontainers" | "resize")) = subresource {
            return subresources::keep_the_rest(door, new, old);
        }
        keep_other_half(subresource, new, old);
        if subresource == Some("status") {
            // Whoever runs a pod never decides what deletes it.
            keep_metadata(new, old, "ownerReferences");
            keep_observed(new, old);
        }
        // The class follows from requests and limits, which do not change.
        let class = old.pointer("/status/qosClass").cloned();
        if let (Some("status"), Some(class), Some(status)) =
            (subresource, class, child(new, "status"))
        {
            status.insert("qosClass".to_owned(), class);
        }
    }

    fn reset_fields(&self, subresource: Option<&str>) -> FieldPaths {
        match subresource {
            Some("status") => {
                &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
            }
            Some("ephemeralcontainers" | "resize") => subresources::RESET,
            Some(_) => &[],
            None => &[&["status"]],
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = pod_spec::check(object.get("spec").unwrap_or(&Value::Null), "spec");
        let gated = !list(object, "/spec/schedulingGates").is_empty();
        if gated && !text(object, "/spec/nodeName").is_empty() {
            let text = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden("spec.nodeName", text));
        }
        errors
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = check_annotations(object, &Value::Null);
        if !list(object, "/spec/ephemeralContainers").is_empty() {
            let at = "spec.ephemeralContainers";
            errors.push(FieldError::forbidden(at, "cannot be set on create"));
        }
        errors
    }

    fn validate_update(
        &self,
        subresource: Option<&str>,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let mut errors = check_annotations(new, old);
        errors.extend(match subresource {
            None => pod_spec::check_update(new, old),
            Some("binding") => check_binding(new, old).into_iter().collect(),
            Some(door @ ("ephemeralcontainers" | "resize")) => subresources::check(door, new, old),
            Some(_) => Vec::new(),
        });
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        pod_spec::warnings(object.get("spec").unwrap_or(&Value::Null), "spec")
    }

    fn subresource_warning(&self, subresource: &str) -> Option<&'static str> {
        (subresource == "resize").then_some(
            "spec.containers[*].resources: a container that runs keeps its limits; those of its next start are the new \
             ones",
        )
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        for field in FIELDS {
            let value = match *field {
                "spec.hostNetwork" => flag(object, "/spec/hostNetwork").to_string(),
                field => text(object, &format!("/{}", field.replace('.', "/"))).to_owned(),
            };
            fields.insert((*field).to_owned(), value);
        }
        fields
    }

    /// Nobody waits for the account that a controller gives to every namespace.
    fn account<'a>(&self, object: &'a Value) -> Option<&'a str> {
        Some(text_or(object, "/spec/serviceAccountName", "default"))
    }

    fn row_condition(&self, object: &Value) -> Option<Value> {
        status::completed(object)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let shown = status::shown(object, now);
        vec![
            name(object),
            format!("{}/{}", shown.ready, shown.containers).into(),
            shown.reason.into(),
            shown.restarts.into(),
            age(object, now),
            text_or(object, "/status/podIP", "<none>").into(),
            text_or(object, "/spec/nodeName", "<none>").into(),
            text_or(object, "/status/nominatedNodeName", "<none>").into(),
            gates(object).into(),
        ]
    }

    fn grace_period(&self, object: &Value) -> Option<i64> {
        let seconds = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
        // What nobody runs has nobody to wait for, and neither has what is over.
        let over = matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
        if text(object, "/spec/nodeName").is_empty() || over {
            Some(0)
        } else {
            seconds.or(Some(30))
        }
    }

    fn is_quota_name(&self, name: &str) -> bool {
        quota::is_name(name)
    }

    fn quota_usage(&self, object: &Value) -> BTreeMap<String, Quantity> {
        quota::usage(object)
    }

    fn is_in_quota_scope(&self, scope: &Value, object: &Value) -> bool {
        quota::is_in_scope(scope, object)
    }

    fn unsaid_for_quota(&self, names: &BTreeSet<&str>, object: &Value) -> Option<String> {
        quota::unsaid(names, object)
    }
}

/// Whoever leaves out what was seen last has not seen less.
fn keep_observed(new: &mut Value, old: &Value) {
    let seen = |value: &Value| value.get("observedGeneration").filter(|n| **n != json!(0)).cloned();
    let Some(status) = new.get_mut("status").filter(|status| status.is_object()) else { return };
    if let (None, Some(was)) = (seen(status), old.get("status").and_then(&seen)) {
        status["observedGeneration"] = was;
    }
    let mut before: Vec<&Value> = list(old, "/status/conditions").iter().collect();
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter(|condition| condition.is_object()) {
        // Several of one type pair off in their order.
        let at = before.iter().position(|was| was.get("type") == condition.get("type"));
        let was = at.map(|at| before.remove(at)).and_then(&seen);
        if let (None, Some(was)) = (seen(condition), was) {
            condition["observedGeneration"] = was;
        }
    }
}

/// A typing error is refused here: on a device it could but be left out.
fn check_annotations(new: &Value, old: &Value) -> Vec<FieldError> {
    http_annotations::check(&new["metadata"], &old["metadata"], "metadata")
}

/// The door `binding` names the node, once, and changes nothing else of the spec.
fn check_binding(new: &Value, old: &Value) -> Option<FieldError> {
    let bare = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        spec.as_object_mut().and_then(|spec| spec.remove("nodeName"));
        spec
    };
    let before = text(old, "/spec/nodeName");
    if !before.is_empty() && before != text(new, "/spec/nodeName") {
        let shown = json!(text(new, "/spec/nodeName"));
        return Some(FieldError::invalid("spec.nodeName", &shown, "may not change once set"));
    }
    let wrong = bare(new) != bare(old);
    wrong.then(|| FieldError::forbidden("spec", "a binding may only set spec.nodeName"))
}

fn gates(object: &Value) -> String {
    let gates = list(object, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = |gate: &&Value| {
        condition(object, text(gate, "/conditionType"))
            .is_some_and(|c| text(c, "/status") == "True")
    };
    format!("{}/{}", gates.iter().filter(met).count(), gates.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        let mut object = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        Rules.default(&mut object);
        Rules.prepare_create(&mut object);
        object
    }

    #[test]
    fn a_command_is_no_program_and_says_so() {
        let mut object = pod();
        assert_eq!(Rules.warnings(&object), Vec::<String>::new());
        object["spec"]["containers"][0]["args"] = json!(["--port", "7000"]);
        assert_eq!(Rules.warnings(&object), Vec::<String>::new());
        object["spec"]["containers"][0]["command"] = json!(["/bin/sh", "-c"]);
        let said = "spec.containers[0].command: the image is the program, and there is no other in it: \
                    \"/bin/sh\" becomes its name (argv[0]) and is not run";
        assert_eq!(Rules.warnings(&object), [said]);
    }

    #[test]
    fn a_binding_keeps_its_condition_and_moves_nothing_else() {
        let old = pod();
        let mut new = old.clone();
        new["spec"]["nodeName"] = json!("pi-7");
        new["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "True"}]);
        let mut bound = new.clone();
        Rules.prepare_update(Some("binding"), &mut bound, &old);
        assert_eq!(bound, new);
        assert_eq!(Rules.validate_update(Some("binding"), &new, &old), []);
        let mut moved = new.clone();
        moved["spec"]["nodeName"] = json!("pi-8");
        assert_eq!(Rules.validate_update(Some("binding"), &moved, &new).len(), 1);
        moved["spec"]["nodeName"] = json!("pi-7");
        moved["spec"]["containers"] = json!([]);
        assert_eq!(Rules.validate_update(Some("binding"), &moved, &new).len(), 1);
    }

    #[test]
    fn an_annotation_with_a_meaning_has_one() {
        let old = pod();
        let mut new = old.clone();
        new["metadata"]["annotations"] = json!({"freewheel.dev/http-instance-reuse": "0"});
        let places = |errors: Vec<FieldError>| errors.into_iter().map(|one| one.field).collect();
        let at: Vec<String> =
            vec!["metadata.annotations[freewheel.dev/http-instance-reuse]".into()];
        let found: Vec<String> = places(Rules.validate_create(&new));
        assert_eq!(found, at);
        for door in [None, Some("status"), Some("resize")] {
            let found: Vec<String> = places(Rules.validate_update(door, &new, &old));
            assert_eq!(found, at, "{door:?}");
            // What was stored before this was looked at holds up nobody.
            assert_eq!(Rules.validate_update(door, &new, &new), []);
        }
    }

    #[test]
    fn each_door_writes_its_half() {
        let old = pod();
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = json!("j");
        new["status"] = json!({"phase": "Running", "qosClass": "Guaranteed"});
        let mut main = new.clone();
        Rules.prepare_update(None, &mut main, &old);
        assert_eq!((&main["spec"], &main["status"]), (&new["spec"], &old["status"]));
        Rules.prepare_update(Some("status"), &mut new, &old);
        assert_eq!(new["spec"], old["spec"]);
        assert_eq!(new["status"], json!({"phase": "Running", "qosClass": "BestEffort"}));
    }

    #[test]
    fn what_was_observed_stays_so() {
        let mut old = pod();
        old["status"]["observedGeneration"] = json!(2);
        old["status"]["conditions"] =
            json!([{"type": "Ready", "status": "True", "observedGeneration": 2}]);
        let mut new = pod();
        new["status"]["conditions"] = json!([
            {"type": "Ready", "status": "False"},
            {"type": "Initialized", "status": "True", "observedGeneration": 3},
            {"type": "Other", "status": "True"},
        ]);
        Rules.prepare_update(Some("status"), &mut new, &old);
        assert_eq!(new["status"]["observedGeneration"], 2);
        let seen = |i: usize| new["status"]["conditions"][i].get("observedGeneration").cloned();
        assert_eq!((seen(0), seen(1), seen(2)), (Some(json!(2)), Some(json!(3)), None));
    }

    #[test]
    fn only_a_pod_that_somebody_runs_ends_gracefully() {
        let mut object = pod();
        assert_eq!(Rules.grace_period(&object), Some(0));
        object["spec"]["nodeName"] = json!("pi-7");
        assert_eq!(Rules.grace_period(&object), Some(30));
        object["status"]["phase"] = json!("Succeeded");
        assert_eq!(Rules.grace_period(&object), Some(0));
    }

    #[test]
    fn a_gated_pod_has_no_node() {
        let mut object = pod();
        object["spec"]["schedulingGates"] = json!([{"name": "a/b"}]);
        assert_eq!(Rules.validate(&object), []);
        object["spec"]["nodeName"] = json!("pi-7");
        assert_eq!(Rules.validate(&object)[0].field, "spec.nodeName");
    }

    #[test]
    fn a_gated_pod_says_so_from_its_birth() {
        let mut object = pod();
        assert_eq!(object.pointer("/status/conditions"), None);
        object["spec"]["schedulingGates"] = json!([{"name": "a/b"}]);
        Rules.prepare_create(&mut object);
        assert_eq!(status::shown(&object, 0).reason, "SchedulingGated");
    }

    #[test]
    fn selectable_fields_are_read() {
        let mut object = pod();
        object["spec"]["nodeName"] = json!("pi-7");
        let fields = Rules.selectable_fields(&object);
        assert_eq!(fields["spec.nodeName"], "pi-7");
        assert_eq!(fields["status.phase"], "Pending");
        assert_eq!(fields["spec.hostNetwork"], "false");
        assert_eq!(fields.len(), FIELDS.len());
    }
}
