//! The claims of a StatefulSet's pods: made before their pods, and owned as the set's policy says.

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Key;
use serde_json::Value;

use super::retention::{self, Party, Retention};
use super::{Run, StatefulSets, identity};
use crate::engine::client::key as key_of;

impl StatefulSets {
    fn claim_key(&self, run: &Run<'_>, name: &str) -> Key {
        let (cluster, namespace) = (&run.stored.key.cluster, &run.stored.key.namespace);
        key_of(&self.claims, cluster, namespace, name)
    }

    /// Whether a claim of an ordinal still belongs to its former pod, with which it goes: the next one waits for that.
    pub(super) fn has_stale_claim(&self, run: &Run<'_>, ordinal: i64) -> bool {
        if !Retention::read(&run.value).deleted_with_pod {
            return false;
        }
        let name = format!("{}-{ordinal}", run.stored.key.name);
        let pod = Party { api_version: "v1", kind: "Pod", name: &name, uid: "" };
        let snapshot = self.client.snapshot();
        identity::claims_of(&run.value, ordinal).iter().any(|(name, _)| {
            let claim = snapshot.get(&self.claim_key(run, name));
            claim.is_some_and(|claim| pod.is_stale(&claim.object.header.owners))
        })
    }

    /// Makes the claims of an ordinal that are not there.
    pub(super) async fn create_claims(&self, run: &Run<'_>, ordinal: i64) -> Result<(), ApiError> {
        let set = &run.stored.key;
        let mut failed = None;
        for (name, claim) in identity::claims_of(&run.value, ordinal) {
            match self.client.snapshot().get(&self.claim_key(run, &name)) {
                Some(there) if there.object.header.deleting => {
                    let text = format!("pvc {name} is being deleted");
                    failed.get_or_insert(ApiError::new(409, "Conflict", text));
                    continue;
                }
                Some(_) => continue,
                None => {}
            }
            let made = self.client.create(&self.claims, &set.cluster, &set.namespace, &claim).await;
            let pod = format!("{}-{ordinal}", set.name);
            match made {
                Ok(_) => self.tell(
                    run,
                    "SuccessfulCreate",
                    format!("Create Claim {name} Pod {pod} in StatefulSet {} success", set.name),
                ),
                Err(taken) if taken.reason == "AlreadyExists" => {}
                Err(error) => {
                    if !error.is_namespace_terminating() {
                        self.warn(run, "FailedCreate", format!(
                            "Create Claim {name} for Pod {pod} in StatefulSet {} failed error: {error}",
                            set.name
                        ));
                    }
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Gives the claims of a pod their owners; the pod's UID is empty where it could not be made.
    pub(super) async fn own_claims(
        &self,
        run: &Run<'_>,
        ordinal: i64,
        pod_uid: &str,
    ) -> Result<(), ApiError> {
        let retention = Retention::read(&run.value);
        let (api_version, kind) = (self.sets.api_version(), self.sets.kind());
        let (name, uid) = (&*run.stored.key.name, run.stored.object.header.uid.as_str());
        let set = Party { api_version, kind, name, uid };
        let pod_name = format!("{name}-{ordinal}");
        let pod = Party { api_version: "v1", kind: "Pod", name: &pod_name, uid: pod_uid };
        for (name, _) in identity::claims_of(&run.value, ordinal) {
            let Some(claim) = self.client.snapshot().get(&self.claim_key(run, &name)) else {
                continue;
            };
            let owners = &claim.object.header.owners;
            let verdict = retention::decide(retention, (set, pod), run.wanted.has(ordinal), owners);
            let Some(owners) = verdict.owners else { continue };
            if verdict.conflict {
                self.warn(run, "ConflictingController", format!(
                    "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
                ));
            }
            let change = |mut value: Value| {
                retention::write(&mut value, (set, pod), &owners);
                Ok(value)
            };
            self.client.modify_at(&self.claims, &claim, None, change).await?;
        }
        Ok(())
    }
}
