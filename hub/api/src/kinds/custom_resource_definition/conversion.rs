//! What a definition may say of the webhook that converts its objects, with kube-apiserver's words.
//!
//! Guarantees:
//! - a webhook that could not be asked is refused when it is written (`a_webhook_that_cannot_be_asked_is_refused`).

use freewheel_hub_schema::error::FieldError;
use serde_json::Value;

use crate::kinds::client_config::{check_client, check_reviews};
use crate::kinds::field_value::FieldValue;

/// Every mistake of it.
pub(super) fn check(definition: &Value) -> Vec<FieldError> {
    let conversion = FieldValue::of(definition, "spec").child("conversion");
    if conversion.child("strategy").text() != "Webhook" {
        return Vec::new();
    }
    let webhook = conversion.child("webhook");
    let at = |field: &str, path: &str| {
        let place = webhook.child(field);
        FieldValue { path: format!("{}.{path}", conversion.path), ..place }
    };
    let client = at("clientConfig", "webhookClientConfig");
    let mut errors = if client.is_there() {
        check_client(&client)
    } else {
        vec![client.required("required when strategy is set to Webhook")]
    };
    errors.extend(check_reviews(&at("conversionReviewVersions", "conversionReviewVersions")));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn wrong(webhook: &Value, why: &str) {
        let definition =
            json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": webhook}}});
        let errors: Vec<String> =
            check(&definition).iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        assert!(errors.iter().any(|error| error.contains(why)), "{why:?}: {errors:?}");
    }

    #[test]
    fn a_webhook_that_cannot_be_asked_is_refused() {
        let versions = json!(["v1"]);
        let good = json!({"clientConfig": {"url": "https://a.example.com/convert"},
            "conversionReviewVersions": versions});
        let of = |webhook: &Value| json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": webhook}}});
        assert_eq!(check(&of(&good)), []);
        assert_eq!(check(&json!({"spec": {"conversion": {"strategy": "None"}}})), []);
        wrong(
            &json!({"conversionReviewVersions": versions}),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
        );
        wrong(
            &json!({"clientConfig": {}, "conversionReviewVersions": versions}),
            "exactly one of url or service is required",
        );
        wrong(
            &json!({"clientConfig": {"url": "http://a"}, "conversionReviewVersions": versions}),
            "'https' is the only allowed URL scheme",
        );
        let behind = |service: Value| json!({"clientConfig": {"service": service}, "conversionReviewVersions": versions});
        let service = json!({"name": "a", "namespace": "b", "port": 443, "path": "/convert"});
        assert_eq!(check(&of(&behind(service.clone()))), []);
        for (field, value, why) in [
            ("name", json!(""), "name: Required value: service name is required"),
            ("namespace", json!(""), "namespace: Required value: service namespace is required"),
            (
                "port",
                json!(65_536),
                "port: Invalid value: 65536: port is not valid: must be between 1 and 65535, inclusive",
            ),
            ("path", json!("convert"), "path: Invalid value: \"convert\": must start with a '/'"),
        ] {
            let mut service = service.clone();
            service[field] = value;
            wrong(&behind(service), &format!("spec.conversion.webhookClientConfig.service.{why}"));
        }
        let mut other = good.clone();
        other["conversionReviewVersions"] = json!(["v2"]);
        wrong(&other, "must include at least one of v1, v1beta1");
        let mut none = good;
        none["conversionReviewVersions"] = json!([]);
        wrong(&none, "spec.conversion.conversionReviewVersions: Required value");
    }
}
