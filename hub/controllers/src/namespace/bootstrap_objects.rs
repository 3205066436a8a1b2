//! Objects without a namespace that every cluster has from the start: PriorityClasses; in the root the levels and
//! schemas of flow control, and an APIService for each version of each group, too.
//!
//! What is there stays as it is, whoever changed it; what was deleted comes back. The spec of what has the annotation
//! [`AUTOUPDATE`] is the hub's as long as it has it, as upstream: who wants another one says `false` there.
//!
//! Guarantees:
//! - levels and schemas are made, made again and kept to what they are to be, unless their annotation says no
//!   (`clusters_have_their_classes_and_levels_from_the_start`, `levels_are_the_hubs_until_somebody_says_no`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::kinds::{self, api_service, flow_control::mandatory, priority_class};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::node::is_accepted;

/// Whether the hub keeps a spec to what it is to be.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// The controller.
pub struct BootstrapObjects {
    client: Client,
    clusters: Arc<Kind>,
    everywhere: Set,
    in_the_root: Vec<Set>,
}

/// Objects of one kind.
type Set = (Arc<Kind>, Vec<Value>);

impl BootstrapObjects {
    /// The objects of the kinds that are built in.
    pub fn new(client: Client) -> Result<Self, Error> {
        let classes = priority_class::SYSTEM.map(|(name, value, description)| {
            json!({"metadata": {"name": name}, "value": value, "description": description})
        });
        let flow = "flowcontrol.apiserver.k8s.io";
        let levels = kind(flow, "v1", "prioritylevelconfigurations")?;
        let schemas = kind(flow, "v1", "flowschemas")?;
        let services = kind("apiregistration.k8s.io", "v1", "apiservices")?;
        Ok(Self {
            client,
            clusters: kind("cluster.open-cluster-management.io", "v1", "managedclusters")?,
            everywhere: (kind("scheduling.k8s.io", "v1", "priorityclasses")?, classes.to_vec()),
            in_the_root: vec![
                (levels, mandatory::levels()),
                (schemas, mandatory::schemas()),
                (services, api_service::local(kinds::all().iter().map(|kind| &**kind))),
            ],
        })
    }

    fn key_for(&self, cluster: &str) -> Key {
        key_of(&self.clusters, &ClusterName::root(), "", cluster)
    }

    fn sets(&self, in_the_root: bool) -> impl Iterator<Item = &Set> {
        let more = self.in_the_root.iter().filter(move |_| in_the_root);
        std::iter::once(&self.everywhere).chain(more)
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Whether its spec is the hub's.
fn is_kept(stored: &Stored) -> bool {
    let annotation = stored.object.value().ok().and_then(|value| {
        value.pointer("/metadata/annotations")?.get(AUTOUPDATE)?.as_str().map(|it| it == "true")
    });
    annotation.unwrap_or_default()
}

/// Has an object whose spec is the hub's be as it is to be.
async fn keep(
    client: &Client,
    kind: &Arc<Kind>,
    stored: &Stored,
    wanted: &Value,
) -> Result<(), Error> {
    let doing = "keep what a cluster has from the start";
    if !is_kept(stored)
        || stored.object.value().map_err(Error::api(doing))?["spec"] == wanted["spec"]
    {
        return Ok(());
    }
    let change = |mut value: Value| {
        if value["metadata"]["annotations"][AUTOUPDATE] == "true" {
            value["spec"] = wanted["spec"].clone();
        }
        Ok(value)
    };
    match client.modify_this(kind, stored, None, change).await {
        Err(error) if error.code != 404 => Err(Error::api(doing)(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[async_trait]
impl Controller for BootstrapObjects {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let kinds = self.sets(true).map(|(kind, _)| kind).chain([&self.clusters]);
        kinds.map(|kind| everywhere(kind)).collect()
    }

    fn first(&self) -> Vec<Key> {
        vec![self.key_for("root")]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.clusters.storage() {
            return vec![self.key_for(&key.name)];
        }
        let own = self.sets(true).any(|(kind, objects)| {
            *kind.storage() == key.resource && objects.iter().any(|one| name_of(one) == &*key.name)
        });
        let changed = event.now.as_ref().is_none_or(|now| is_kept(now));
        (own && changed).then(|| self.key_for(key.cluster.as_str())).into_iter().collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let cluster =
            ClusterName::try_from(&*key.name).map_err(|error| Error::Refused(error.to_string()))?;
        let snapshot = self.client.snapshot();
        let client = match snapshot.get(key).filter(|cluster| is_accepted(cluster)) {
            Some(accepted) => self.client.while_there(&accepted),
            None if cluster.is_root() => self.client.clone(),
            None => return Ok(None),
        };
        for (kind, objects) in self.sets(cluster.is_root()) {
            for object in objects {
                if let Some(stored) = snapshot.get(&key_of(kind, &cluster, "", name_of(object))) {
                    keep(&client, kind, &stored, object).await?;
                    continue;
                }
                if let Err(error) = client.create(kind, &cluster, "", object).await
                    && error.reason != "AlreadyExists"
                {
                    return Err(Error::api("create what a cluster has from the start")(error));
                }
            }
        }
        Ok(None)
    }
}
