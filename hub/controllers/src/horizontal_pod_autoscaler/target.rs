//! What is scaled: anything that has a subresource `scale`.

use std::sync::Arc;

use freewheel_hub_api::scale::{NoReplicas, Scale, put_wanted};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Stored;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use serde_json::Value;

use crate::engine::Client;
use crate::engine::client::key as key_of;

/// What is scaled.
pub(super) struct Target {
    /// In the form of the store.
    kind: Arc<Kind>,
    stored: Arc<Stored>,
    /// How many it is to have and has, and of which pods.
    pub(super) scale: Scale,
}

/// Why its scale cannot be read, in the words of client-go.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoScale {
    /// `apiVersion` is none.
    #[error("unexpected GroupVersion string: {0}")]
    Version(String),
    /// Nobody serves such a kind.
    #[error("no matches for kind {kind:?} in group {group:?}")]
    NoKind {
        /// Which.
        kind: String,
        /// Of which group.
        group: String,
    },
    /// The kind has no scale.
    #[error("the server could not find the requested resource")]
    NotScalable,
    /// There is no such object.
    #[error("{}", .0.message)]
    NotFound(ApiError),
    /// Its kind cannot be read, or it says no number.
    #[error(transparent)]
    NoReplicas(#[from] NoReplicas),
    /// It cannot be read.
    #[error("{}", .0.message)]
    Unreadable(ApiError),
}

impl Target {
    /// What an autoscaler refers to.
    pub(super) fn find(
        client: &Client,
        autoscaler: &Key,
        reference: &CrossVersionObjectReference,
    ) -> Result<Self, NoScale> {
        let (cluster, namespace) = (&autoscaler.cluster, &*autoscaler.namespace);
        let version = reference.api_version.as_deref().unwrap_or_default();
        let group = match version.split_once('/') {
            None => "",
            Some((group, rest)) if !rest.contains('/') => group,
            Some(_) => return Err(NoScale::Version(version.to_owned())),
        };
        let registry = client.registry(cluster);
        let is_meant = |kind: &&Arc<Kind>| kind.group() == group && kind.kind() == reference.kind;
        let kinds: Vec<&Arc<Kind>> = registry.all().filter(is_meant).collect();
        if kinds.is_empty() {
            let (kind, group) = (reference.kind.clone(), group.to_owned());
            return Err(NoScale::NoKind { kind, group });
        }
        let scalable =
            |kind: &&Arc<Kind>| kind.namespaced && kind.subresource_named("scale").is_some();
        let served = kinds.into_iter().find(scalable).ok_or(NoScale::NotScalable)?;
        let kind = registry.by_storage(served.storage()).unwrap_or(served).clone();
        let key = key_of(&kind, cluster, namespace, &reference.name);
        let stored = client.snapshot().get(&key).ok_or_else(|| {
            NoScale::NotFound(ApiError::not_found(kind.group(), kind.plural(), &reference.name))
        })?;
        let scale = Scale::of(&kind, &stored.object.value().map_err(NoScale::Unreadable)?)?;
        Ok(Self { kind, stored, scale })
    }

    /// Makes it have so many; 409 when somebody has scaled it since it was looked at.
    pub(super) async fn rescale(&self, client: &Client, replicas: i32) -> Result<(), ApiError> {
        let (kind, name) = (&self.kind, &self.stored.key.name);
        let change = |mut value: Value| {
            // What was decided is of another number, which may be the zero that turns autoscaling off.
            let is_as_seen =
                Scale::of(kind, &value).is_ok_and(|now| now.wanted == self.scale.wanted);
            if !is_as_seen {
                let why = "it has been scaled since it was looked at";
                return Err(ApiError::conflict(kind.group(), kind.plural(), name, why));
            }
            put_wanted(kind, &mut value, replicas);
            Ok(value)
        };
        let door = Some("scale");
        client.modify_this(&self.kind, &self.stored, door, change).await.map(drop)
    }
}
