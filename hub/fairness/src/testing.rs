//! Levels, schemas and requests, as tests need them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::flow_schema::FlowSchema;
use crate::priority_level::PriorityLevel;
use crate::request::{Request, Resource, What};

/// One with this spec.
pub(crate) fn level(name: &str, spec: &Value) -> Arc<PriorityLevel> {
    let object = json!({"spec": spec}).to_string();
    Arc::new(PriorityLevel::read(name, &format!("u-{name}"), object.as_bytes()).unwrap())
}

/// One with so many shares, in which requests wait as they say.
pub(crate) fn limited(name: &str, shares: u32, queuing: Option<Value>) -> Arc<PriorityLevel> {
    let response = match queuing {
        Some(queuing) => json!({"type": "Queue", "queuing": queuing}),
        None => json!({"type": "Reject"}),
    };
    let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": 50,
        "limitResponse": response});
    level(name, &json!({"type": "Limited", "limited": limited}))
}

/// One of a user's requests, or everybody's.
pub(crate) fn schema(name: &str, precedence: u32, user: &str, to: &str) -> Arc<FlowSchema> {
    of_users(name, precedence, &json!([{"kind": "User", "user": {"name": user}}]), to)
}

/// One of the requests of so many users, in `catch-all`.
pub(crate) fn wide(name: &str, precedence: u32, users: usize) -> Arc<FlowSchema> {
    let user = |at| json!({"kind": "User", "user": {"name": format!("user-{at}")}});
    let subjects: Vec<Value> = (0..users).map(user).collect();
    of_users(name, precedence, &json!(subjects), "catch-all")
}

fn of_users(name: &str, precedence: u32, subjects: &Value, to: &str) -> Arc<FlowSchema> {
    let rule = json!({"subjects": subjects,
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
            "namespaces": ["*"], "clusterScope": true}]});
    let object = json!({"spec": {"priorityLevelConfiguration": {"name": to},
        "matchingPrecedence": precedence, "distinguisherMethod": {"type": "ByUser"},
        "rules": [rule]}});
    let object = object.to_string();
    Arc::new(FlowSchema::read(name, &format!("u-{name}"), object.as_bytes()).unwrap())
}

pub(crate) fn request(user: &str) -> Request<'_> {
    let pods = Resource { plural: "pods", namespace: "default", ..Resource::default() };
    Request { user, groups: &[], verb: "get", what: What::Resource(pods) }
}
