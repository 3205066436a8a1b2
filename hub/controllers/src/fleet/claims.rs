//! What clusters tell of themselves: ClusterClaims of a cluster's own API, and what is known of its device, in the status
//! of its ManagedCluster, by which Placements choose.
//!
//! ```text
//! ClusterClaims in the cluster ─┐
//! ClusterProperties, if it has ─┼▶ reserved ones, then twenty others, by name ─▶ status.clusterClaims
//! Node of the device ───────────┘
//! ```
//!
//! What is known of the device costs its cluster no object: whoever makes a ClusterClaim of the same name there says it in
//! its place, and a ClusterProperty of about.k8s.io in place of both.
//!
//! Guarantees:
//! - reserved ones are all told, and of others the first twenty by name (`reserved_claims_come_first`);
//! - a claim that comes, changes or goes is told of (`a_cluster_tells_its_claims`);
//! - what clusters say takes little of the root, of whatever length it is: what is too long is left out, and that is told
//!   (`a_claim_that_is_too_long_is_told_of_and_takes_no_place`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::CLUSTER_JOINED;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::api_group::CLUSTER_GROUP;
use super::told_once::ToldOnce;
use crate::engine::client::{all_of, everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};

/// Claims that are told whatever others there are.
const RESERVED: [&str; 4] = [
    "id.k8s.io",
    "kubeversion.open-cluster-management.io",
    "platform.open-cluster-management.io",
    "product.open-cluster-management.io",
];
/// Others that are told.
const CUSTOM_MAX: usize = 20;
/// Longest name and longest value of a claim that is told, as those of ClusterClaims are: a kind that a cluster defines
/// itself has no bounds here, and what it says lies in an object of the root. All together are below 32 KiB.
const NAME_BYTES_MAX: usize = 253;
const VALUE_BYTES_MAX: usize = 1024;
/// Label of what stays in its cluster.
const SPOKE_ONLY: &str = "open-cluster-management.io/spoke-only";

/// The controller.
pub struct ClusterClaims {
    client: Client,
    clusters: Arc<Kind>,
    nodes: Arc<Kind>,
    claims: Arc<Kind>,
    /// A kind that clusters may define for themselves.
    properties: Resource,
    too_long: ToldOnce,
}

/// What is told, and how many others there are that are not.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    claims: Vec<Value>,
    custom: usize,
    /// Why some are not that are too long.
    too_long: Option<String>,
}

impl ClusterClaims {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self {
            client,
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            nodes: kind("", "v1", "nodes")?,
            claims: kind(CLUSTER_GROUP, "v1alpha1", "clusterclaims")?,
            properties: Resource::new("about.k8s.io", "clusterproperties"),
            too_long: ToldOnce::default(),
        })
    }

    /// What is known of a cluster, by name.
    fn known(
        &self,
        cluster: &Stored,
        now: &dyn Snapshot,
    ) -> Result<BTreeMap<String, String>, Error> {
        let Ok(name) = ClusterName::try_from(&*cluster.key.name) else {
            return Ok(BTreeMap::new());
        };
        let node = now.get(&key_of(&self.nodes, &ClusterName::root(), "", &cluster.key.name));
        let node = node.map(|it| it.object.value()).transpose();
        let node = node.map_err(Error::api("read a Node"))?.unwrap_or_default();
        let mut out = of_device(&cluster.object.header.uid, &node);
        for resource in [self.claims.storage(), &self.properties] {
            let (resource, cluster) = (resource.clone(), Some(name.clone()));
            let scope = Scope { resource, cluster, namespace: None };
            let said = now.range(&scope, None).filter(|it| {
                !it.object.header.deleting && !it.object.header.labels.contains_key(SPOKE_ONLY)
            });
            for stored in said {
                let object = stored.object.value().map_err(Error::api("read a ClusterClaim"))?;
                let value = object["spec"]["value"].as_str().unwrap_or_default();
                out.insert(stored.key.name.to_string(), value.to_owned());
            }
        }
        Ok(out)
    }
}

