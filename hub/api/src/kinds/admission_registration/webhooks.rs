//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration: servers to be asked about writes.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::expressions::{self, too_many, where_there_is_room};
use super::{GROUP, rules};
use crate::kinds::accessors::{AGE, NAME, age, column, items, list, name, set_default};
use crate::kinds::client_config::{check_client, check_reviews, default_client};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[NAME, column("Webhooks", "integer", "How many there are."), AGE];
const TIMEOUT_SECONDS: i64 = 10;
const TIMEOUT_SECONDS_MAX: i64 = 30;

/// ValidatingWebhookConfiguration of admissionregistration.k8s.io/v1.
pub(crate) fn validating() -> Kind {
    let rules = Rules { mutates: false };
    made("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", rules)
}

/// MutatingWebhookConfiguration of admissionregistration.k8s.io/v1.
pub(crate) fn mutating() -> Kind {
    let rules = Rules { mutates: true };
    made("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", rules)
}

fn made(kind: &'static str, plural: &'static str, rules: Rules) -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", kind), plural, rules)
        .cluster_scoped()
        .category(["api-extensions"])
        .columns(COLUMNS)
        .with(&[Trait::NamesWhatItReplaces])
}

struct Rules {
    mutates: bool,
}

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else { return };
        for hook in items(object, "webhooks") {
            set_default(hook, "failurePolicy", "Fail");
            set_default(hook, "matchPolicy", "Equivalent");
            set_default(hook, "namespaceSelector", json!({}));
            set_default(hook, "objectSelector", json!({}));
            set_default(hook, "timeoutSeconds", TIMEOUT_SECONDS);
            if self.mutates {
                set_default(hook, "reinvocationPolicy", "Never");
            }
            default_client(hook);
            rules::default_scopes(hook, "rules");
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        where_there_is_room(|| self.check(object))
    }

    fn checks_take_long(&self, _: &Value) -> bool {
        true
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), list(object, "/webhooks").len().into(), age(object, now)]
    }
}

impl Rules {
    fn check(&self, object: &Value) -> Vec<FieldError> {
        let mut taken = BTreeSet::new();
        let hooks: Vec<_> = FieldValue::of(object, "webhooks").items().collect();
        let conditions: Vec<_> = hooks.iter().map(|hook| hook.child("matchConditions")).collect();
        let mut errors = Vec::new();
        if let Some(too_many) = too_many("webhooks", &conditions) {
            return vec![too_many];
        }
        for hook in hooks {
            errors.extend(check_hook(&hook));
            if self.mutates {
                errors.extend(hook.child("reinvocationPolicy").one_of(&["IfNeeded", "Never"]));
            }
            errors.extend(check_reviews(&hook.child("admissionReviewVersions")));
            let name = hook.child("name");
            if !name.is_empty() && !taken.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        errors
    }
}

fn check_hook(hook: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors: Vec<_> = check_name(&hook.child("name")).into_iter().collect();
    errors.extend(hook.child("rules").items().flat_map(|rule| rules::check(&rule)));
    errors.extend(hook.child("failurePolicy").one_of(&["Fail", "Ignore"]));
    errors.extend(hook.child("matchPolicy").one_of(&["Equivalent", "Exact"]));
    let effects = hook.child("sideEffects");
    if effects.is_there() {
        errors.extend(effects.one_of(&["None", "NoneOnDryRun"]));
    } else {
        errors.push(effects.required("must specify one of None, NoneOnDryRun"));
    }
    let timeout = hook.child("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=TIMEOUT_SECONDS_MAX).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    errors.extend(hook.child("namespaceSelector").selector());
    errors.extend(hook.child("objectSelector").selector());
    errors.extend(check_client(&hook.child("clientConfig")));
    let conditions = hook.child("matchConditions");
    errors.extend(rules::check_conditions(&conditions));
    errors.extend(expressions::check_conditions(&conditions, false));
    errors
}

/// A domain with three parts.
fn check_name(name: &FieldValue<'_>) -> Option<FieldError> {
    if name.is_empty() {
        return Some(name.required(""));
    }
    let wrong = names::dns_subdomain(name.text());
    if !wrong.is_empty() {
        return Some(name.invalid(&wrong.join(",")));
    }
    let text = "should be a domain with at least three segments separated by dots";
    (name.text().split('.').count() < 3).then(|| name.invalid(text))
}
