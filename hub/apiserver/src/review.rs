//! Questions that a caller may ask about itself: who am I, what may I do.

use bytes::Bytes;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::{protobuf, time};
use http::Response;
use serde_json::{Value, json};

use crate::authn::User;
use crate::authz::{self, Attributes};
use crate::body::Body;
use crate::decode;
use crate::media::Wire;
use crate::respond;

/// Answers a POST to a review; `None` when the path is none. `wire` and `out` are the formats of
/// question and answer.
pub(crate) fn answer(
    user: &User,
    (group, version, plural): (&str, &str, &str),
    (wire, out): (Wire, Wire),
    body: Bytes,
) -> Option<Result<Response<Body>, ApiError>> {
    let answer = match (group, version, plural) {
        ("authentication.k8s.io", "v1", "selfsubjectreviews") => Some(Ok(who(user))),
        ("authorization.k8s.io", "v1", "selfsubjectaccessreviews") => {
            Some(read(wire, body).map(|review| may(user, &review)))
        }
        ("authorization.k8s.io", "v1", "selfsubjectrulesreviews") => {
            Some(read(wire, body).map(|review| rules(user, &review)))
        }
        _ => None,
    };
    answer.map(|answer| answer.map(|value| respond::status(201, out, &value)))
}

/// Whether a path is a review's.
pub(crate) fn is_review(group: &str, version: &str, plural: &str) -> bool {
    matches!(
        (group, version, plural),
        ("authentication.k8s.io", "v1", "selfsubjectreviews")
            | (
                "authorization.k8s.io",
                "v1",
                "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
            )
    )
}

fn read(wire: Wire, body: Bytes) -> Result<Value, ApiError> {
    if wire == Wire::Protobuf {
        return protobuf::decode(&body);
    }
    let bytes = decode::json_bytes(wire, body)?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn who(user: &User) -> Value {
    json!({
        "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": time::now()},
        "status": {"userInfo": {"username": user.name, "groups": user.groups}},
    })
}

fn may(user: &User, review: &Value) -> Value {
    let spec = review.get("spec").cloned().unwrap_or_else(|| json!({}));
    let text = |path: &str| spec.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let allowed = if spec.get("nonResourceAttributes").is_some() {
        let (verb, path) =
            (text("/nonResourceAttributes/verb"), text("/nonResourceAttributes/path"));
        authz::check_path(user, verb, path).is_ok()
    } else {
        let attributes = Attributes {
            verb: text("/resourceAttributes/verb"),
            group: text("/resourceAttributes/group"),
            resource: text("/resourceAttributes/resource"),
            subresource: text("/resourceAttributes/subresource"),
            namespace: text("/resourceAttributes/namespace"),
            name: text("/resourceAttributes/name"),
        };
        authz::allows(user, &attributes)
    };
    json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {}, "spec": spec, "status": {"allowed": allowed},
    })
}

fn rules(user: &User, review: &Value) -> Value {
    let mut resources = vec![
        json!({
            "verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        }),
        json!({
            "verbs": ["create"], "apiGroups": ["authentication.k8s.io"],
            "resources": ["selfsubjectreviews"],
        }),
    ];
    let mut paths = vec![json!({
        "verbs": ["get"],
        "nonResourceURLs": authz::DISCOVERY.iter().flat_map(|path| [(*path).to_owned(), format!("{path}/*")])
            .collect::<Vec<_>>(),
    })];
    if user.is_master() {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    json!({
        "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {}, "spec": review.get("spec").cloned().unwrap_or_else(|| json!({})),
        "status": {"resourceRules": resources, "nonResourceRules": paths, "incomplete": false},
    })
}
