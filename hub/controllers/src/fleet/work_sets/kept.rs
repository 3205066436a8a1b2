//! The template of the last rollout of a set that was finished, as its strategy has it: what its clusters get back when one
//! is aborted.
//!
//! It lies beside the API's objects: who reads Secrets or ControllerRevisions of a namespace, and not its sets, does not read
//! by that what sets give to clusters, and who writes such says not what clusters are given. There is one for each set that
//! asks for it, as large as a template may be, and it goes with the set.

use std::sync::Arc;

use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_store::{Expect, Operation, Snapshot, Stored, Txn};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use crate::engine::{Client, Error};
use crate::index::spec_digest;

/// Label of what is kept: the digest of the template.
const DIGEST_LABEL: &str = "template";

/// What is kept of a set.
pub(super) struct Kept(Arc<Stored>);

fn place(set: &Key) -> Key {
    let resource = Resource::new("internal", "worktemplates");
    Key::new(&resource, &ClusterName::root(), &set.namespace, &set.name)
}

impl Kept {
    /// Of this very set, and of none that had its name before.
    pub fn of(snapshot: &dyn Snapshot, set: &Stored) -> Option<Self> {
        let stored = snapshot.get(&place(&set.key))?;
        (stored.object.header.uid == set.object.header.uid).then_some(Self(stored))
    }

    /// Whether it is this template.
    pub fn is(&self, template: Digest) -> bool {
        let kept = self.0.object.header.labels.get(DIGEST_LABEL);
        kept.is_some_and(|kept| *kept == template.hex())
    }

    /// The template.
    pub fn template(&self) -> Result<Value, Error> {
        self.0.object.value().map_err(Error::api("read the template that is kept of a set"))
    }

    /// Keeps a template of the set in the place of what was kept before.
    pub async fn put(client: &Client, set: &Stored, template: &Value) -> Result<(), Error> {
        let header = Header {
            uid: set.object.header.uid.clone(),
            labels: [(DIGEST_LABEL.to_owned(), spec_digest(template).hex())].into(),
            ..Header::default()
        };
        let object = Object { header, body: template.to_string().into() };
        let operation = Operation::Put(place(&set.key), object);
        commit(client, vec![Expect::still(set)], operation).await
    }

    /// Keeps nothing of the set any more.
    pub async fn forget(client: &Client, set: &Key) -> Result<(), Error> {
        let place = place(set);
        if client.snapshot().get(&place).is_none() {
            return Ok(());
        }
        commit(client, Vec::new(), Operation::Delete(place)).await
    }
}

async fn commit(client: &Client, expect: Vec<Expect>, operation: Operation) -> Result<(), Error> {
    let txn = Txn { expect, operations: vec![operation] };
    let committed = client.objects().store().commit(txn).await;
    let doing = "keep the template of a ManifestWorkReplicaSet";
    committed.map(drop).map_err(|source| Error::Commit { doing, source })
}