/// What the device of a cluster is.
fn of_device(uid: &str, node: &Value) -> BTreeMap<String, String> {
    let info = |key: &str| node["status"]["nodeInfo"][key].as_str().unwrap_or_default();
    let label = |key: &str| node["metadata"]["labels"][key].as_str().unwrap_or_default();
    let all = [
        ("id.k8s.io", uid),
        ("kubeversion.open-cluster-management.io", info("kubeletVersion")),
        ("platform.open-cluster-management.io", "Other"),
        ("product.open-cluster-management.io", "Freewheel"),
        ("architecture.freewheel.dev", info("architecture")),
        ("os.freewheel.dev", info("osImage")),
        ("kernel.freewheel.dev", info("kernelVersion")),
        ("region.freewheel.dev", label("topology.kubernetes.io/region")),
        ("zone.freewheel.dev", label("topology.kubernetes.io/zone")),
    ];
    let said = all.iter().filter(|(_, value)| !value.is_empty());
    said.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What is told of these.
fn told(known: &BTreeMap<String, String>) -> Told {
    let fits = |(name, value): &(&String, &String)| {
        name.len() <= NAME_BYTES_MAX && value.len() <= VALUE_BYTES_MAX
    };
    let (known, long): (Vec<_>, Vec<_>) = known.iter().partition(fits);
    let too_long = long.first().map(|(name, _)| {
        let name = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
        let count = long.len();
        format!(
            "{count} cluster claims are not exposed, {name:?} first: a name has {NAME_BYTES_MAX} bytes at most, and a \
             value {VALUE_BYTES_MAX}."
        )
    });
    let (reserved, custom): (Vec<_>, Vec<_>) =
        known.into_iter().partition(|(name, _)| RESERVED.contains(&&***name));
    let custom_count = custom.len();
    let all = reserved.into_iter().chain(custom.into_iter().take(CUSTOM_MAX));
    let claims = all.map(|(name, value)| json!({"name": name, "value": value})).collect();
    Told { claims, custom: custom_count, too_long }
}

#[async_trait]
impl Controller for ClusterClaims {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let mut all: Vec<Scope> =
            [&self.clusters, &self.nodes, &self.claims].map(|kind| everywhere(kind)).into();
        all.push(all_of(self.properties.clone()));
        all
    }

    fn keys(&self, event: &Event, _: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let root = ClusterName::root();
        let of = |cluster: &str| vec![key_of(&self.clusters, &root, "", cluster)];
        match &key.resource {
            one if *one == *self.clusters.storage() => vec![key.clone()],
            one if *one == *self.nodes.storage() => {
                if key.cluster.is_root() {
                    of(&key.name)
                } else {
                    Vec::new()
                }
            }
            _ if key.cluster.is_root() => Vec::new(),
            _ => of(key.cluster.as_str()),
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let now = self.client.snapshot();
        let cluster = now.get(key).filter(|it| !it.object.header.deleting);
        let Some(cluster) = cluster else {
            self.too_long.is_news(key, None);
            return Ok(None);
        };
        let object = cluster.object.value().map_err(Error::api("read a ManagedCluster"))?;
        // Who was never here tells nothing.
        if !CLUSTER_JOINED.holds(&object) {
            return Ok(None);
        }
        let Told { claims, custom, too_long } = told(&self.known(&cluster, &*now)?);
        let (recorder, own) = (&self.client.recorder, self.client.name());
        if self.too_long.is_news(key, too_long.as_deref()) {
            let text = too_long.unwrap_or_default();
            recorder.warning(&self.clusters, &cluster, own, "ClusterClaimsTooLong", text);
        }
        if object["status"]["clusterClaims"] == json!(claims) {
            return Ok(None);
        }
        let change = |mut value: Value| {
            value["status"]["clusterClaims"] = json!(claims);
            Ok(value)
        };
        let said = self.client.modify_this(&self.clusters, &cluster, Some("status"), change).await;
        said.map_err(Error::api("write the claims of a ManagedCluster"))?;
        if CUSTOM_MAX < custom {
            let left = custom - CUSTOM_MAX;
            let text = format!(
                "{custom} cluster claims are found. It exceeds the max number of custom cluster claims ({CUSTOM_MAX}). \
                 {left} custom cluster claims are not exposed."
            );
            let reason = "CustomClusterClaimsTruncated";
            recorder.normal(&self.clusters, &cluster, own, reason, text);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_claims_come_first() {
        let custom = (0..25).map(|n| (format!("a{n:02}"), n.to_string()));
        let reserved = RESERVED.iter().map(|name| ((*name).to_owned(), "x".to_owned()));
        let told = told(&custom.chain(reserved).collect());
        let names: Vec<&str> = told.claims.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names[..4], RESERVED);
        assert_eq!((names.len(), names[4], names[23], told.custom), (24, "a00", "a19", 25));
    }

    #[test]
    fn what_is_too_long_takes_no_place() {
        let known = [("a", 1025), ("b", 1024), ("id.k8s.io", 4000)];
        let known = known.map(|(name, bytes)| (name.to_owned(), "x".repeat(bytes)));
        let told = told(&known.into());
        assert_eq!((told.claims.len(), &told.claims[0]["name"], told.custom), (1, &json!("b"), 1));
        assert!(
            told.too_long.unwrap().starts_with("2 cluster claims are not exposed, \"a\" first")
        );
    }

    #[test]
    fn a_device_says_what_it_is() {
        let node = json!({"metadata": {"labels": {"topology.kubernetes.io/region": "north"}},
            "status": {"nodeInfo": {"kubeletVersion": "v1.36.0", "architecture": "arm64"}}});
        let known = of_device("uid", &node);
        assert_eq!(known["kubeversion.open-cluster-management.io"], "v1.36.0");
        assert_eq!((&*known["region.freewheel.dev"], &*known["id.k8s.io"]), ("north", "uid"));
        assert!(!known.contains_key("zone.freewheel.dev"));
    }
}
