//! AdmissionReview: what a webhook is asked, and what it answers.
//!
//! Guarantees:
//! - what is no answer to what was asked is a failed call, and no word of the webhook's
//!   (`what_is_no_answer_is_a_failed_call`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_schema::error::{ApiError, Cause, Details};
use serde_json::{Value, json};
use uuid::Uuid;

use super::hook::Webhook;
use crate::policy::Seen;

/// What a webhook is asked.
pub(super) struct Asked {
    uid: String,
    version: &'static str,
    pub(super) body: Vec<u8>,
}

/// What it answers.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) status: Value,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// A JSON patch.
    pub(super) patch: Option<Vec<u8>>,
}

impl Asked {
    /// About this write.
    pub(super) fn of(hook: &Webhook, seen: &Seen) -> Result<Self, String> {
        let version = hook.version.ok_or(
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)",
        )?;
        let uid = Uuid::new_v4().hyphenated().to_string();
        let mut request = Value::clone(&seen.request);
        request["uid"] = json!(uid);
        request["object"] = Value::clone(&seen.object);
        request["oldObject"] = Value::clone(&seen.old);
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"),
            "request": request,
        });
        let body = serde_json::to_vec(&review).map_err(|error| error.to_string())?;
        Ok(Self { uid, version, body })
    }

    /// What was answered to it, where it is an answer.
    pub(super) fn read(&self, bytes: &[u8], mutates: bool) -> Result<Answer, String> {
        let read = |why: &dyn std::fmt::Display| format!("failed to call webhook: {why}");
        let review: Value = serde_json::from_slice(bytes).map_err(|error| read(&error))?;
        self.verify(&review, mutates)
            .map_err(|why| format!("received invalid webhook response: {why}"))
    }

    fn verify(&self, review: &Value, mutates: bool) -> Result<Answer, String> {
        let response = review.get("response").filter(|response| response.is_object());
        let response = response.ok_or("webhook response was absent")?;
        let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (patch, kind) = (said(&response["patch"]), response.get("patchType"));
        let kind = kind.filter(|kind| !kind.is_null());
        if self.version == "v1" {
            let uid = said(&response["uid"]);
            if uid != self.uid {
                return Err(format!("expected response.uid={:?}, got {uid:?}", self.uid));
            }
            let (version, name) = (said(&review["apiVersion"]), said(&review["kind"]));
            if (version.as_str(), name.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
                let slash = if version.contains('/') { "" } else { "/" };
                return Err(format!(
                    "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {slash}{version}, Kind={name}"
                ));
            }
            check_patch(&patch, kind, mutates)?;
        }
        let patch = match patch.as_str() {
            "" => None,
            _ if !mutates => None,
            text => Some(STANDARD.decode(text).map_err(|error| error.to_string())?),
        };
        let texts = response["warnings"].as_array().into_iter().flatten();
        let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
        Ok(Answer {
            allowed: response["allowed"] == true,
            status: response["status"].clone(),
            warnings: texts.filter_map(Value::as_str).map(str::to_owned).collect(),
            annotations: annotations.map(|(key, value)| (key.clone(), said(value))).collect(),
            patch,
        })
    }
}

