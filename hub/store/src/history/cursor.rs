//! What a watcher reads of the topics.

use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_link::names::ClusterName;

use super::topic::TopicKey;
use crate::{Event, Scope};

/// Which topic a scope reads, and what it leaves out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(super) topic_key: TopicKey,
    /// Only where the topic has others as well.
    cluster: Option<ClusterName>,
    namespace: Option<NamespaceName>,
}

impl From<Scope> for Subscription {
    fn from(scope: Scope) -> Self {
        let topic_key = TopicKey::from(&scope);
        let cluster = scope.cluster.filter(|_| matches!(topic_key, TopicKey::Resource(_)));
        Self { topic_key, cluster, namespace: scope.namespace }
    }
}

impl Subscription {
    pub(super) fn wants(&self, event: &Event) -> bool {
        if self.cluster.is_none() && self.namespace.is_none() {
            return true;
        }
        event.key().is_some_and(|key| {
            self.cluster.as_ref().is_none_or(|cluster| key.cluster == *cluster)
                && self.namespace.as_ref().is_none_or(|namespace| key.namespace == *namespace)
        })
    }
}

/// Where a watcher that has joined reads. Its topics stay where they are until it leaves, so that reading looks
/// nothing up.
pub(crate) enum Cursor {
    /// At one topic.
    Topic(Subscription, usize),
    /// At those of all API objects.
    All,
}
