//! Leases of Nodes as of now.
//!
//! A session says that its spoke is there; written down are only its beginning and its end. Who asks for the
//! Lease of a Node gets the present as the time of renewal while the session is up. A watch shows what is
//! written.
//!
//! Guarantees:
//! - nothing is written for it (`the_lease_of_a_connected_node_is_renewed_now`);
//! - of a list, one Lease is renewed at a time, where the list is made
//!   (`leases_of_connected_nodes_are_renewed_where_their_list_is_made`).

use std::sync::Arc;

use freewheel_hub_objects::Objects;
use freewheel_hub_objects::internal::SessionRecord;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::Object;
use freewheel_hub_schema::time;
use freewheel_hub_store::{Snapshot, Stored};
use jiff::Timestamp;
use serde_json::json;

/// Where the Leases of Nodes are.
const NAMESPACE: &str = "kube-node-lease";

/// Renews what is read of the Leases of Nodes; everything else passes as it is.
#[derive(Default)]
pub(crate) struct Renewal {
    /// `None` where no such Lease can be among what is read.
    sessions: Option<Arc<dyn Snapshot>>,
    now: String,
}

impl Renewal {
    /// For what is read of this kind there; in all namespaces when there is none.
    pub(crate) fn of(kind: &Kind, namespace: &str, objects: &Objects) -> Self {
        let leases = kind.has(Trait::IsRenewedBySessions) && matches!(namespace, "" | NAMESPACE);
        let now = Timestamp::from_nanosecond(objects.clock().unix_nanos());
        Self {
            sessions: leases.then(|| objects.store().snapshot()),
            now: time::micros(now.unwrap_or_default()),
        }
    }

    /// Whether anything may have to be renewed.
    pub(crate) fn may_change(&self) -> bool {
        self.sessions.is_some()
    }

    /// The object as of now.
    pub(crate) fn renew(&self, stored: &Arc<Stored>) -> Result<Arc<Stored>, ApiError> {
        let same = Ok(stored.clone());
        let Some(sessions) = &self.sessions else { return same };
        if &*stored.key.namespace != NAMESPACE || !is_connected(&**sessions, &stored.key.name) {
            return same;
        }
        let mut value = stored.object.value()?;
        if value.pointer("/spec/holderIdentity") != Some(&json!(&*stored.key.name)) {
            // Somebody else's, which happens to be named like a spoke.
            return same;
        }
        value["spec"]["renewTime"] = json!(self.now);
        let object = Object::from_value(value, stored.object.header.fields.clone())?;
        let (key, revision, created) = (stored.key.clone(), stored.revision, stored.created);
        Ok(Arc::new(Stored { key, object, revision, created }))
    }
}

fn is_connected(snapshot: &dyn Snapshot, spoke: &str) -> bool {
    SessionRecord::of(snapshot, spoke).is_some_and(|session| session.connected)
}
