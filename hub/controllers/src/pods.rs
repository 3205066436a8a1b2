//! What controllers want to know about a pod, read once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Stored;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::engine::Error;
use crate::engine::client::typed;

/// A pod as controllers see it.
#[derive(Clone, Debug)]
pub struct PodFacts {
    /// The stored object.
    pub stored: Arc<Stored>,
    /// Its typed form.
    pub pod: Pod,
}

impl PodFacts {
    /// Reads a stored pod.
    pub fn read(stored: Arc<Stored>) -> Result<Self, Error> {
        let pod = typed(&stored)?;
        Ok(Self { stored, pod })
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.stored.key
    }

    /// Its UID.
    #[must_use]
    pub fn uid(&self) -> &Uid {
        &self.stored.object.header.uid
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.stored.object.header.labels
    }

    /// Deletion was asked for.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.stored.object.header.deleting
    }

    /// `status.phase`, empty when nobody said anything yet.
    #[must_use]
    pub fn phase(&self) -> &str {
        self.pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
    }

    /// Will never run again.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// Neither finished nor being deleted.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.is_finished() && !self.is_deleting()
    }

    /// `spec.nodeName`, empty when unbound.
    #[must_use]
    pub fn node(&self) -> &str {
        self.pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
    }

    /// `status.podIP`, empty when there is none.
    #[must_use]
    pub fn ip(&self) -> &str {
        self.pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()).unwrap_or_default()
    }

    /// A condition by type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&PodCondition> {
        let conditions = self.pod.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|c| c.type_ == kind)
    }

    /// Condition Ready is True.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|c| c.status == "True")
    }

    /// Since when it is ready, when it is.
    #[must_use]
    pub fn ready_since(&self) -> Option<Timestamp> {
        let ready = self.condition("Ready").filter(|c| c.status == "True")?;
        ready.last_transition_time.as_ref().map(|t| t.0)
    }

    /// When it was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0)
    }

    /// The restarts of the container that restarted most.
    #[must_use]
    pub fn restarts(&self) -> i32 {
        let statuses = self.pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
        statuses.into_iter().flatten().map(|s| s.restart_count).max().unwrap_or_default()
    }

    /// UID of the controlling owner.
    #[must_use]
    pub fn controller(&self) -> Option<&Uid> {
        controller_of(&self.stored)
    }
}

/// The UID of the controlling owner of any object.
#[must_use]
pub fn controller_of(stored: &Stored) -> Option<&Uid> {
    stored.object.header.owners.iter().find(|o| o.controller).map(|o| &o.uid)
}

/// Neither finished nor being deleted, told from a stored pod's header alone.
#[must_use]
pub fn is_active(stored: &Stored) -> bool {
    let header = &stored.object.header;
    let phase = header.fields.get("status.phase").map(String::as_str);
    !header.deleting && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a pod counts as available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It will be, if it stays ready.
    In(Duration),
}
