//! Empties a namespace that is being deleted, then lets it go.
//!
//! Guarantees:
//! - the namespace goes only when nothing is left in it of any namespaced kind, built in or its cluster's own
//!   (`a_namespace_goes_with_everything_in_it`, `a_kind_that_comes_at_run_time_is_a_kind_like_any_other`);
//! - nothing else that goes empties the namespace of its name, whatever another cluster's kind of that storage is
//!   (`no_namespace_goes_with_an_object_of_its_name`);
//! - what stands in the way is written in its conditions (`what_remains_is_said`);
//! - pods go first, so that what guards them outlives them
//!   (`what_guards_pods_outlives_them_in_a_namespace_that_goes`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{
    Condition, NAMESPACE_CONTENT, NAMESPACE_DELETION, NAMESPACE_DISCOVERY, NAMESPACE_FINALIZERS,
    NAMESPACE_PARSING,
};
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::registry::Registries;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use futures::future::join_all;
use parking_lot::Mutex;

use crate::engine::client::{all_of, in_namespace, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error, Throttle};

/// Deleted at the same time.
const DELETES_AT_ONCE: usize = 64;
/// Looked at again even when no event says that something went.
const RECHECK_AFTER: Duration = Duration::from_secs(15);

/// The controller.
pub struct NamespaceDeletion {
    client: Client,
    namespaces: Arc<Kind>,
    /// When each namespace was last looked through, and how much was in it.
    throttle: Throttle,
    sizes: Mutex<HashMap<Key, usize>>,
}

/// What is left in a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RemainingContent {
    /// Objects by `plural.group`.
    pub objects: BTreeMap<String, usize>,
    /// Objects by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// What could not be deleted, and why.
    pub failures: Vec<String>,
}

/// `pods has 2 resource instances, …`
fn listed(counts: &BTreeMap<String, usize>, verb: &str) -> String {
    let parts = counts.iter().map(|(name, n)| format!("{name} {verb} {n} resource instances"));
    parts.collect::<Vec<_>>().join(", ")
}

