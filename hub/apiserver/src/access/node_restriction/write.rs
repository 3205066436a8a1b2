//! A write of a node, as those who judge it see it.

use freewheel_hub_objects::{Person, Refusal, Review};
use freewheel_hub_schema::object::{Key, Resource};
use serde_json::Value;

use crate::authz::text;

pub(super) type Judged = Result<(), Refusal>;

/// A write of a node.
pub(super) struct NodeWrite<'a> {
    pub(super) review: &'a Review<'a>,
    pub(super) person: &'a Person,
    pub(super) node: &'a str,
    /// As it is asked for, or of a delete as it is.
    pub(super) object: &'a Value,
}

impl NodeWrite<'_> {
    /// Another object of its cluster.
    pub(super) fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.find_of("", plural, namespace, name)
    }

    pub(super) fn find_of(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let cluster = &self.review.target.cluster;
        let key = Key::new(&Resource::new(group, plural), cluster, namespace, name);
        self.review.state().get(&key)?.object.value().ok()
    }

    /// The name of the object, which one that is made has in itself alone.
    pub(super) fn name(&self) -> &str {
        let own = text(self.object, "/metadata/name").unwrap_or_default();
        if self.review.creates() { own } else { &self.review.target.name }
    }

    pub(super) fn unexpected(&self) -> Judged {
        let verb = self.review.verb.as_str().to_uppercase();
        Err(Refusal::forbidden(format!("unexpected operation {verb:?}")))
    }

    pub(super) fn is_own(&self, why: &str) -> Judged {
        if self.name() == self.node { Ok(()) } else { Err(Refusal::forbidden(why)) }
    }
}

/// Whether two lists or objects say the same, where nothing and an empty one do.
pub(super) fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    let said = |value: Option<&Value>| {
        let empty = |value: &&Value| match value {
            Value::Null => true,
            Value::Array(all) => all.is_empty(),
            Value::Object(all) => all.is_empty(),
            _ => false,
        };
        value.filter(|value| !empty(value)).cloned()
    };
    said(one) == said(other)
}
