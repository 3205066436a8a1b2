//! What people may do, for expressions of admission that ask.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_admission::{Authorizer, Who};
use freewheel_hub_cel::{Answer, Question};
use freewheel_hub_store::Store;
use freewheel_link::names::ClusterName;

use crate::authn::User;
use crate::authz::{Attributes, Authorizer as _, Authorizers, Decision, Resource, What};
use crate::tenant::Tenant;

/// Asks the API's authorizers.
pub(super) struct Rights {
    pub(super) authorizers: Arc<Authorizers>,
    pub(super) store: Arc<dyn Store>,
}

#[async_trait]
impl Authorizer for Rights {
    async fn may(&self, who: &Who, cluster: &ClusterName, question: &Question) -> Answer {
        let tenant = match Tenant::find(&*self.store.snapshot(), Some(cluster.as_str())) {
            Ok(tenant) => tenant,
            Err(error) => return Answer { error: error.message, ..Answer::default() },
        };
        let Who { name, uid, groups, extra } = who.clone();
        let user = User { name, uid, groups, extra, ..User::default() };
        let what = match &question.path {
            Some(path) => What::Path(path),
            None => What::Resource(Resource {
                group: &question.group,
                plural: &question.resource,
                subresource: &question.subresource,
                namespace: &question.namespace,
                name: &question.name,
                fields: &question.fields,
                labels: &question.labels,
                ..Resource::default()
            }),
        };
        let asked =
            Attributes { user: &user, verb: &question.verb, cluster: tenant.cluster(), what };
        let none = String::new;
        let (allowed, reason, error) = match self.authorizers.decide(&asked).await {
            Decision::Allow(reason) => (true, reason.into_owned(), none()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                (false, reason.into_owned(), none())
            }
            Decision::Unanswered(why) | Decision::Failed(why) => (false, none(), why.into_owned()),
        };
        Answer { allowed, reason, error }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_rbac::Index;
    use freewheel_hub_store::memory::MemoryStore;

    use super::*;
    use crate::authz::AuthorizerOptions;

    #[tokio::test]
    async fn an_expression_asks_about_a_part_of_a_collection() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (rights, store) = Index::over(store);
        let authorizers = Authorizers::over(&store, &rights, vec![AuthorizerOptions::Node]);
        let rights = Rights { authorizers: Arc::new(authorizers), store };
        let groups = vec!["system:nodes".to_owned()];
        let node = Who { name: "system:node:pi-7".to_owned(), groups, ..Who::default() };
        for (fields, may) in
            [("spec.nodeName=pi-7", true), ("spec.nodeName=pi-8", false), ("", false), ("a", false)]
        {
            let (resource, verb) = ("pods".to_owned(), "list".to_owned());
            let fields = fields.to_owned();
            let question = Question { resource, verb, fields, ..Question::default() };
            let answer = rights.may(&node, &ClusterName::root(), &question).await;
            assert_eq!(answer.allowed, may, "{question:?} {answer:?}");
        }
    }
}
