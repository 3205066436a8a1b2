//! Leases of Nodes as of now.
//!
//! A session says that its spoke is there; written down are only its beginning and its end. Who asks for the
//! Lease of a Node gets the present as the time of renewal while the session is up. A watch shows what is
//! written.

use std::sync::Arc;

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Trait;
use freewheel_hub_api::object::{Key, Object, Resource};
use freewheel_hub_api::time;
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::names::ClusterName;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::call::Call;

/// Where the Leases of Nodes are.
const NAMESPACE: &str = "kube-node-lease";

/// The part of `sessions.internal` that counts here.
#[derive(Deserialize)]
struct Session {
    connected: bool,
}

/// Renews what is read of the Leases of Nodes; everything else passes as it is.
pub(crate) struct Renewal {
    /// `None` where no such Lease can be among what is read.
    sessions: Option<Arc<dyn Snapshot>>,
    now: String,
}

impl Renewal {
    /// For what this request reads.
    pub(crate) fn of(call: &Call) -> Self {
        let kind = &call.view.stored;
        let leases = kind.has(Trait::IsRenewedBySessions)
            && matches!(call.namespace.as_str(), "" | NAMESPACE);
        let objects = &call.hub.server.objects;
        let now = Timestamp::from_nanosecond(objects.clock().unix_nanos());
        Self {
            sessions: leases.then(|| objects.store().snapshot()),
            now: time::micros(now.unwrap_or_default()),
        }
    }

    /// The object as of now.
    pub(crate) fn renew(&self, stored: Arc<Stored>) -> Result<Arc<Stored>, ApiError> {
        let Some(sessions) = &self.sessions else { return Ok(stored) };
        if &*stored.key.namespace != NAMESPACE || !is_connected(&**sessions, &stored.key.name) {
            return Ok(stored);
        }
        let mut value = stored.object.value()?;
        if value.pointer("/spec/holderIdentity") != Some(&json!(&*stored.key.name)) {
            // Somebody else's, which happens to be named like a spoke.
            return Ok(stored);
        }
        value["spec"]["renewTime"] = json!(self.now);
        let object = Object::from_value(value, stored.object.header.fields.clone())?;
        let (key, revision, created) = (stored.key.clone(), stored.revision, stored.created);
        Ok(Arc::new(Stored { key, object, revision, created }))
    }

    /// All of a list.
    pub(crate) fn renew_all(&self, items: Vec<Arc<Stored>>) -> Result<Vec<Arc<Stored>>, ApiError> {
        if self.sessions.is_none() {
            return Ok(items);
        }
        items.into_iter().map(|stored| self.renew(stored)).collect()
    }
}

fn is_connected(snapshot: &dyn Snapshot, spoke: &str) -> bool {
    let key = Key::new(&Resource::new("internal", "sessions"), &ClusterName::root(), "", spoke);
    let session = snapshot.get(&key);
    let session = session.and_then(|s| serde_json::from_slice::<Session>(&s.object.body).ok());
    session.is_some_and(|session| session.connected)
}
