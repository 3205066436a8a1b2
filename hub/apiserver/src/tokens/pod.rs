//! A token of a pod's service account, as kubelet asks for one: bound to the pod, good for the API or for somebody else.
//!
//! Guarantees:
//! - it ends with its pod and its account (`a_pods_token_is_that_of_a_request_bound_to_it`).

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::names::ClusterName;
use std::sync::Arc;

use super::claims::{Asked, Bound, Ref};
use super::issuer::Issuer;
use crate::tenant::Tenant;

/// What a pod asks for.
#[derive(Clone, Copy, Debug)]
pub struct PodToken<'a> {
    /// Its cluster.
    pub cluster: &'a ClusterName,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its service account.
    pub account: &'a str,
    /// Its name and its UID.
    pub pod: (&'a str, &'a str),
    /// Its node.
    pub node: &'a str,
    /// For whom; empty: for the API of its cluster.
    pub audience: &'a str,
    /// For how long.
    pub seconds: i64,
}

impl Issuer {
    /// A token for a pod. Waits for nothing.
    ///
    /// # Errors
    /// 404 when the account is not there, 503 while the cluster has no key that signs: [`Issuer::prepare`].
    pub fn for_pod(&self, asked: &PodToken<'_>) -> Result<String, ApiError> {
        let state = self.state();
        let find = |plural: &str, namespace: &str, name: &str| {
            find(&*state, asked.cluster, (plural, namespace, name))
        };
        let account = find("serviceaccounts", asked.namespace, asked.account);
        let account =
            account.ok_or_else(|| ApiError::not_found("", "serviceaccounts", asked.account))?;
        let no_key = || ApiError::new(503, "ServiceUnavailable", "there is no key for tokens yet");
        let key = self.current(&*state, asked.cluster)?.ok_or_else(no_key)?;
        let own = self.url(asked.cluster);
        let audience = if asked.audience.is_empty() { &*own } else { asked.audience };
        let (pod, pod_uid) = asked.pod;
        let named =
            |name: &str, uid: &str| Some(Ref { name: name.to_owned(), uid: uid.to_owned() });
        let node = find("nodes", "", asked.node).map(|node| node.object.header.uid.to_string());
        let bound = Bound {
            pod: named(pod, pod_uid),
            node: named(asked.node, &node.unwrap_or_default()),
            ..Bound::default()
        };
        let claims = Asked { audiences: vec![audience.to_owned()], seconds: asked.seconds }.claims(
            (self.now(), &own),
            (asked.namespace, asked.account, &account.object.header.uid),
            bound,
            std::slice::from_ref(&own),
        );
        let claims = serde_json::to_vec(&claims).map_err(ApiError::internal)?;
        key.sign(&claims).map_err(ApiError::internal)
    }

    /// Sees to it that the cluster has a key that signs.
    ///
    /// # Errors
    /// When the cluster is not there, or no key can be written.
    pub async fn prepare(&self, cluster: &ClusterName) -> Result<(), ApiError> {
        let name = (!cluster.is_root()).then(|| cluster.as_str());
        let tenant = Tenant::find(&*self.state(), name)?;
        self.sign(cluster, &tenant.expect(), b"{}").await.map(drop)
    }
}

fn find(
    snapshot: &dyn Snapshot,
    cluster: &ClusterName,
    (plural, namespace, name): (&str, &str, &str),
) -> Option<Arc<Stored>> {
    snapshot.get(&Key::new(&Resource::new("", plural), cluster, namespace, name))
}
