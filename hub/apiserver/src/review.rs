//! Questions about callers: who am I, what may I do, what may somebody else do.
//!
//! Guarantees:
//! - what a review says is what a request is answered (`a_review_says_what_a_request_is_answered`), for others as well
//!   (`a_review_of_somebody_else_says_what_they_are_answered`), and for strangers
//!   (`a_review_says_of_strangers_what_they_are_answered`), also about a part of a collection
//!   (`a_review_says_of_a_node_what_it_is_answered`); what nobody knows is no reason but an error
//!   (`what_nobody_knows_is_said_as_an_error`);
//! - what has another shape is refused, and not taken for another question (`a_question_of_another_shape_is_no_question`),
//!   and so is more than anybody is to be asked about (`a_review_of_a_token_names_so_many_audiences_at_most`).

mod selectors;

use std::collections::BTreeMap;

use bytes::Bytes;
use freewheel_hub_objects::FieldValidation;
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::time;
use freewheel_hub_schema::types::Typed;
use http::Response;
use serde_json::{Value, json};

use crate::authn::{Bearers, User};
use crate::authz::{
    Attributes, Authorizer as _, Authorizers, Cluster, Decision, Resource, Rules, What,
};
use crate::body::Body;
use crate::decode;
use crate::media::Wire;
use crate::respond;
use selectors::Selectors;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Those for whom a token may be, in one review, and the length of one of them. kube-apiserver has no such bounds.
const AUDIENCES_MAX: usize = 64;
const AUDIENCE_BYTES_MAX: usize = 1_024;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Who am I?
    Who,
    /// May I do this?
    MayI,
    /// What may I do?
    WhatMayI,
    /// May somebody do this?
    MayThey,
    /// May somebody do this in the namespace of the path?
    MayTheyHere,
    /// Whose token is this?
    Whose,
}

impl Question {
    /// The question behind a path; whether it has a namespace.
    pub(crate) fn at(group: &str, version: &str, plural: &str, in_namespace: bool) -> Option<Self> {
        let question = match (group, version, plural) {
            (AUTHENTICATION, "v1", "selfsubjectreviews") => Self::Who,
            (AUTHENTICATION, "v1", "tokenreviews") => Self::Whose,
            (AUTHORIZATION, "v1", "selfsubjectaccessreviews") => Self::MayI,
            (AUTHORIZATION, "v1", "selfsubjectrulesreviews") => Self::WhatMayI,
            (AUTHORIZATION, "v1", "subjectaccessreviews") => Self::MayThey,
            (AUTHORIZATION, "v1", "localsubjectaccessreviews") => Self::MayTheyHere,
            _ => return None,
        };
        (in_namespace == (question == Self::MayTheyHere)).then_some(question)
    }

    const fn group(self) -> &'static str {
        match self {
            Self::Who | Self::Whose => AUTHENTICATION,
            Self::MayI | Self::WhatMayI | Self::MayThey | Self::MayTheyHere => AUTHORIZATION,
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Who => "SelfSubjectReview",
            Self::MayI => "SelfSubjectAccessReview",
            Self::WhatMayI => "SelfSubjectRulesReview",
            Self::MayThey => "SubjectAccessReview",
            Self::MayTheyHere => "LocalSubjectAccessReview",
            Self::Whose => "TokenReview",
        }
    }
}

/// Who asks, where, and those who know.
#[derive(Clone, Copy)]
pub(crate) struct Asks<'a> {
    pub(crate) authorizers: &'a Authorizers,
    pub(crate) bearers: &'a Bearers,
    pub(crate) user: &'a User,
    pub(crate) cluster: Cluster<'a>,
}

