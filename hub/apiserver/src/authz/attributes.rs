//! What somebody wants to do: who, what, and in which logical cluster.

use freewheel_hub_schema::uid::Uid;
use freewheel_link::names::ClusterName;

use crate::authn::User;
use crate::path::Target;

/// What a caller wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a User,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; of a path its method.
    pub verb: &'a str,
    /// Where.
    pub cluster: Cluster<'a>,
    /// To what.
    pub what: What<'a>,
}

/// A logical cluster, as a right sees it.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// Its name, which another one may have had.
    pub name: &'a ClusterName,
    /// Its ManagedCluster's; `None` for the root.
    pub uid: Option<&'a Uid>,
}

impl Cluster<'_> {
    /// Whether a name and a UID with a colon between them are this very cluster's, and not of one that had its name.
    pub(super) fn is(self, named: &str) -> bool {
        let Some(uid) = self.uid.filter(|uid| !uid.is_empty()) else { return false };
        named.split_once(':') == Some((self.name.as_str(), &**uid))
    }
}

/// What something is done to.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// Objects.
    Resource(Resource<'a>),
    /// A path that is no resource, without the cluster's prefix.
    Path(&'a str),
}

/// Objects, or a part of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resource<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Version of the group, empty for any.
    pub version: &'a str,
    /// Plural resource.
    pub plural: &'a str,
    /// Subresource, empty for none.
    pub subresource: &'a str,
    /// Namespace, empty for none or all.
    pub namespace: &'a str,
    /// Object's name, empty for none.
    pub name: &'a str,
    /// Of a collection the `fieldSelector` that leaves a part of it; empty for all of it.
    pub fields: &'a str,
    /// The same by its `labelSelector`.
    pub labels: &'a str,
}

impl<'a> From<&'a Target<'_>> for Resource<'a> {
    fn from(target: &'a Target<'_>) -> Self {
        let name = target.name.as_deref().unwrap_or_default();
        Self {
            group: target.group,
            version: target.version,
            plural: target.plural,
            subresource: target.subresource.unwrap_or_default(),
            namespace: target.home(),
            name,
            fields: "",
            labels: "",
        }
    }
}
