//! Which object a write is about.

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_hub_schema::object::Key;
use freewheel_link::names::ClusterName;

/// Which object.
#[derive(Clone, Debug)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Arc<Kind>,
    /// Its logical cluster.
    pub cluster: ClusterName,
    /// Its namespace, empty for what has none.
    pub namespace: NamespaceName,
    /// Its name; empty on a create that uses generateName or takes it from the body.
    pub name: String,
}

impl ObjectRef {
    /// Its key in the store; a namespace means nothing to a kind that lives in none.
    #[must_use]
    pub fn key(&self) -> Key {
        let namespace = if self.kind.namespaced { self.namespace.as_str() } else { "" };
        Key::new(self.kind.storage(), &self.cluster, namespace, &self.name)
    }

    /// That objects are written by the name of its kind.
    pub(crate) fn check_is_written(&self) -> Result<(), ApiError> {
        if self.kind.is_written() { Ok(()) } else { Err(ApiError::method_not_allowed()) }
    }

    /// The same for who takes away: what was stored by a name that is none any more can go.
    pub(crate) fn check_is_no_view(&self) -> Result<(), ApiError> {
        if self.kind.is_view() { Err(ApiError::method_not_allowed()) } else { Ok(()) }
    }
}
