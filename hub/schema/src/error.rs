//! A Kubernetes `Status` of kind Failure, made where the mistake is found.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::truncated_text::{REPEATED_BYTES_MAX, shortened};

/// Most mistakes that one answer names: a body of thousands must not make an answer of megabytes.
pub const MAX_CAUSES: usize = 200;
/// The reason of what could not be looked at (apimachinery's field.InternalError).
const NOT_NOW: &str = "InternalError";

/// The cause that new content of a namespace is refused for while it goes.
pub const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// What went wrong, in the words of the Kubernetes API (meta/v1 Status).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP code.
    pub code: u16,
    /// `reason`, for example `NotFound`.
    pub reason: &'static str,
    /// `message` for people.
    pub message: String,
    /// `details`, when there is something to name.
    pub details: Option<Box<Details>>,
}

/// `details` of a Status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// API group of the object.
    pub group: String,
    /// Its kind, or its resource where kube-apiserver says that.
    pub kind: String,
    /// UID of the object.
    pub uid: String,
    /// Each mistake with its place.
    pub causes: Vec<Cause>,
    /// After how many seconds the same request may succeed.
    pub retry_after_seconds: Option<u32>,
}

/// One mistake with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// For example `FieldValueRequired`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Path such as `spec.containers[0].name`.
    pub field: String,
}

/// One validation mistake (apimachinery field.Error).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldValueRequired`, `FieldValueInvalid`, `FieldValueNotSupported`, `FieldValueForbidden`,
    /// `FieldValueDuplicate`, `FieldValueTooLong`, `FieldValueTooMany`, `FieldValueNotFound`, `FieldValueTypeInvalid`.
    pub reason: &'static str,
    /// Path such as `spec.containers[0].name`.
    pub field: String,
    /// Without the path: `Required value`, `Invalid value: "x": must be …`.
    pub message: String,
}

impl FieldError {
    /// A field that must be there is not.
    #[must_use]
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {detail}")
        };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// A value that breaks a rule. `value` is shown as JSON, as kube-apiserver does.
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {}: {detail}", shown(value.to_string())),
        }
    }

    /// A value outside of a closed list.
    #[must_use]
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!(
                "Unsupported value: {}: supported values: {}",
                shown(value.to_string()),
                list.join(", ")
            ),
        }
    }

    /// A value that may not be set here.
    #[must_use]
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {detail}"),
        }
    }

    /// A reference to something that is not there.
    #[must_use]
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueNotFound",
            field: field.into(),
            message: format!("Not found: {}", shown(value.to_string())),
        }
    }

    /// More bytes than allowed.
    #[must_use]
    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        Self {
            reason: "FieldValueTooLong",
            field: field.into(),
            message: format!("Too long: may not be more than {max} bytes"),
        }
    }

    /// More items than allowed.
    #[must_use]
    pub fn too_many(field: impl Into<String>, found: usize, max: usize) -> Self {
        Self {
            reason: "FieldValueTooMany",
            field: field.into(),
            message: format!("Too many: {found}: must have at most {max} items"),
        }
    }

    /// It could not be looked at now, and may be another time. Whoever gets it among the mistakes of an object answers that
    /// the hub is busy.
    #[must_use]
    pub fn not_now(field: impl Into<String>, why: &str) -> Self {
        let message = format!("Internal error: {why}");
        Self { reason: NOT_NOW, field: field.into(), message }
    }

    /// Whether it says so.
    #[must_use]
    pub fn is_not_now(&self) -> bool {
        self.reason == NOT_NOW
    }

    /// As far as anybody is told.
    #[must_use]
    pub fn in_short(self) -> Self {
        let Self { reason, field, message } = self;
        Self { reason, field: shown(field), message: shortened(message, 2 * REPEATED_BYTES_MAX) }
    }

    /// The same value twice in a list that is a set.
    #[must_use]
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {}", shown(value.to_string())),
        }
    }
}

