//! Questions that a caller may ask about itself: who am I, what may I do.

use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::{protobuf, time};
use http::Response;
use serde_json::{Value, json};

use crate::authn::User;
use crate::authz::{
    Attributes, Authorizer as _, Authorizers, Cluster, Decision, Resource, Rules, What,
};
use crate::body::Body;
use crate::decode;
use crate::media::Wire;
use crate::respond;

/// Answers a POST to a review; `None` when the path is none. `wire` and `out` are the formats of
/// question and answer.
pub(crate) async fn answer(
    (authorizers, user, cluster): (&Authorizers, &User, Cluster<'_>),
    (group, version, plural): (&str, &str, &str),
    (wire, out): (Wire, Wire),
    body: Bytes,
) -> Option<Result<Response<Body>, ApiError>> {
    let answer = match (group, version, plural) {
        ("authentication.k8s.io", "v1", "selfsubjectreviews") => Some(Ok(who(user))),
        ("authorization.k8s.io", "v1", "selfsubjectaccessreviews") => match read(wire, body) {
            Ok(review) => Some(Ok(may((authorizers, user, cluster), &review).await)),
            Err(error) => Some(Err(error)),
        },
        ("authorization.k8s.io", "v1", "selfsubjectrulesreviews") => {
            let mut rules = Rules::default();
            authorizers.rules(user, cluster, &mut rules);
            Some(read(wire, body).map(|review| told(&rules, &review)))
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

async fn may(
    (authorizers, user, cluster): (&Authorizers, &User, Cluster<'_>),
    review: &Value,
) -> Value {
    let spec = review.get("spec").cloned().unwrap_or_else(|| json!({}));
    let text = |path: &str| spec.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (verb, what) = if spec.get("nonResourceAttributes").is_some() {
        let path = text("/nonResourceAttributes/path");
        (text("/nonResourceAttributes/verb"), What::Path(path))
    } else {
        let resource = Resource {
            group: text("/resourceAttributes/group"),
            plural: text("/resourceAttributes/resource"),
            subresource: text("/resourceAttributes/subresource"),
            namespace: text("/resourceAttributes/namespace"),
            name: text("/resourceAttributes/name"),
        };
        (text("/resourceAttributes/verb"), What::Resource(resource))
    };
    let decision = authorizers.decide(&Attributes { user, verb, cluster, what }).await;
    let status = match decision {
        Decision::Allow(_) => json!({"allowed": true}),
        Decision::NoOpinion(_) => json!({"allowed": false}),
        Decision::Deny(why) => json!({"allowed": false, "denied": true, "reason": why}),
    };
    json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {}, "spec": spec, "status": status,
    })
}

fn told(rules: &Rules, review: &Value) -> Value {
    json!({
        "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {}, "spec": review.get("spec").cloned().unwrap_or_else(|| json!({})),
        "status": rules,
    })
}
