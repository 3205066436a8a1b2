//! Deletes of all that there is of a kind, or of what is picked.

use std::sync::Arc;

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Key;
use freewheel_hub_store::{Scope, Stored};
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;

use super::{DeleteOptions, Deleted, How, Objects, Place};

/// Of a collection, so many are on their way to the disk at a time.
const DELETED_AT_ONCE: usize = 64;
/// Of a collection, so many bytes are on their way at a time, or one object.
const DELETED_BYTES: usize = 4 << 20;

impl Objects {
    /// Deletes everything of a kind in a cluster (and namespace, when not empty) that `wanted` picks, side by
    /// side, so that many share a write to the disk, and tells of `each` in the order of a list; what goes meanwhile by
    /// itself is no error. Nothing of what is deleted is held beyond what is on its way.
    ///
    /// # Errors
    /// The first that is no 404; what was deleted until then, or was on its way, stays deleted.
    pub async fn delete_collection(
        &self,
        how: &How,
        place: &Place,
        options: &DeleteOptions,
        wanted: impl Fn(&Stored) -> bool + Send + Sync,
        mut each: impl FnMut(Deleted) + Send,
    ) -> Result<(), ApiError> {
        let namespace = Some(place.namespace.as_str()).filter(|name| !name.is_empty());
        let scope = Scope {
            resource: place.kind.storage().clone(),
            cluster: Some(place.cluster.clone()),
            namespace: namespace.map(Into::into),
        };
        let mut all = {
            let snapshot = self.store.snapshot();
            let all = snapshot.range(&scope, None).filter(|stored| wanted(stored));
            let sized = all.map(|stored| (stored.key.clone(), stored.object.body.len()));
            sized.collect::<Vec<_>>().into_iter().peekable()
        };
        let (mut bytes, mut failed) = (0, None);
        let mut under_way = FuturesOrdered::new();
        loop {
            let room = |bytes: usize, one: usize| bytes == 0 || bytes + one <= DELETED_BYTES;
            while under_way.len() < DELETED_AT_ONCE && failed.is_none() {
                let Some((key, one)) = all.next_if(|(_, one)| room(bytes, *one)) else { break };
                bytes += one;
                under_way.push_back(self.delete_one(how, &place.kind, (key, one), options));
            }
            let Some((deleted, one)) = under_way.next().await else { break };
            bytes -= one;
            match deleted {
                Ok(one) => each(one),
                Err(error) if error.code == 404 => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn delete_one(
        &self,
        how: &How,
        kind: &Arc<Kind>,
        (key, bytes): (Key, usize),
        options: &DeleteOptions,
    ) -> (Result<Deleted, ApiError>, usize) {
        let (namespace, name) = (key.namespace, key.name.to_string());
        let place = Place { kind: kind.clone(), cluster: key.cluster, namespace, name };
        (self.delete(how, &place, options).await, bytes)
    }
}
