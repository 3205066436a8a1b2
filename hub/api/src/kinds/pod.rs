//! Pod: containers that share an address, bound to one spoke.
//!
//! ```text
//! pod          what is special about pods as objects
//! pod/status   the STATUS, READY and RESTARTS that kubectl shows
//! pod_spec/    defaults, validation and field classes, shared with pod templates
//! ```
//!
//! Guarantees: spec.nodeName is set once, through the door `binding`; what runs does not change under
//! a pod's feet.

mod status;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::look::{
    AGE, ALL_VERBS, NAME, READ_WRITE, age, child, column, condition, flag, list, name, set_default,
    text, text_or, wide,
};
use super::pod_spec;
use crate::error::FieldError;
use crate::kind::{Column, Kind, Strategy, Subresource, keep_other_half};

pub use pod_spec::qos_class;

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
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    namespaced: true,
    verbs: ALL_VERBS,
    subresources: &[
        Subresource { name: "binding", kind: "Binding", group_version: None, verbs: &["create"] },
        Subresource {
            name: "eviction",
            kind: "Eviction",
            group_version: Some(("policy", "v1")),
            verbs: &["create"],
        },
        Subresource { name: "log", kind: "Pod", group_version: None, verbs: &["get"] },
        Subresource { name: "status", kind: "Pod", group_version: None, verbs: READ_WRITE },
    ],
    stored_as: None,
    strategy: &Rules,
};

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        pod_spec::default(spec);
        set_default(spec, "enableServiceLinks", true);
        // What a cluster's admission adds to pods, and to pods alone.
        set_default(spec, "preemptionPolicy", "PreemptLowerPriority");
        set_default(spec, "priority", 0);
        if spec.get("serviceAccountName").is_none() {
            set_default(spec, "serviceAccount", "default");
            if let Some(account) = spec.get("serviceAccount").cloned() {
                spec.insert("serviceAccountName".to_owned(), account);
            }
        }
        if let Some(account) = spec.get("serviceAccountName").cloned() {
            spec.insert("serviceAccount".to_owned(), account);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        let class = qos_class(object.get("spec").unwrap_or(&Value::Null));
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"phase": "Pending", "qosClass": class}));
        }
    }

    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        let owners = new.pointer("/metadata/ownerReferences").cloned();
        keep_other_half(subresource, new, old);
        // The class follows from requests and limits, which do not change.
        if subresource == Some("status") {
            let _ = owners;
            if let (Some(status), Some(class)) =
                (child(new, "status"), old.pointer("/status/qosClass"))
            {
                status.insert("qosClass".to_owned(), class.clone());
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        pod_spec::check(object.get("spec").unwrap_or(&Value::Null), "spec")
    }

    fn validate_update(
        &self,
        subresource: Option<&str>,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        match subresource {
            None => pod_spec::check_update(new, old),
            Some(_) => Vec::new(),
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        pod_spec::warnings(object.get("spec").unwrap_or(&Value::Null), "spec")
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

    fn selectable_field_names(&self) -> &'static [&'static str] {
        FIELDS
    }

    fn selectable_field_alias(&self, field: &str) -> Option<&'static str> {
        match field {
            "status.podIPs" => Some("status.podIP"),
            "spec.host" => Some("spec.nodeName"),
            _ => None,
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
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
