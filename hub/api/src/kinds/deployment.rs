//! Deployment: a pod template that changes step by step.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, Selection, Strategy, Trait, keep_metadata, keep_other_half,
};
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, int, name, set_default, text, wide};
use super::template;

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "Ready pods of those wanted."),
    column("Up-to-date", "string", "Pods of the newest template."),
    column("Available", "string", "Pods that have been ready for long enough."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
    wide("Selector", "string", "Which pods are its own."),
];

/// Deployment of apps/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("apps", "v1", "Deployment"), "deployments", Rules)
        .short(["deploy"])
        .category(["all"])
        .with_scale()
        .with_status()
        .selects_by(Selection::LabelSelector)
        .columns(COLUMNS)
        .with(&[Trait::CountsAnnotations])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        set_default(spec, "replicas", 1);
        set_default(spec, "revisionHistoryLimit", 10);
        set_default(spec, "progressDeadlineSeconds", 600);
        set_default(spec, "strategy", json!({}));
        if let Some(strategy) = spec.get_mut("strategy").and_then(Value::as_object_mut) {
            set_default(strategy, "type", "RollingUpdate");
            if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
                set_default(strategy, "rollingUpdate", json!({}));
                if let Some(rolling) =
                    strategy.get_mut("rollingUpdate").and_then(Value::as_object_mut)
                {
                    set_default(rolling, "maxUnavailable", "25%");
                    set_default(rolling, "maxSurge", "25%");
                }
            }
        }
        template::default(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({}));
        }
    }

    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(subresource, new, old);
        if subresource == Some("status") {
            keep_metadata(new, old, "labels");
        }
    }

    fn reset_fields(&self, subresource: Option<&str>) -> FieldPaths {
        match subresource {
            Some("status") => &[&["spec"], &["metadata", "labels"]],
            Some(_) => &[],
            None => &[&["status"]],
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = template::check_counts(object, &["replicas", "minReadySeconds"]);
        errors.extend(template::check_selector(object, "deployment"));
        errors.extend(template::check(object, "Deployment"));
        errors.extend(check_strategy(object));
        errors.extend(template::check_counts(
            object,
            &["revisionHistoryLimit", "progressDeadlineSeconds"],
        ));
        let (deadline, ready) =
            (int(object, "/spec/progressDeadlineSeconds"), int(object, "/spec/minReadySeconds"));
        if object.pointer("/spec/progressDeadlineSeconds").is_some() && deadline <= ready {
            let text = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid(
                "spec.progressDeadlineSeconds",
                &json!(deadline),
                text,
            ));
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        template::selector_stays(new, old)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(object)
    }

    fn pod_template(&self) -> Option<&'static str> {
        Some("/spec/template")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let (ready, wanted) = (int(object, "/status/readyReplicas"), int(object, "/spec/replicas"));
        let mut row = vec![
            name(object),
            format!("{ready}/{wanted}").into(),
            int(object, "/status/updatedReplicas").into(),
            int(object, "/status/availableReplicas").into(),
            age(object, now),
        ];
        row.extend(template::wide_cells(object));
        row
    }
}

fn check_strategy(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let rolling = object.pointer("/spec/strategy/rollingUpdate");
    let path = "spec.strategy.rollingUpdate";
    match text(object, "/spec/strategy/type") {
        "Recreate" => {
            if rolling.is_some() {
                let text = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden(path, text));
            }
        }
        "RollingUpdate" => match rolling {
            None => {
                errors
                    .push(FieldError::required(path, "this should be defaulted and never be nil"));
            }
            Some(rolling) => errors.extend(check_rolling(path, rolling)),
        },
        other => {
            let supported = &["Recreate", "RollingUpdate"];
            errors.push(FieldError::not_supported("spec.strategy.type", &json!(other), supported));
        }
    }
    errors
}

fn check_rolling(path: &str, rolling: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut amount = |key: &str| {
        let value = rolling.get(key).cloned().unwrap_or(json!(0));
        match template::amount(&value) {
            Ok(amount) => amount,
            Err(wrong) => {
                errors.push(FieldError::invalid(format!("{path}.{key}"), &value, wrong));
                1
            }
        }
    };
    let (unavailable, surge) = (amount("maxUnavailable"), amount("maxSurge"));
    if unavailable == 0 && surge == 0 {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or(json!(0));
        let text = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(format!("{path}.maxUnavailable"), &value, text));
    }
    if rolling.get("maxUnavailable").is_some_and(|v| v.is_string()) && unavailable > 100 {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
        let text = "must not be greater than 100%";
        errors.push(FieldError::invalid(format!("{path}.maxUnavailable"), &value, text));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        let mut object = json!({"metadata": {"name": "d"}, "spec": {
            "replicas": 2, "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        }});
        Rules.default(&mut object);
        object
    }

    #[test]
    fn defaults_are_those_of_kubernetes() {
        assert_eq!(
            deployment()["spec"],
            json!({
                "progressDeadlineSeconds": 600, "replicas": 2, "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {"a": "b"}},
                "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                    "containers": [{
                        "image": "i", "imagePullPolicy": "Always", "name": "c", "resources": {},
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    }],
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                    "securityContext": {}, "terminationGracePeriodSeconds": 30,
                }},
            })
        );
        assert_eq!(Rules.validate(&deployment()), []);
    }

    #[test]
    fn bad_replicas_and_selector() {
        let mut object = deployment();
        object["spec"]["replicas"] = json!(-1);
        object["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
        let errors = Rules.validate(&object);
        let texts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        assert_eq!(
            texts,
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`",
            ]
        );
    }

    #[test]
    fn a_strategy_must_be_able_to_move() {
        let mut object = deployment();
        object["spec"]["strategy"]["rollingUpdate"] =
            json!({"maxSurge": 0, "maxUnavailable": "0%"});
        assert_eq!(Rules.validate(&object)[0].field, "spec.strategy.rollingUpdate.maxUnavailable");
        object["spec"]["strategy"]["type"] = json!("Recreate");
        assert_eq!(Rules.validate(&object)[0].reason, "FieldValueForbidden");
        object["spec"]["strategy"] = json!({"type": "Sudden"});
        assert_eq!(Rules.validate(&object)[0].reason, "FieldValueNotSupported");
    }

    #[test]
    fn the_selector_stays_as_it_was() {
        let mut new = deployment();
        new["spec"]["selector"] = json!({"matchLabels": {"a": "c"}});
        let errors = Rules.validate_update(None, &new, &deployment());
        assert_eq!(
            errors[0].message,
            "Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable"
        );
    }

    #[test]
    fn a_row_counts_pods() {
        let mut object = deployment();
        object["status"] = json!({"readyReplicas": 1, "updatedReplicas": 2});
        let row = Rules.row(&object, 0);
        assert_eq!(row[1..4], [json!("1/2"), json!(2), json!(0)]);
        assert_eq!(row[5..], [json!("c"), json!("i"), json!("a=b")]);
    }
}
