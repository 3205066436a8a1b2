//! NamespaceLifecycle: new content needs a namespace that is there and stays, and some namespaces have to stay.

use async_trait::async_trait;
use freewheel_hub_schema::error::{Cause, NAMESPACE_TERMINATING};
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::Expect;
use serde_json::Value;

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;
use crate::{Claims, Verb};

/// Namespaces that every cluster needs.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let kind = &review.target.kind;
        match review.verb {
            Verb::Create => kind.namespaced,
            Verb::Update | Verb::Connect => false,
            Verb::Delete => kind.has(Trait::HasContent),
        }
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, _: &mut Value) -> Result<(), Refusal> {
        home(review).map(drop)
    }

    async fn validate(&self, review: &Review<'_>, _: &Value) -> Result<Claims, Refusal> {
        if review.verb == Verb::Delete {
            return match IMMORTAL.contains(&review.target.name.as_str()) {
                true => Err(Refusal::forbidden("this namespace may not be deleted")),
                false => Ok(Claims::default()),
            };
        }
        let mut claims = Claims::default();
        // It begins to go by a write: whoever is faster goes first.
        claims.expect(home(review)?);
        Ok(claims)
    }
}

/// The namespace as it has to be when the content comes.
fn home(review: &Review<'_>) -> Result<Expect, Refusal> {
    let target = review.target;
    let namespace = &target.namespace;
    let key = Key::new(&Resource::new("", "namespaces"), &target.cluster, "", namespace);
    let found = review.state().get(&key);
    let found = found.ok_or_else(|| Refusal::Nowhere { namespace: namespace.to_string() })?;
    if !found.object.header.deleting {
        return Ok(Expect::Revision(key, found.revision));
    }
    let cause = Cause {
        reason: NAMESPACE_TERMINATING.to_owned(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    };
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    Err(Refusal::Forbidden { why, causes: vec![cause] })
}
