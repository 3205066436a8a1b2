//! Labels of clusters that say which add-ons they have, and how those are: Placements choose by them.
//!
//! Guarantees:
//! - an add-on whose name makes no label has none, is told of, and keeps no other from its own
//!   (`a_name_that_makes_no_label_stands_in_nobodys_way`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{ADD_ON_AVAILABLE, CLUSTER_AVAILABLE};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::name::LABEL_MAX;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::super::api_group::{ADD_ON_GROUP, CLUSTER_GROUP};
use super::super::reported_once::ReportedOnce;
use crate::engine::client::{everywhere, in_namespace, key as key_of, kind};
use crate::engine::{Client, Controller, Error};

const PREFIX: &str = "feature.open-cluster-management.io/addon-";
/// Longest name of an add-on that makes a label.
const NAME_BYTES_MAX: usize = LABEL_MAX - "addon-".len();

/// The controller.
pub struct AddOnFeatures {
    client: Client,
    clusters: Arc<Kind>,
    instances: Arc<Kind>,
    not_labelled: ReportedOnce,
}

/// The labels of a cluster, by name.
type Labels = BTreeMap<String, &'static str>;

impl AddOnFeatures {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let clusters = kind(CLUSTER_GROUP, "v1", "managedclusters")?;
        let instances = kind(ADD_ON_GROUP, "v1alpha1", "managedclusteraddons")?;
        Ok(Self { client, clusters, instances, not_labelled: ReportedOnce::default() })
    }

    /// Labels of a cluster's add-ons, and why there are none of some.
    fn wanted(&self, cluster: &str, now: &dyn Snapshot) -> Result<(Labels, Option<String>), Error> {
        let scope = in_namespace(&self.instances, &ClusterName::root(), cluster);
        let all = now.range(&scope, None).filter(|it| !it.object.header.deleting);
        let (fit, long): (Vec<_>, Vec<_>) = all.partition(|it| it.key.name.len() <= NAME_BYTES_MAX);
        let why = long.first().map(|it| {
            let (count, name) = (long.len(), &it.key.name);
            format!(
                "{count} add-ons have no label, {name} first: its name has more than {NAME_BYTES_MAX} letters."
            )
        });
        let label = |stored: Arc<Stored>| {
            let object = stored.object.value()?;
            Ok((format!("{PREFIX}{}", stored.key.name), value(&object)))
        };
        let labels = fit.into_iter().map(label).collect::<Result<_, _>>();
        Ok((labels.map_err(Error::api("read a ManagedClusterAddOn"))?, why))
    }
}

fn value(instance: &Value) -> &'static str {
    let said = ADD_ON_AVAILABLE.find(instance).and_then(|it| it["status"].as_str());
    match said {
        Some("True") => "available",
        Some("False") => "unhealthy",
        _ => "unreachable",
    }
}

/// Puts labels of add-ons on a cluster, and no others; whether that changes anything.
fn put(cluster: &mut Value, wanted: &Labels) -> bool {
    let labels = cluster["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let mut new = labels.clone();
    new.retain(|name, _| !name.starts_with(PREFIX) || wanted.contains_key(name));
    new.extend(wanted.iter().map(|(name, value)| (name.clone(), json!(value))));
    if new == labels {
        return false;
    }
    cluster["metadata"]["labels"] = new.into();
    true
}

#[async_trait]
impl Controller for AddOnFeatures {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.clusters), everywhere(&self.instances)]
    }

    fn keys(&self, event: &Event, _: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.clusters.storage() {
            return vec![key.clone()];
        }
        vec![key_of(&self.clusters, &ClusterName::root(), "", &key.namespace)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let now = self.client.snapshot();
        let cluster = now.get(key).filter(|it| !it.object.header.deleting);
        let Some(cluster) = cluster else {
            self.not_labelled.is_news(key, None);
            return Ok(None);
        };
        let mut object = cluster.object.value().map_err(Error::api("read a ManagedCluster"))?;
        let (wanted, why_not) = self.wanted(&key.name, &*now)?;
        if self.not_labelled.is_news(key, why_not.as_deref()) {
            let (recorder, own) = (&self.client.recorder, self.client.name());
            let text = why_not.unwrap_or_default();
            recorder.warning(&self.clusters, &cluster, own, "AddOnNotLabelled", text);
        }
        if CLUSTER_AVAILABLE.find(&object).is_none() || !put(&mut object, &wanted) {
            return Ok(None);
        }
        let change = |mut value: Value| {
            put(&mut value, &wanted);
            Ok(value)
        };
        let labelled = self.client.modify_this(&self.clusters, &cluster, None, change).await;
        labelled.map_err(Error::api("label a cluster with its add-ons"))?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_others_stay() {
        let gone = format!("{PREFIX}gone");
        let mut cluster = json!({"metadata": {"labels": {"site": "a", gone: "available"}}});
        let wanted = [(format!("{PREFIX}web"), "unhealthy")].into();
        assert!(put(&mut cluster, &wanted) && !put(&mut cluster, &wanted));
        let expected = json!({"site": "a", format!("{PREFIX}web"): "unhealthy"});
        assert_eq!(cluster["metadata"]["labels"], expected);
    }
}
