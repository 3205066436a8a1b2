//! What is read of a ManagedCluster.

use std::collections::BTreeMap;

use freewheel_hub_schema::quantity::Quantity;
use jiff::Timestamp;
use serde::Deserialize;

/// A cluster as it is chosen by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it tells of itself (`status.clusterClaims`).
    pub claims: BTreeMap<String, String>,
    /// What keeps placements away.
    pub taints: Vec<Taint>,
    /// It is on its way out.
    pub deleting: bool,
    /// Thousandths of what workloads may use, of what it says both capacity and allocatable of.
    pub allocatable: BTreeMap<String, i64>,
}

/// Keeps placements away that do not tolerate it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it does.
    pub effect: String,
    /// Since when it is there.
    pub time_added: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    metadata: RawMetadata,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawMetadata {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSpec {
    taints: Option<Vec<Taint>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    cluster_claims: Option<Vec<RawClaim>>,
    capacity: Option<BTreeMap<String, String>>,
    allocatable: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawClaim {
    name: String,
    value: String,
}

impl Cluster {
    /// From the JSON of a ManagedCluster.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        let Raw { metadata, spec, status } = serde_json::from_slice(body)?;
        let capacity = status.capacity.unwrap_or_default();
        let amount = |(name, text): (String, String)| {
            let quantity: Quantity = text.parse().ok()?;
            capacity.contains_key(&name).then(|| (name, quantity.milli_value()))
        };
        let claims = status.cluster_claims.unwrap_or_default();
        Ok(Self {
            name: metadata.name,
            labels: metadata.labels.unwrap_or_default(),
            claims: claims.into_iter().map(|claim| (claim.name, claim.value)).collect(),
            taints: spec.taints.unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            allocatable: status
                .allocatable
                .unwrap_or_default()
                .into_iter()
                .filter_map(amount)
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_cluster_says_is_read() {
        let object = json!({
            "metadata": {"name": "pi-7", "labels": {"site": "attic"}},
            "spec": {"taints": [{"key": "k", "effect": "NoSelect", "timeAdded": "2026-01-01T00:00:00Z"}]},
            "status": {
                "clusterClaims": [{"name": "region", "value": "north"}],
                "capacity": {"cpu": "4"},
                "allocatable": {"cpu": "1500m", "memory": "1Gi"},
            },
        });
        let cluster = Cluster::read(object.to_string().as_bytes()).unwrap();
        assert_eq!((&*cluster.name, &*cluster.labels["site"]), ("pi-7", "attic"));
        assert_eq!(cluster.claims["region"], "north");
        assert_eq!(cluster.taints[0].time_added, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(
            cluster.allocatable,
            [("cpu".to_owned(), 1500)].into(),
            "memory has no capacity"
        );
        assert!(!cluster.deleting);
        assert_eq!(Cluster::read(b"{}").unwrap(), Cluster::default());
        assert!(
            Cluster::read(b"[]").is_err() || Cluster::read(b"[]").unwrap() == Cluster::default()
        );
    }
}
