//! What callers may do, for those who act for them without a request of theirs.

use std::sync::Arc;

use freewheel_hub_store::Store;
use freewheel_link::names::ClusterName;

use crate::authn::User;
use crate::authz::{Attributes, Authorizer as _, Authorizers, Decision, Resource, What};
use crate::tenant::Tenant;

/// Asks the API's authorizers.
#[derive(Clone)]
pub struct CallerRights {
    pub(super) authorizers: Arc<Authorizers>,
    pub(super) store: Arc<dyn Store>,
}

/// What somebody wants to do with a resource.
#[derive(Clone, Copy, Debug)]
pub struct WantedRight<'a> {
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

impl CallerRights {
    /// Whether they may in this cluster; in one that is not there nobody may anything.
    pub async fn allow(&self, cluster: &ClusterName, wanted: &WantedRight<'_>) -> bool {
        let tenant = Tenant::find(&*self.store.snapshot(), Some(cluster.as_str()));
        let Ok(tenant) = tenant else { return false };
        let WantedRight { user, groups, verb, group, resource: plural, namespace, name } = *wanted;
        let user = User { name: user.to_owned(), groups: groups.to_vec(), ..User::default() };
        let what = Resource { group, plural, namespace, name, ..Resource::default() };
        let what = What::Resource(what);
        let asked = Attributes { user: &user, verb, cluster: tenant.cluster(), what };
        matches!(self.authorizers.decide(&asked).await, Decision::Allow(_))
    }
}