impl ApiError {
    /// Whether new content is refused because its namespace goes.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        let causes = self.details.iter().flat_map(|details| &details.causes);
        self.code == 403 && causes.into_iter().any(|cause| cause.reason == NAMESPACE_TERMINATING)
    }

    /// Any Failure without details.
    #[must_use]
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// 400: the request makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 404 for a named object; `resource` is the plural, as kube-apiserver prints it.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::about(
            404,
            "NotFound",
            group,
            resource,
            name,
            &format!("{} {name:?} not found", qualified(group, resource)),
        )
    }

    /// 405: this is not done to what is there, or not to what is of its kind. kube-apiserver says no more.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let why = "the server does not allow this method on the requested resource";
        Self { details: Some(Box::default()), ..Self::new(405, "MethodNotAllowed", why) }
    }

    /// 409: the name is taken.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Self::about(409, "AlreadyExists", group, resource, name, &message)
    }

    /// 409: somebody else was faster, or a precondition does not hold.
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            qualified(group, resource)
        );
        Self::about(409, "Conflict", group, resource, name, &message)
    }

    /// 422 with every mistake, as far as [`MAX_CAUSES`]; `kind` is the Kind, as kube-apiserver prints it.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mistakes: Vec<(String, String)> = errors
            .iter()
            .take(MAX_CAUSES)
            .map(|e| {
                let FieldError { field, message, .. } = e.clone().in_short();
                (field, message)
            })
            .collect();
        let mut seen = BTreeSet::new();
        let mut all: Vec<String> = mistakes
            .iter()
            .map(|(field, message)| format!("{field}: {message}"))
            .filter(|text| seen.insert(text.clone()))
            .collect();
        if errors.len() > MAX_CAUSES {
            all.push(format!("and {} more", errors.len() - MAX_CAUSES));
        }
        let list = match all.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let about = shown(format!("{name:?}"));
        let message = format!("{} {about} is invalid: {list}", qualified(group, kind));
        let mut error = Self::about(422, "Invalid", group, kind, name, &message);
        if let Some(details) = &mut error.details {
            let causes = errors.iter().zip(mistakes).map(|(e, (field, message))| Cause {
                reason: e.reason.to_owned(),
                message,
                field,
            });
            details.causes = causes.collect();
        }
        error
    }

    /// 410: that revision is no longer kept; list again.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 503: too much goes on at the moment.
    #[must_use]
    pub fn busy(message: impl Into<String>) -> Self {
        let details = Details { retry_after_seconds: Some(1), ..Details::default() };
        let details = Some(Box::new(details));
        Self { code: 503, reason: "ServiceUnavailable", message: message.into(), details }
    }

    /// 500: our fault.
    #[must_use]
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    fn about(
        code: u16,
        reason: &'static str,
        group: &str,
        kind: &str,
        name: &str,
        message: &str,
    ) -> Self {
        let details = Details {
            name: shown(name.to_owned()),
            group: group.into(),
            kind: kind.into(),
            ..Details::default()
        };
        Self { code, reason, message: message.into(), details: Some(Box::new(details)) }
    }

    /// The Status object that the caller gets.
    #[must_use]
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            let mut out = serde_json::Map::new();
            for (key, text) in [
                ("name", &details.name),
                ("group", &details.group),
                ("kind", &details.kind),
                ("uid", &details.uid),
            ] {
                if !text.is_empty() {
                    out.insert(key.to_owned(), json!(text));
                }
            }
            if !details.causes.is_empty() {
                out.insert(
                    "causes".to_owned(),
                    details.causes.iter().map(Cause::to_value).collect(),
                );
            }
            if let Some(seconds) = details.retry_after_seconds {
                out.insert("retryAfterSeconds".to_owned(), json!(seconds));
            }
            status["details"] = Value::Object(out);
        }
        status
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut cause = json!({"reason": self.reason, "message": self.message});
        if !self.field.is_empty() {
            cause["field"] = json!(self.field);
        }
        cause
    }
}

/// What a mistake repeats of what was sent.
fn shown(text: String) -> String {
    shortened(text, REPEATED_BYTES_MAX)
}

fn qualified(group: &str, what: &str) -> String {
    if group.is_empty() { what.to_owned() } else { format!("{what}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_each_mistake_once_and_not_endlessly() {
        let twice = [FieldError::required("a", ""), FieldError::required("a", "")];
        let error = ApiError::invalid("", "Pod", "p", &twice);
        assert_eq!(error.message, "Pod \"p\" is invalid: a: Required value");
        let many: Vec<_> =
            (0..1000).map(|i| FieldError::duplicate(format!("a[{i}]"), &json!(i))).collect();
        let error = ApiError::invalid("", "Pod", "p", &many);
        assert!(error.message.ends_with(", and 800 more]"));
        assert_eq!(error.details.map(|d| d.causes.len()), Some(MAX_CAUSES));
    }

    #[test]
    fn an_answer_does_not_repeat_what_is_long() {
        let long = "ä".repeat(700_000);
        let errors: Vec<_> = (0..300)
            .map(|_| FieldError::invalid(format!("a[{long}]"), &json!(long), "must be short"))
            .collect();
        let error = ApiError::invalid("", "Pod", &long, &errors);
        assert!(error.to_status().to_string().len() < 2 << 20);
        let cause = &error.details.as_ref().unwrap().causes[0];
        assert!(cause.message.ends_with("ä… (1400002 bytes): must be short"), "{cause:?}");
        let one = ApiError::invalid("", "Pod", "p", &errors[..1]);
        assert!(one.to_status().to_string().len() < 8 << 10);
    }

    #[test]
    fn a_status_leaves_out_what_is_empty() {
        let status = ApiError::not_found("apps", "deployments", "web").to_status();
        assert_eq!(
            status,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "deployments.apps \"web\" not found", "reason": "NotFound", "code": 404,
                "details": {"name": "web", "group": "apps", "kind": "deployments"},
            })
        );
    }
}
