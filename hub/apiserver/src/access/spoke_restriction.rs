//! What a spoke writes of its own ManagedCluster, though the role of its agent lets it write all of that: where its API is
//! and how often it says that it is alive. By labels, taints and annotations others choose who gets what, Secrets among it,
//! and whose the name is.
//!
//! Guarantees:
//! - a device gives itself nothing that others decide by (`a_device_may_do_what_the_roles_of_its_agent_give_it`).

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review, Verb};
use freewheel_link::identities::AGENT_PREFIX;
use serde_json::Value;

const GROUP: &str = "cluster.open-cluster-management.io";
const CLUSTERS: &str = "managedclusters";
/// What of its metadata is everybody's to decide by.
const METADATA: [&str; 4] = ["labels", "annotations", "finalizers", "ownerReferences"];
/// What of the spec is an agent's own.
const OWN_SPEC: [&str; 2] = ["managedClusterClientConfigs", "leaseDurationSeconds"];

/// Refuses what is not a spoke's to write.
pub(super) struct SpokeRestriction;

#[async_trait]
impl Plugin for SpokeRestriction {
    fn name(&self) -> &'static str {
        "SpokeRestriction"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let kind = &review.target.kind;
        let Actor::Person(person) = review.actor else { return false };
        (kind.group(), kind.plural()) == (GROUP, CLUSTERS)
            && matches!(review.verb, Verb::Update)
            && is_spoke(&person.name)
    }

    async fn validate(&self, review: &Review<'_>, new: &Value) -> Result<Claims, Refusal> {
        match review.old.and_then(|old| not_its_own(old, new)) {
            None => Ok(Claims::default()),
            Some(part) => Err(Refusal::forbidden(format!(
                "the agent of a cluster cannot change {part} of its ManagedCluster"
            ))),
        }
    }
}

/// Names that begin so are given to agents alone: the hub signs no others.
fn is_spoke(user: &str) -> bool {
    user.starts_with(AGENT_PREFIX) && user.ends_with(":agent")
}

/// What a spoke has changed that is not its own.
fn not_its_own(old: &Value, new: &Value) -> Option<String> {
    let metadata = METADATA.iter().find(|part| old["metadata"][**part] != new["metadata"][**part]);
    if let Some(part) = metadata {
        return Some(format!("metadata.{part}"));
    }
    let parts = |cluster: &Value| {
        let mut spec = cluster["spec"].as_object().cloned().unwrap_or_default();
        OWN_SPEC.iter().for_each(|own| drop(spec.remove(*own)));
        spec
    };
    (parts(old) != parts(new)).then(|| "spec".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_spoke_says_where_its_api_is_and_nothing_that_others_decide_by() {
        let old = json!({
            "metadata": {"labels": {"site": "attic"}},
            "spec": {"hubAcceptsClient": true, "leaseDurationSeconds": 60},
        });
        let with = |path: &str, value: Value| {
            let mut new = old.clone();
            let (parent, last) = path.rsplit_once('/').unwrap();
            new.pointer_mut(parent).unwrap()[last] = value;
            not_its_own(&old, &new)
        };
        assert_eq!(with("/spec/leaseDurationSeconds", json!(30)), None);
        assert_eq!(with("/spec/managedClusterClientConfigs", json!([{"url": "https://h"}])), None);
        let labels = Some("metadata.labels".to_owned());
        assert_eq!(with("/metadata/labels", json!({"site": "vault"})), labels);
        let key = with("/metadata/annotations", json!({"freewheel.dev/agent-key": "mine"}));
        assert_eq!(key, Some("metadata.annotations".to_owned()));
        assert_eq!(with("/spec/taints", json!([{"key": "a"}])), Some("spec".to_owned()));
    }

    #[test]
    fn agents_of_clusters_are_known_by_their_names() {
        assert!(is_spoke("system:open-cluster-management:pi-7:agent"));
        assert!(!is_spoke("system:open-cluster-management:pi-7"));
        assert!(!is_spoke("jane"));
    }
}
