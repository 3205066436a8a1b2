//! What is scaled: anything that has a subresource `scale`.
//!
//! Guarantees:
//! - the scale of a target is read once each time that it or its definition changes, however many autoscalers look at it
//!   (`a_scale_is_read_once_until_its_object_or_its_definition_changes`, `a_scale_is_read_by_one_for_all`).

use std::sync::Arc;

use freewheel_hub_api::scale::{NoReplicas, Scale, put_wanted};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Revision, Stored};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use serde_json::Value;

use super::selectors::SELECTOR_BYTES_MAX;
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

/// The scale of a target as it was last read: reading one takes as long as the target is large, and nothing bounds how
/// many autoscalers look at one every fifteen seconds.
#[derive(Clone)]
pub(super) struct KnownScale {
    kind: Arc<Kind>,
    key: Key,
    revision: Revision,
    scale: Scale,
}

impl KnownScale {
    /// Of which target.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether it was read of the same as the other.
    pub(super) fn is_as_read(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kind, &other.kind) && self.revision == other.revision
    }

    /// As if a target had been read that is to have so many.
    #[cfg(test)]
    pub(super) fn read(kind: &Arc<Kind>, key: &Key, revision: Revision, wanted: i64) -> Self {
        let scale = Scale { wanted, current: wanted, selector: None };
        Self { kind: kind.clone(), key: key.clone(), revision, scale }
    }

    /// Whether it is what would be read of this; a definition that changes makes another kind.
    fn is_of(&self, kind: &Arc<Kind>, stored: &Stored) -> bool {
        Arc::ptr_eq(&self.kind, kind) && self.key == stored.key && self.revision == stored.revision
    }
}

fn read(kind: &Arc<Kind>, stored: &Stored, known: Option<&KnownScale>) -> Result<Scale, NoScale> {
    if let Some(known) = known.filter(|known| known.is_of(kind, stored)) {
        return Ok(known.scale.clone());
    }
    Ok(Scale::of(kind, &stored.object.value().map_err(NoScale::Unreadable)?)?)
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
    /// What an autoscaler refers to; `known` has the scales that were read before.
    pub(super) fn find(
        client: &Client,
        autoscaler: &Key,
        reference: &CrossVersionObjectReference,
        known: impl FnOnce(&Key) -> Option<Arc<KnownScale>>,
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
        let scale = read(&kind, &stored, known(&key).as_deref())?;
        Ok(Self { kind, stored, scale })
    }

    /// What need not be read again; nothing that takes more than a selector may.
    pub(super) fn known(&self) -> Option<KnownScale> {
        let bytes = self.scale.selector.as_ref().map_or(0, String::len);
        let known = || KnownScale {
            kind: self.kind.clone(),
            key: self.stored.key.clone(),
            revision: self.stored.revision,
            scale: self.scale.clone(),
        };
        (bytes <= SELECTOR_BYTES_MAX).then(known)
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

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use serde_json::json;

    use super::*;
    use crate::engine::client::kind;

    #[test]
    fn a_scale_is_read_once_until_its_object_or_its_definition_changes() {
        let deployments = kind("apps", "v1", "deployments").unwrap();
        let web = json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
        });
        let stored = crate::testing::stored(&Resource::new("apps", "deployments"), "web", web);
        let target = Target {
            kind: deployments.clone(),
            scale: read(&deployments, &stored, None).unwrap(),
            stored: stored.clone(),
        };
        // Told from what would be read.
        let mut known = target.known().unwrap();
        assert_eq!(known.scale.wanted, 3);
        known.scale.wanted = 7;
        let wanted = |kind, stored| read(kind, stored, Some(&known)).unwrap().wanted;
        assert_eq!(wanted(&deployments, &stored), 7);
        let (key, object) = (stored.key.clone(), stored.object.clone());
        let (revision, created) = (stored.revision + 1, stored.created);
        assert_eq!(wanted(&deployments, &Stored { key, object, revision, created }), 3);
        known.kind = kind("apps", "v1", "replicasets").unwrap();
        let scale = read(&deployments, &stored, Some(&known)).unwrap();
        assert_eq!(scale.wanted, 3, "its definition is another one");
    }

    #[test]
    fn of_a_selector_that_is_too_long_nothing_is_kept() {
        let deployments = kind("apps", "v1", "deployments").unwrap();
        let stored = crate::testing::stored(
            &Resource::new("apps", "deployments"),
            "web",
            json!({"metadata": {"name": "web"}}),
        );
        let known = |bytes: usize| {
            let scale = Scale { wanted: 1, current: 1, selector: Some("x".repeat(bytes)) };
            Target { kind: deployments.clone(), stored: stored.clone(), scale }.known().is_some()
        };
        assert!(known(SELECTOR_BYTES_MAX) && !known(SELECTOR_BYTES_MAX + 1));
    }
}
