//! What callers may do, as controllers ask it.

use async_trait::async_trait;
use freewheel_link::names::ClusterName;

/// What somebody wants to do with a resource.
#[derive(Clone, Copy, Debug)]
pub struct RightAsked<'a> {
    /// In which logical cluster.
    pub cluster: &'a ClusterName,
    /// Who.
    pub user: &'a str,
    /// Groups that they are in.
    pub groups: &'a [String],
    /// `create`
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural.
    pub resource: &'a str,
    /// Namespace, if there is one.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
}

/// Who knows that; the hub's binary brings it.
#[async_trait]
pub trait Rights: Send + Sync {
    /// Whether they may.
    async fn may(&self, asked: RightAsked<'_>) -> bool;
}
