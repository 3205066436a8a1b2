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