/// Answers a POST to a review. `wire` and `out` are the formats of question and answer; `validation` is of what is asked
/// beside the question.
pub(crate) async fn answer(
    Asks { authorizers, bearers, user, cluster }: Asks<'_>,
    (question, namespace): (Question, &str),
    (wire, out): (Wire, Wire),
    (body, validation): (Bytes, FieldValidation),
) -> Result<Response<Body>, ApiError> {
    let typed = Typed::from((question.group(), "v1", question.kind()));
    let (review, warnings) = decode::object(wire, body, typed, validation)?;
    let answer = match question {
        Question::Who => who(user),
        Question::WhatMayI => {
            let namespace = text(&review, "/spec/namespace");
            if namespace.is_empty() {
                return Err(ApiError::bad_request("no namespace on request"));
            }
            let mut rules = Rules::default();
            authorizers.rules(user, (cluster, namespace), &mut rules);
            rules_status(&rules)
        }
        Question::Whose => whose(bearers, cluster, &review).await?,
        Question::MayI => {
            check(question, &review, namespace)?;
            may((authorizers, user, cluster), question, &review).await
        }
        Question::MayThey | Question::MayTheyHere => {
            check(question, &review, namespace)?;
            let somebody = subject(&review["spec"]);
            may((authorizers, &somebody, cluster), question, &review).await
        }
    };
    let mut response = respond::status(201, out, &answer);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// A user as reviews show them.
fn info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn who(user: &User) -> Value {
    json!({
        "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": time::now()},
        "status": {"userInfo": info(user)},
    })
}

/// Every mistake of a question about a right.
fn check(question: Question, review: &Value, namespace: &str) -> Result<(), ApiError> {
    selectors::check_shape(review)?;
    let mut errors = Vec::new();
    let spec = &review["spec"];
    let none = Value::Null;
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    match (resource, path) {
        (Some(_), Some(path)) => {
            let text = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid("spec.nonResourceAttributes", path, text));
        }
        (None, None) => {
            let text =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid("spec.resourceAttributes", &none, text));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    if question != Question::MayI {
        let groups = spec["groups"].as_array().is_some_and(|groups| !groups.is_empty());
        if text(spec, "/user").is_empty() && !groups {
            let text = "at least one of user or group must be specified";
            errors.push(FieldError::invalid("spec.user", &json!(""), text));
        }
    }
    errors.extend(selectors::check(&spec["resourceAttributes"]));
    if question == Question::MayTheyHere {
        check_place(review, namespace, &mut errors)?;
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(AUTHORIZATION, question.kind(), "", &errors))
}

