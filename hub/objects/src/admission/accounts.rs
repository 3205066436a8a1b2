//! ServiceAccount: what runs as an account is let in when that is there, and gets its token.
//!
//! ```text
//! token    the volume with the account's token, and its mount in each container
//! secrets  which Secrets a pod names, and which its account may mount
//! ```
//!
//! Guarantees:
//! - a pod has its account's token where it and the account do not say otherwise, and nothing of what it mounts there
//!   itself is changed (`a_pod_gets_the_token_of_its_account_unless_somebody_says_otherwise`);
//! - an account that is held to its own Secrets mounts no others
//!   (`an_account_may_be_held_to_its_own_secrets`), and a mirror of a pod that somebody else runs names none at all
//!   (`a_mirror_pod_has_neither_account_nor_secrets`).

mod secrets;
mod token;

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;

/// The account that a controller gives to every namespace. It may come a moment after the namespace, so
/// nobody waits for it.
const EVERYWHERE: &str = "default";
/// At a pod that shows what a node runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// At an account that may mount the Secrets alone that it names.
const ENFORCES: &str = "kubernetes.io/enforce-mountable-secrets";

pub(super) struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let by = (review.verb, review.subresource);
        let names_secrets = matches!(by, (crate::Verb::Update, Some("ephemeralcontainers")));
        review.target.kind.namespaced && (review.creates() || names_secrets)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Refusal> {
        let Some(name) = review.target.kind.strategy.account(object) else { return Ok(()) };
        if !review.creates() || is_mirror(object) {
            return Ok(());
        }
        let name = name.to_owned();
        let account = find(review, &name)?;
        if !review.target.kind.has(Trait::RunsOnNodes) {
            return Ok(());
        }
        for field in ["serviceAccount", "serviceAccountName"] {
            object["spec"][field] = json!(name);
        }
        if token::is_wanted(object, &account) {
            token::mount(object, || review.generate_name(token::VOLUME_PREFIX));
        }
        let pulls = account.get("imagePullSecrets").filter(|_| secrets::pulls(object).is_empty());
        let pulls = pulls.and_then(Value::as_array).filter(|all| !all.is_empty());
        if let Some(pulls) = pulls {
            object["spec"]["imagePullSecrets"] =
                pulls.iter().map(|one| json!({"name": one["name"]})).collect();
        }
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>, pod: &Value) -> Result<crate::Claims, Refusal> {
        let account = review.target.kind.strategy.account(pod);
        let runs = review.target.kind.has(Trait::RunsOnNodes);
        let Some(name) = account.filter(|_| runs) else { return Ok(crate::Claims::default()) };
        let outcome = if is_mirror(pod) && review.creates() {
            secrets::check_mirror(pod).map_err(str::to_owned)
        } else {
            let account = find(review, name)?;
            let held = account.pointer("/metadata/annotations").and_then(|all| all.get(ENFORCES));
            if held.and_then(Value::as_str).is_some_and(is_true) {
                secrets::check_own(pod, (name, &account), review.creates())
            } else {
                Ok(())
            }
        };
        outcome.map(|()| crate::Claims::default()).map_err(Refusal::forbidden)
    }
}

/// As Go reads a yes.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations").is_some_and(|all| all.get(MIRROR).is_some())
}

/// The account; nothing of the one that is everywhere, where it is not there yet.
fn find(review: &Review<'_>, name: &str) -> Result<Value, Refusal> {
    let target = review.target;
    let accounts = Resource::new("", "serviceaccounts");
    let key = Key::new(&accounts, &target.cluster, &target.namespace, name);
    let found: Option<Arc<Stored>> = review.state().get(&key);
    match found.map(|stored| stored.object.value()) {
        Some(Ok(account)) => Ok(account),
        None if name == EVERYWHERE => Ok(Value::Null),
        None | Some(Err(_)) => {
            let namespace = &target.namespace;
            Err(Refusal::forbidden(format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            )))
        }
    }
}
