//! Making and ending the pods of a set, told in events of the set.
//!
//! They are made in bursts of 1, 2, 4, …: who is refused is refused once, and not as often as there are pods to make.

use std::sync::Arc;

use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::Stored;
use futures::future::join_all;
use serde::Serialize;

use crate::engine::Client;

/// Writes pods for their owner.
pub(crate) struct PodControl<'a> {
    pub(crate) client: &'a Client,
    pub(crate) owner: (&'a Arc<Kind>, &'a Stored),
    pub(crate) pods: &'a Arc<Kind>,
}

impl PodControl<'_> {
    /// Makes so many, each as `pod` says of its number.
    pub(crate) async fn create_all<P: Serialize + Sync + Send>(
        &self,
        count: usize,
        pod: impl Fn(usize) -> P,
    ) -> Result<(), ApiError> {
        let (mut made, mut batch) = (0, 1);
        while made < count {
            let end = count.min(made + batch);
            let bodies: Vec<P> = (made..end).map(&pod).collect();
            let outcomes = join_all(bodies.iter().map(|body| self.create(body))).await;
            if let Some(error) = outcomes.into_iter().find_map(Result::err) {
                return Err(error);
            }
            (made, batch) = (end, batch * 2);
        }
        Ok(())
    }

    async fn create<P: Serialize + Sync>(&self, pod: &P) -> Result<(), ApiError> {
        let (kind, owner) = self.owner;
        let (cluster, namespace) = (&owner.key.cluster, &*owner.key.namespace);
        let (recorder, name) = (&self.client.recorder, self.client.name());
        match self.client.create(self.pods, cluster, namespace, pod).await {
            Ok(made) => {
                let text = format!("Created pod: {}", made.key.name);
                recorder.normal(kind, owner, name, "SuccessfulCreate", text);
                Ok(())
            }
            Err(error) => {
                self.tell_refused(&error);
                Err(error)
            }
        }
    }

    /// Tells that pods cannot be made.
    pub(crate) fn tell_refused(&self, error: &ApiError) {
        // Its namespace goes: nothing to tell anybody.
        if !error.is_namespace_terminating() {
            let (kind, owner) = self.owner;
            let (recorder, name) = (&self.client.recorder, self.client.name());
            let text = format!("Error creating: {error}");
            recorder.warning(kind, owner, name, "FailedCreate", text);
        }
    }

    /// Ends all of these.
    pub(crate) async fn delete_all(
        &self,
        pods: impl Iterator<Item = &Stored>,
    ) -> Result<(), ApiError> {
        let deletions = join_all(pods.map(|pod| self.delete(pod))).await;
        deletions.into_iter().collect()
    }

    async fn delete(&self, pod: &Stored) -> Result<(), ApiError> {
        let (kind, owner) = self.owner;
        let (recorder, name) = (&self.client.recorder, self.client.name());
        let uid = &pod.object.header.uid;
        match self.client.delete(self.pods, &pod.key, uid, Propagation::Background).await {
            Ok(_) => {
                let text = format!("Deleted pod: {}", pod.key.name);
                recorder.normal(kind, owner, name, "SuccessfulDelete", text);
                Ok(())
            }
            Err(error) => {
                let text = format!("Error deleting: {error}");
                recorder.warning(kind, owner, name, "FailedDelete", text);
                Err(error)
            }
        }
    }
}
