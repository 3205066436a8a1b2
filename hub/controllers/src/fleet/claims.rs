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
//!   (`a_claim_that_is_too_long_is_told_of_and_takes_no_place`, `all_of_them_have_so_much_room_as_they_are_written`);
//! - and little of the hub's time, however much there is: what is not told is not read
//!   (`what_is_not_told_is_not_read`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::CLUSTER_JOINED;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::api_group::CLUSTER_GROUP;
use super::reported_once::ReportedOnce;
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
/// itself has no bounds here, and what it says lies in an object of the root.
const NAME_BYTES_MAX: usize = 253;
const VALUE_BYTES_MAX: usize = 1024;
/// Bytes of all that is told, as JSON writes it: one byte of a value may be six there.
const LISTED_BYTES_MAX: usize = 32 << 10;
/// Longest object that is read for its value, with whatever else it says of itself.
const OBJECT_BYTES_MAX: usize = 64 << 10;
/// Bytes of all objects that are read for one look.
const READ_BYTES_MAX: usize = 2 << 20;
/// Objects of a kind that are counted for one look. Those that are told come first.
const COUNTED_MAX: usize = 10_000;
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
    too_long: ReportedOnce,
}

/// What is said under a name.
#[derive(Debug)]
enum Claim {
    /// What is known of the device.
    Known(String),
    /// What an object of the cluster says.
    Said(Arc<Stored>),
}

type Claims = BTreeMap<Arc<str>, Claim>;

