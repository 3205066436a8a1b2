//! All who have a say, one after the other.

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use serde_json::Value;
use tracing::debug;

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;
use super::{
    accounts, built_in_definitions, cluster_taints, definitions, limit_ranger, namespaces, nodes,
    pod_security, priority, resource_quota, runtime_class, tolerations,
};
use crate::{Canonical, Claims, ObjectRef};

/// All who have a say, in the order in which they are asked.
#[derive(Clone)]
pub(crate) struct Chain(Arc<Vec<Arc<dyn Plugin>>>);

impl Chain {
    /// Those without whom there is no hub; the order is kube-apiserver's.
    pub(crate) fn built_in() -> Self {
        Self(Arc::new(vec![
            Arc::new(namespaces::NamespaceLifecycle),
            Arc::new(definitions::DefinitionLifecycle),
            Arc::new(built_in_definitions::BuiltInDefinitions),
            Arc::new(limit_ranger::LimitRanger),
            Arc::new(accounts::ServiceAccount),
            Arc::new(nodes::TaintNodesByCondition),
            Arc::new(pod_security::PodSecurity),
            Arc::new(priority::Priority),
            Arc::new(tolerations::DefaultTolerationSeconds),
            Arc::new(runtime_class::RuntimeClass),
            Arc::new(cluster_taints::ManagedClusterTaints),
            Arc::new(resource_quota::ResourceQuota),
        ]))
    }

    pub(crate) fn push(&mut self, plugin: Arc<dyn Plugin>) {
        Arc::make_mut(&mut self.0).push(plugin);
    }

    fn who_handles(&self, review: &Review<'_>) -> impl Iterator<Item = &Arc<dyn Plugin>> {
        self.0.iter().filter(|plugin| plugin.handles(review))
    }

    /// What they make of an object, one after the other, and where one of them asks for it once more.
    pub(crate) async fn mutate(
        &self,
        review: &Review<'_>,
        object: &mut Canonical,
    ) -> Result<(), ApiError> {
        self.round(review, object).await?;
        if review.rounds.begins_again() {
            self.round(review, object).await?;
        }
        Ok(())
    }

    /// What they make of an action and say of it, `check` between the one and the other. What they claim for it is not
    /// written: nothing of it is.
    pub(crate) async fn admit<F>(
        &self,
        review: &Review<'_>,
        mut object: Value,
        check: F,
    ) -> Result<Value, ApiError>
    where
        F: FnOnce(Value) -> Result<Value, ApiError> + Send,
    {
        self.round_of_action(review, &mut object).await?;
        if review.rounds.begins_again() {
            self.round_of_action(review, &mut object).await?;
        }
        let object = check(object)?;
        self.validate(review, &object).await?;
        Ok(object)
    }

    async fn round_of_action(
        &self,
        review: &Review<'_>,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        for plugin in self.who_handles(review) {
            let outcome = plugin.mutate(review, object).await;
            outcome.map_err(|why| refused(&**plugin, review, object, why))?;
        }
        Ok(())
    }

    async fn round(&self, review: &Review<'_>, object: &mut Canonical) -> Result<(), ApiError> {
        for plugin in self.who_handles(review) {
            let outcome = plugin.mutate(review, object.rules()).await;
            outcome.map_err(|why| refused(&**plugin, review, object, why))?;
            if !plugin.keeps_form() {
                object.reform(review.target).map_err(|error| {
                    ApiError::internal(format!("{} made no object of it: {error}", plugin.name()))
                })?;
            }
        }
        Ok(())
    }

    /// What they claim for an object, together.
    pub(crate) async fn validate(
        &self,
        review: &Review<'_>,
        object: &Value,
    ) -> Result<Claims, ApiError> {
        let mut claims = Claims::default();
        for plugin in self.who_handles(review) {
            let claimed = plugin.validate(review, object).await;
            claims.join(claimed.map_err(|why| refused(&**plugin, review, object, why))?);
        }
        Ok(claims)
    }

    /// What they give back when an object is gone.
    pub(crate) fn release(&self, target: &ObjectRef, gone: &Value) -> Claims {
        let mut claims = Claims::default();
        self.0.iter().for_each(|plugin| claims.join(plugin.release(target, gone)));
        claims
    }
}

fn refused(plugin: &dyn Plugin, review: &Review<'_>, object: &Value, why: Refusal) -> ApiError {
    debug!(plugin = plugin.name(), verb = review.verb.as_str(), ?why, "a write is not let in");
    why.status(review.target, object)
}