/// The five conditions of a namespace that goes, in Kubernetes' words.
#[must_use]
pub fn conditions(left: &RemainingContent) -> Vec<Condition<'static>> {
    let say = |kind, bad: bool, reasons: (&'static str, &'static str), texts: (String, &str)| {
        let (reason, message) =
            if bad { (reasons.0, texts.0) } else { (reasons.1, texts.1.to_owned()) };
        Condition::new(kind, bad, reason, message)
    };
    let resources = listed(&left.objects, "has");
    let finalizers = listed(&left.finalizers, "in");
    vec![
        say(
            &NAMESPACE_DISCOVERY,
            false,
            ("DiscoveryFailed", "ResourcesDiscovered"),
            (String::new(), "All resources successfully discovered"),
        ),
        say(
            &NAMESPACE_PARSING,
            false,
            ("GroupVersionParsingFailed", "ParsedGroupVersions"),
            (String::new(), "All legacy kube types successfully parsed"),
        ),
        say(
            &NAMESPACE_DELETION,
            !left.failures.is_empty(),
            ("ContentDeletionFailed", "ContentDeleted"),
            (
                format!("Failed to delete all resource types, {}", left.failures.join(", ")),
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        say(
            &NAMESPACE_CONTENT,
            !left.objects.is_empty(),
            ("SomeResourcesRemain", "ContentRemoved"),
            (
                format!("Some resources are remaining: {resources}"),
                "All content successfully removed",
            ),
        ),
        say(
            &NAMESPACE_FINALIZERS,
            !left.finalizers.is_empty(),
            ("SomeFinalizersRemain", "ContentHasNoFinalizers"),
            (
                format!("Some content in the namespace has finalizers remaining: {finalizers}"),
                "All content-preserving finalizers finished",
            ),
        ),
    ]
}

impl NamespaceDeletion {
    /// Deletes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let namespaces = kind("", "v1", "namespaces")?;
        Ok(Self { client, namespaces, throttle: Throttle::default(), sizes: Mutex::default() })
    }

    /// All that is there of the kinds that the namespace's cluster serves.
    fn content_of(&self, namespace: &Key) -> Vec<(Arc<Kind>, Arc<Stored>)> {
        let registry = self.client.registry(&namespace.cluster);
        let snapshot = self.client.snapshot();
        let mut all = Vec::new();
        for kind in registry.stored().into_iter().filter(|kind| kind.namespaced) {
            let scope = in_namespace(kind, &namespace.cluster, &namespace.name);
            all.extend(snapshot.range(&scope, None).map(|stored| (kind.clone(), stored)));
        }
        all
    }

    /// Deletes what can go now. What is left, and whether the rest still waits for that.
    async fn empty(&self, going: &Stored) -> (RemainingContent, bool) {
        let namespace = &going.key;
        let goes_first = |(kind, _): &(Arc<Kind>, _)| kind.has(Trait::GoesFirst);
        // What is in the next one of its name is not looked at.
        let client = self.client.while_there(going);
        let mut content = self.content_of(namespace);
        if content.iter().any(goes_first) {
            content.retain(goes_first);
        }
        let mut left = RemainingContent::default();
        for batch in content.chunks(DELETES_AT_ONCE) {
            let deletions = batch.iter().filter(|(_, stored)| !stored.object.header.deleting).map(
                |(kind, stored)| async {
                    let uid = &stored.object.header.uid;
                    client.delete(kind, &stored.key, uid, Propagation::Background).await
                },
            );
            let outcomes: Vec<Result<_, ApiError>> = join_all(deletions).await;
            let failures = outcomes.into_iter().filter_map(Result::err);
            left.failures.extend(failures.map(|error| error.to_string()));
        }
        let rest = self.content_of(namespace);
        let waits = rest.iter().any(goes_first);
        for (kind, stored) in rest {
            *left.objects.entry(format!("{}.{}", kind.plural(), kind.group())).or_default() += 1;
            for finalizer in &stored.object.header.finalizers {
                *left.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
        }
        (left, waits)
    }

    async fn write_conditions(&self, going: &Stored, left: &RemainingContent) -> Result<(), Error> {
        let said = conditions(left);
        let now = rfc3339(self.client.clock.now());
        self.client
            .modify_this(&self.namespaces, going, Some("status"), |mut value| {
                let list = &mut value["status"]["conditions"];
                for condition in &said {
                    condition.put(list, &now);
                }
                Ok(value)
            })
            .await
            .map_err(Error::api("write the status of a namespace"))?;
        Ok(())
    }

    async fn finalize(&self, going: &Stored) -> Result<(), Error> {
        let finalized = self
            .client
            .modify_this(&self.namespaces, going, Some("finalize"), |mut value| {
                if let Some(list) = value["spec"]["finalizers"].as_array_mut() {
                    list.retain(|f| f != "kubernetes");
                }
                Ok(value)
            })
            .await;
        if let Err(error) = finalized
            && error.code != 404
        {
            return Err(Error::api("finalize a namespace")(error));
        }
        Ok(())
    }
}

#[async_trait]
impl Controller for NamespaceDeletion {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let content = self.client.objects().kinds().stored().storages(|kind| kind.namespaced);
        std::iter::once(self.namespaces.storage().clone()).chain(content).map(all_of).collect()
    }

    fn kinds(&self) -> Option<&Registries> {
        Some(self.client.objects().kinds())
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let namespace = if key.resource == *self.namespaces.storage() {
            key.clone()
        } else if key.namespace.is_empty() {
            // Its kind is in namespaces in another cluster alone.
            return Vec::new();
        } else if event.before.is_none() || event.now.is_none() {
            key_of(&self.namespaces, &key.cluster, "", &key.namespace)
        } else {
            return Vec::new();
        };
        let going = now.get(&namespace).is_some_and(|n| n.object.header.deleting);
        if going { vec![namespace] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        if key.resource != *self.namespaces.storage() {
            return Ok(None);
        }
        let Some(namespace) = self.client.snapshot().get(key) else {
            self.throttle.forget(key);
            self.sizes.lock().remove(key);
            return Ok(None);
        };
        if !namespace.object.header.deleting {
            return Ok(None);
        }
        // Each object that goes brings it here: what is left is not looked through for each of them.
        let size = self.sizes.lock().get(key).copied().unwrap_or_default();
        if let Some(rest) = self.throttle.wait(key, size) {
            return Ok(Some(rest));
        }
        let (mut left, waits) = self.empty(&namespace).await;
        if !waits && !left.objects.is_empty() {
            // The last pod may just have gone, and no other event would bring the rest's turn.
            left = self.empty(&namespace).await.0;
        }
        self.sizes.lock().insert(key.clone(), left.objects.values().sum());
        if left.objects.is_empty() {
            self.finalize(&namespace).await?;
            return Ok(None);
        }
        match self.write_conditions(&namespace, &left).await {
            Err(race) if race.code() == Some(404) => Ok(None),
            other => other.map(|()| Some(RECHECK_AFTER)),
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_api::conditions::ConditionStatus;

    use super::*;

    #[test]
    fn what_remains_is_said() {
        let left = RemainingContent {
            objects: BTreeMap::from([("pods.".to_owned(), 2)]),
            finalizers: BTreeMap::from([("a.io/hold".to_owned(), 1)]),
            failures: Vec::new(),
        };
        let said = conditions(&left);
        assert_eq!(said[2].status, ConditionStatus::False);
        assert_eq!(said[3].message, "Some resources are remaining: pods. has 2 resource instances");
        assert_eq!(said[4].reason, "SomeFinalizersRemain");
        let mut list = serde_json::Value::Null;
        for (all, now) in [(said, "t1"), (conditions(&RemainingContent::default()), "t2")] {
            for condition in all {
                condition.put(&mut list, now);
            }
        }
        assert_eq!(list.as_array().unwrap().len(), 5);
        assert_eq!(list[2]["lastTransitionTime"], "t1");
        assert_eq!(list[3]["lastTransitionTime"], "t2");
    }
}