impl ClusterClaims {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self {
            client,
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            nodes: kind("", "v1", "nodes")?,
            claims: kind(CLUSTER_GROUP, "v1alpha1", "clusterclaims")?,
            properties: Resource::new("about.k8s.io", "clusterproperties"),
            too_long: ReportedOnce::default(),
        })
    }

    /// What is known of a cluster, by name.
    fn known(&self, cluster: &Stored, now: &dyn Snapshot) -> Result<Claims, Error> {
        let Ok(name) = ClusterName::try_from(&*cluster.key.name) else {
            return Ok(Claims::new());
        };
        let node = now.get(&key_of(&self.nodes, &ClusterName::root(), "", &cluster.key.name));
        let node = node.map(|it| it.object.value()).transpose();
        let node = node.map_err(Error::api("read a Node"))?.unwrap_or_default();
        let of_device = of_device(&cluster.object.header.uid, &node).into_iter();
        let mut out: Claims =
            of_device.map(|(name, value)| (name.into(), Claim::Known(value))).collect();
        for resource in [self.claims.storage(), &self.properties] {
            let reserved =
                RESERVED.iter().filter_map(|it| now.get(&Key::new(resource, &name, "", it)));
            let (resource, cluster) = (resource.clone(), Some(name.clone()));
            let scope = Scope { resource, cluster, namespace: None };
            let all = reserved.chain(now.range(&scope, None).take(COUNTED_MAX));
            let said = all.filter(|it| {
                !it.object.header.deleting && !it.object.header.labels.contains_key(SPOKE_ONLY)
            });
            out.extend(said.map(|it| (it.key.name.clone(), Claim::Said(it))));
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

/// What is told, and what is not.
#[derive(Debug, Default)]
struct ListedClaims {
    claims: Vec<Value>,
    /// How many there are beside reserved ones, as far as they are not too long.
    custom: usize,
    /// How many are too long, and the first of them.
    long: usize,
    first_long: String,
    /// Bytes of objects that were read.
    read: usize,
    /// Bytes of what is told.
    bytes: usize,
}

/// What is told of these.
fn listed(known: &Claims) -> Result<ListedClaims, ApiError> {
    let mut told = ListedClaims::default();
    for (name, claim) in RESERVED.iter().filter_map(|name| known.get_key_value(*name)) {
        told.take(name, claim)?;
    }
    let reserved = told.claims.len();
    for (name, claim) in known.iter().filter(|(name, _)| !RESERVED.contains(&&***name)) {
        let has_place = told.claims.len() < reserved + CUSTOM_MAX && told.read < READ_BYTES_MAX;
        told.custom += usize::from(!has_place || told.take(name, claim)?);
    }
    Ok(told)
}

impl ListedClaims {
    /// Takes one that fits; whether it does.
    fn take(&mut self, name: &str, claim: &Claim) -> Result<bool, ApiError> {
        if let Some(value) = self.value(name, claim)? {
            let one = json!({"name": name, "value": value});
            let bytes = one.to_string().len() + 1;
            if value.len() <= VALUE_BYTES_MAX && self.bytes + bytes <= LISTED_BYTES_MAX {
                self.bytes += bytes;
                self.claims.push(one);
                return Ok(true);
            }
        }
        if self.long == 0 {
            self.first_long = name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned();
        }
        self.long += 1;
        Ok(false)
    }

    /// What is said, if that is not too long to be read.
    fn value<'a>(
        &mut self,
        name: &str,
        claim: &'a Claim,
    ) -> Result<Option<Cow<'a, str>>, ApiError> {
        if NAME_BYTES_MAX < name.len() {
            return Ok(None);
        }
        let stored = match claim {
            Claim::Known(value) => return Ok(Some(value.into())),
            Claim::Said(stored) => stored,
        };
        let bytes = stored.object.body.len();
        if OBJECT_BYTES_MAX < bytes {
            return Ok(None);
        }
        self.read += bytes;
        let object = stored.object.value()?;
        Ok(Some(object["spec"]["value"].as_str().unwrap_or_default().to_owned().into()))
    }

    /// Why some are not told that are too long.
    fn too_long(&self) -> Option<String> {
        let Self { long, first_long, .. } = self;
        (0 < *long).then(|| {
            format!(
                "{long} cluster claims are not exposed, {first_long:?} first: a name has {NAME_BYTES_MAX} bytes at most, a \
                 value {VALUE_BYTES_MAX}, and all together {LISTED_BYTES_MAX} as JSON writes them."
            )
        })
    }
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
        let told = listed(&self.known(&cluster, &*now)?);
        let told = told.map_err(Error::api("read the claims of a cluster"))?;
        let (too_long, ListedClaims { claims, custom, .. }) = (told.too_long(), told);
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
    use freewheel_hub_schema::object::{Header, Object};

    use super::*;

    fn known(all: impl IntoIterator<Item = (String, String)>) -> Claims {
        all.into_iter().map(|(name, value)| (name.into(), Claim::Known(value))).collect()
    }

    #[test]
    fn reserved_claims_come_first() {
        let custom = (0..25).map(|n| (format!("a{n:02}"), n.to_string()));
        let reserved = RESERVED.iter().map(|name| ((*name).to_owned(), "x".to_owned()));
        let told = listed(&known(custom.chain(reserved))).unwrap();
        let names: Vec<&str> = told.claims.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names[..4], RESERVED);
        assert_eq!((names.len(), names[4], names[23], told.custom), (24, "a00", "a19", 25));
    }

    #[test]
    fn what_is_too_long_takes_no_place() {
        let long = [("a", 1025), ("b", 1024), ("id.k8s.io", 4000)];
        let told = listed(&known(long.map(|(name, bytes)| (name.to_owned(), "x".repeat(bytes)))));
        let told = told.unwrap();
        assert_eq!((told.claims.len(), &told.claims[0]["name"], told.custom), (1, &json!("b"), 1));
        let why = told.too_long().unwrap();
        assert!(why.starts_with("2 cluster claims are not exposed, \"id.k8s.io\" first"), "{why}");
    }

    #[test]
    fn all_of_them_have_so_much_room_as_they_are_written() {
        let long = (0..CUSTOM_MAX).map(|n| (format!("a{n:02}"), "\u{1}".repeat(VALUE_BYTES_MAX)));
        let short = ("b".to_owned(), "short".to_owned());
        let told = listed(&known(long.chain([short]))).unwrap();
        assert!(json!(told.claims).to_string().len() <= LISTED_BYTES_MAX + 1);
        let names: Vec<&str> = told.claims.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a00", "a01", "a02", "a03", "a04", "b"]);
        assert_eq!((told.long, told.custom), (15, 6));
    }

    #[test]
    fn what_is_not_told_is_not_read() {
        let stored = |name: &str, body: Vec<u8>| {
            let key =
                Key::new(&Resource::new("about.k8s.io", "all"), &ClusterName::root(), "", name);
            let object = Object { header: Header::default(), body: body.into() };
            let stored = Stored { key, object, revision: 1, created: 1 };
            (name.into(), Claim::Said(Arc::new(stored)))
        };
        let says = |n: usize| stored(&format!("a{n:02}"), br#"{"spec":{"value":"x"}}"#.to_vec());
        let mut all: Claims = (0..CUSTOM_MAX).map(says).collect();
        all.extend([stored("a00-long", vec![b' '; OBJECT_BYTES_MAX + 1])]);
        all.extend([stored("b", b"nobody reads this".to_vec())]);
        let told = listed(&all).unwrap();
        assert_eq!((told.claims.len(), told.long, told.custom), (CUSTOM_MAX, 1, CUSTOM_MAX + 1));
        // Many that are long for what they say.
        let mut body = vec![b' '; OBJECT_BYTES_MAX - 10_000];
        body.extend(format!(r#"{{"spec":{{"value":"{}"}}}}"#, "x".repeat(2_000)).bytes());
        let many: Claims = (0..1_000).map(|n| stored(&format!("{n:03}"), body.clone())).collect();
        let told = super::listed(&many).unwrap();
        assert!(told.read < READ_BYTES_MAX + OBJECT_BYTES_MAX, "{}", told.read);
        assert_eq!((told.claims.len(), told.long + told.custom), (0, 1_000));
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