/// Whether a question about a namespace is about that of the path.
fn check_place(
    review: &Value,
    namespace: &str,
    errors: &mut Vec<FieldError>,
) -> Result<(), ApiError> {
    let spec = &review["spec"];
    let own = text(review, "/metadata/namespace");
    let asked = text(spec, "/resourceAttributes/namespace");
    if spec.get("resourceAttributes").is_some() && asked != own {
        let (at, text) = ("spec.resourceAttributes.namespace", "must match metadata.namespace");
        errors.push(FieldError::invalid(at, &json!(asked), text));
    }
    if let Some(path) = spec.get("nonResourceAttributes") {
        let text = "disallowed on this kind of request";
        errors.push(FieldError::invalid("spec.nonResourceAttributes", path, text));
    }
    if errors.is_empty() && own != namespace {
        return Err(ApiError::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    Ok(())
}

/// Whom a question is about.
fn subject(spec: &Value) -> User {
    let list = |value: &Value| {
        let texts = value.as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let extra = spec["extra"].as_object().into_iter().flatten();
    let extra: BTreeMap<_, _> = extra.map(|(key, values)| (key.clone(), list(values))).collect();
    User {
        name: text(spec, "/user").to_owned(),
        uid: text(spec, "/uid").to_owned(),
        groups: list(&spec["groups"]),
        extra,
        ..User::default()
    }
}

async fn may(
    (authorizers, user, cluster): (&Authorizers, &User, Cluster<'_>),
    question: Question,
    review: &Value,
) -> Value {
    let spec = &review["spec"];
    let Selectors { fields, labels, ignored } = Selectors::read(&spec["resourceAttributes"]);
    let (verb, what) = if spec.get("nonResourceAttributes").is_some() {
        let path = text(spec, "/nonResourceAttributes/path");
        (text(spec, "/nonResourceAttributes/verb"), What::Path(path))
    } else {
        let resource = Resource {
            group: text(spec, "/resourceAttributes/group"),
            version: text(spec, "/resourceAttributes/version"),
            plural: text(spec, "/resourceAttributes/resource"),
            subresource: text(spec, "/resourceAttributes/subresource"),
            namespace: text(spec, "/resourceAttributes/namespace"),
            name: text(spec, "/resourceAttributes/name"),
            fields: &fields,
            labels: &labels,
        };
        (text(spec, "/resourceAttributes/verb"), What::Resource(resource))
    };
    let asked = Attributes { user, verb, cluster, what };
    let mut status = decided(authorizers.decide(&asked).await);
    told_of_ignored(&mut status, ignored);
    let namespace = text(review, "/metadata/namespace");
    let metadata = if namespace.is_empty() { json!({}) } else { json!({"namespace": namespace}) };
    json!({
        "kind": question.kind(), "apiVersion": "authorization.k8s.io/v1",
        "metadata": metadata, "spec": spec, "status": status,
    })
}

/// What was decided, as `status` of a review.
fn decided(decision: Decision) -> Value {
    let (none, denied) = (json!({"allowed": false}), json!({"allowed": false, "denied": true}));
    let (mut status, key, why) = match decision {
        Decision::Allow(why) => (json!({"allowed": true}), "reason", why),
        Decision::NoOpinion(why) => (none, "reason", why),
        Decision::Deny(why) => (denied, "reason", why),
        Decision::Unanswered(why) => (none, "evaluationError", why),
        Decision::Failed(why) => (denied, "evaluationError", why),
    };
    if !why.is_empty() {
        status[key] = json!(why);
    }
    status
}

/// Says beside what else is not known what was not understood of the question.
fn told_of_ignored(status: &mut Value, ignored: Vec<String>) {
    if ignored.is_empty() {
        return;
    }
    let unknown = status["evaluationError"].as_str().map(str::to_owned);
    let all: Vec<String> = unknown.into_iter().chain(ignored).collect();
    status["evaluationError"] = json!(all.join("; "));
}

/// Whose token that is, for those who are named.
async fn whose(bearers: &Bearers, cluster: Cluster<'_>, review: &Value) -> Result<Value, ApiError> {
    let token = text(review, "/spec/token");
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = review.pointer("/spec/audiences").and_then(Value::as_array);
    let audiences = audiences.into_iter().flatten().filter_map(Value::as_str);
    let audiences: Vec<String> = audiences.map(str::to_owned).collect();
    check_audiences(&audiences)?;
    let status = match bearers.known(token, cluster, &audiences).await {
        Ok(known) => json!({
            "authenticated": true, "user": info(&known.user), "audiences": known.audiences,
        }),
        Err(why) => json!({"user": {}, "error": why.to_string()}),
    };
    Ok(json!({
        "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {}, "spec": review["spec"], "status": status,
    }))
}

/// Who may ask is not who knows the answer: what is passed on has a bound.
fn check_audiences(audiences: &[String]) -> Result<(), ApiError> {
    let at = "spec.audiences";
    let mut errors = Vec::new();
    if AUDIENCES_MAX < audiences.len() {
        errors.push(FieldError::too_many(at, audiences.len(), AUDIENCES_MAX));
    }
    let long = audiences.iter().position(|one| AUDIENCE_BYTES_MAX < one.len());
    errors.extend(long.map(|one| FieldError::too_long(format!("{at}[{one}]"), AUDIENCE_BYTES_MAX)));
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(AUTHENTICATION, Question::Whose.kind(), "", &errors))
}

fn rules_status(rules: &Rules) -> Value {
    json!({
        "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {}, "spec": {}, "status": rules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_said_as_an_error() {
        for (decision, status) in [
            (
                Decision::Deny("no".into()),
                json!({"allowed": false, "denied": true, "reason": "no"}),
            ),
            (
                Decision::Unanswered("away".into()),
                json!({"allowed": false, "evaluationError": "away"}),
            ),
            (
                Decision::Failed("away".into()),
                json!({"allowed": false, "denied": true, "evaluationError": "away"}),
            ),
        ] {
            assert_eq!(decided(decision), status);
        }
        let mut status = decided(Decision::Unanswered("away".into()));
        told_of_ignored(&mut status, vec!["this".to_owned(), "that".to_owned()]);
        assert_eq!(status["evaluationError"], "away; this; that");
        let mut status = decided(Decision::none());
        told_of_ignored(&mut status, Vec::new());
        assert_eq!(status, json!({"allowed": false}));
    }
}
