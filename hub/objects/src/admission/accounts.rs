//! ServiceAccount: what runs as an account is let in when that is there.

use async_trait::async_trait;
use freewheel_hub_schema::object::{Key, Resource};
use serde_json::Value;

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;

/// The account that a controller gives to every namespace. It may come a moment after the namespace, so
/// nobody waits for it.
const EVERYWHERE: &str = "default";

pub(super) struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.creates() && review.target.kind.namespaced
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Refusal> {
        let target = review.target;
        let Some(account) = target.kind.strategy.account(object) else { return Ok(()) };
        let accounts = Resource::new("", "serviceaccounts");
        let key = Key::new(&accounts, &target.cluster, &target.namespace, account);
        if account == EVERYWHERE || review.state().get(&key).is_some() {
            return Ok(());
        }
        let namespace = &target.namespace;
        Err(Refusal::forbidden(format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        )))
    }
}