fn check_patch(patch: &str, kind: Option<&Value>, mutates: bool) -> Result<(), String> {
    let why = match (patch.is_empty(), kind) {
        (false, _) if !mutates => "validating webhook may not return response.patch",
        (_, Some(_)) if !mutates => "validating webhook may not return response.patchType",
        (false, None) => "webhook returned response.patch but not response.patchType",
        (true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (false, Some(kind)) if kind != "JSONPatch" => {
            return Err(format!("unsupported patch type {kind}"));
        }
        (false, Some(_)) | (true, None) => return Ok(()),
    };
    Err(why.to_owned())
}

/// The Status that the writer gets of a webhook that says no.
pub(super) fn denial(hook: &str, status: &Value) -> ApiError {
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    let denied = format!("admission webhook {hook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code =
        status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
    let code = if (400..600).contains(&code) { code } else { 400 };
    let mut error = ApiError::new(code, reason(text("reason")), message);
    error.details = status.get("details").filter(|details| details.is_object()).map(|details| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let causes = details["causes"].as_array().into_iter().flatten();
        let cause = |cause: &Value| Cause {
            reason: text(&cause["reason"]),
            message: text(&cause["message"]),
            field: text(&cause["field"]),
        };
        let after = details["retryAfterSeconds"].as_u64().and_then(|it| u32::try_from(it).ok());
        Box::new(Details {
            name: text(&details["name"]),
            group: text(&details["group"]),
            kind: text(&details["kind"]),
            uid: text(&details["uid"]),
            causes: causes.map(cause).collect(),
            retry_after_seconds: after,
        })
    });
    error
}

/// Of the reasons that Kubernetes knows.
fn reason(status_reason: &str) -> &'static str {
    const KNOWN: [&str; 20] = [
        "Unauthorized",
        "Forbidden",
        "NotFound",
        "AlreadyExists",
        "Conflict",
        "Gone",
        "Invalid",
        "ServerTimeout",
        "StoreReadError",
        "Timeout",
        "TooManyRequests",
        "BadRequest",
        "MethodNotAllowed",
        "NotAcceptable",
        "RequestEntityTooLarge",
        "UnsupportedMediaType",
        "InternalError",
        "Expired",
        "ServiceUnavailable",
        "Unknown",
    ];
    KNOWN.into_iter().find(|known| *known == status_reason).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: &'static str) -> Asked {
        Asked { uid: "u-1".to_owned(), version, body: Vec::new() }
    }

    fn wrong(response: &Value, mutates: bool) -> String {
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        asked("v1").read(review.to_string().as_bytes(), mutates).unwrap_err()
    }

    #[test]
    fn what_is_no_answer_is_a_failed_call() {
        let invalid = "received invalid webhook response:";
        for (response, mutates, why) in [
            (Value::Null, false, "webhook response was absent"),
            (
                json!({"uid": "u-2", "allowed": true}),
                false,
                r#"expected response.uid="u-1", got "u-2""#,
            ),
            (
                json!({"uid": "u-1", "patch": "W10="}),
                false,
                "validating webhook may not return response.patch",
            ),
            (
                json!({"uid": "u-1", "patch": "W10="}),
                true,
                "webhook returned response.patch but not response.patchType",
            ),
            (
                json!({"uid": "u-1", "patchType": "JSONPatch"}),
                true,
                "webhook returned response.patchType but not response.patch",
            ),
        ] {
            assert_eq!(wrong(&response, mutates), format!("{invalid} {why}"));
        }
        let other = json!({"kind": "Pod", "apiVersion": "v1", "response": {"uid": "u-1"}});
        let why = asked("v1").read(other.to_string().as_bytes(), false).unwrap_err();
        assert!(why.ends_with("got /v1, Kind=Pod"), "{why}");
        assert!(
            asked("v1").read(b"<html>", false).unwrap_err().starts_with("failed to call webhook: ")
        );
        // Of the older version, nobody looks at uid and kind.
        let old = json!({"response": {"allowed": true, "patch": "W10="}});
        let answer = asked("v1beta1").read(old.to_string().as_bytes(), true).unwrap();
        assert!(answer.allowed && answer.patch.as_deref() == Some(b"[]"));
    }

    #[test]
    fn a_denial_says_who_denied() {
        let said = |status: Value| {
            let error = denial("a.b.c", &status);
            (error.code, error.reason, error.message)
        };
        let text = |rest: &str| format!("admission webhook \"a.b.c\" denied the request{rest}");
        assert_eq!(said(Value::Null), (400, "", text(" without explanation")));
        assert_eq!(said(json!({"reason": "Forbidden"})), (400, "Forbidden", text(": Forbidden")));
        let status = json!({"code": 403, "message": "no", "reason": "of my own"});
        assert_eq!(said(status), (403, "", text(": no")));
        assert_eq!(said(json!({"code": 200})).0, 400);
    }
}
