//! What the hub keeps in the store beside API objects, and more than one of its parts reads.
//!
//! ```text
//! sessions.internal  root/<spoke>        a [`SessionRecord`]: transitions only
//! podcidrs.internal  <realm>/10.x.y.0    the name of the spoke that has the range
//! tokensigners.internal  <cluster>/current  the private key that signs tokens of its service accounts
//! tokenkeys.internal     <cluster>/<key>    the public half of a key that signs them, or did
//! ```
//!
//! The gateway writes the first two, the API server the others; the node controller, and whoever reads the Lease of a Node, go by sessions; what is left of
//! a ManagedCluster that is gone, a controller deletes.

use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::names::ClusterName;
use freewheel_link::report::ReportStamp;
use serde::{Deserialize, Serialize};

/// A spoke's session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Which hub holds it.
    pub hub: String,
    /// Counts the spoke's sessions; the highest is in force.
    pub epoch: u64,
    /// Whether it is up.
    pub connected: bool,
    /// Since when that is so, Unix milliseconds by the hub's clock.
    pub since: i64,
    /// UID of the ManagedCluster whose session it is.
    pub uid: String,
    /// First and last second of the spoke's certificate, Unix time.
    pub life: (i64, i64),
    /// It is up and takes no plan.
    pub late: bool,
    /// Which of the spoke's reports were durable when its last session ended.
    pub reported: Option<Reported>,
}

/// What is durable of one process's reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// UID of the ManagedCluster that it spoke for.
    pub uid: String,
    /// Which process.
    pub instance: u64,
    /// The newest of them: all before it are durable, too.
    pub stamp: ReportStamp,
}

impl SessionRecord {
    /// The session of the spoke of this name that is in force, if there ever was one.
    #[must_use]
    pub fn of(snapshot: &dyn Snapshot, spoke: &str) -> Option<Self> {
        Self::read(&*snapshot.get(&session_key(spoke))?)
    }

    /// What is stored.
    #[must_use]
    pub fn read(stored: &Stored) -> Option<Self> {
        serde_json::from_slice(&stored.object.body).ok()
    }

    /// As it is stored.
    #[must_use]
    pub fn to_object(&self) -> Object {
        // There is nothing in it that JSON has not.
        let body = serde_json::to_vec(self).unwrap_or_default();
        Object { header: Header::default(), body: body.into() }
    }
}

/// `sessions.internal`
#[must_use]
pub fn sessions() -> Resource {
    Resource::new("internal", "sessions")
}

/// `podcidrs.internal`
#[must_use]
pub fn pod_cidrs() -> Resource {
    Resource::new("internal", "podcidrs")
}

/// `tokensigners.internal`
#[must_use]
pub fn token_signers() -> Resource {
    Resource::new("internal", "tokensigners")
}

/// `tokenkeys.internal`
#[must_use]
pub fn token_keys() -> Resource {
    Resource::new("internal", "tokenkeys")
}

/// Where the session of the spoke of this name is.
#[must_use]
pub fn session_key(spoke: &str) -> Key {
    Key::new(&sessions(), &ClusterName::root(), "", spoke)
}
