//! Objects that every cluster has from the start: PriorityClasses; in the root the levels and schemas of flow control,
//! an APIService for each version of each group, the definitions of kinds that are custom resources elsewhere, the account
//! as which agents of Open Cluster Management ask to join, and the namespace of the account that gives agents of add-ons
//! their rights, too.
//!
//! What is there stays as it is, whoever changed it; what was deleted comes back. The spec of what has the annotation
//! [`AUTOUPDATE`] is the hub's as long as it has it, as upstream: who wants another one says `false` there. Definitions are
//! the hub's in any case: another version of it may serve other ones.
//!
//! Guarantees:
//! - levels and schemas are made, made again and kept to what they are to be, unless their annotation says no
//!   (`clusters_have_their_classes_and_levels_from_the_start`, `levels_are_the_hubs_until_somebody_says_no`);
//! - tools for Open Cluster Management find what they look for on a hub
//!   (`the_root_has_what_tools_for_open_cluster_management_look_for`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::kinds::custom_resource_definition::built_in;
use freewheel_hub_api::kinds::{self, api_service, flow_control::mandatory, priority_class};
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::node::is_accepted;

/// Whether the hub keeps a spec to what it is to be.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Where tools for Open Cluster Management look for its own objects.
const FLEET_NAMESPACE: &str = "open-cluster-management";
/// Where its own hub runs, and accounts of that: nobody else is to make them, and be given by that what they may do.
const HUB_NAMESPACE: &str = "open-cluster-management-hub";
/// The account as which an agent of Open Cluster Management asks to join.
const JOINING_ACCOUNT: &str = "agent-registration-bootstrap";

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
        let definitions = kind("apiextensions.k8s.io", "v1", "customresourcedefinitions")?;
        let namespace = |name: &str| json!({"metadata": {"name": name}});
        let account = json!({"metadata": {"name": JOINING_ACCOUNT, "namespace": FLEET_NAMESPACE}});
        let built_in = || kinds::all().iter().map(|kind| &**kind);
        Ok(Self {
            client,
            clusters: kind("cluster.open-cluster-management.io", "v1", "managedclusters")?,
            everywhere: (kind("scheduling.k8s.io", "v1", "priorityclasses")?, classes.to_vec()),
            in_the_root: vec![
                (levels, mandatory::levels()),
                (schemas, mandatory::schemas()),
                (services, api_service::local(built_in())),
                (definitions, built_in::definitions(built_in())),
                (
                    kind("", "v1", "namespaces")?,
                    vec![namespace(FLEET_NAMESPACE), namespace(HUB_NAMESPACE)],
                ),
                (kind("", "v1", "serviceaccounts")?, vec![account]),
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

/// Namespace and name.
fn place_of(object: &Value) -> (&str, &str) {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    (text("namespace"), text("name"))
}

/// Whether its spec is the hub's.
fn is_kept(kind: &Kind, stored: &Stored) -> bool {
    if kind.has(Trait::DefinesKinds) {
        return true;
    }
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
    if !is_kept(kind, stored)
        || stored.object.value().map_err(Error::api(doing))?["spec"] == wanted["spec"]
    {
        return Ok(());
    }
    let change = |mut value: Value| {
        let annotation = &value["metadata"]["annotations"][AUTOUPDATE];
        if kind.has(Trait::DefinesKinds) || annotation == "true" {
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
        let place = (&*key.namespace, &*key.name);
        let own = self.sets(key.cluster.is_root()).find(|(kind, objects)| {
            *kind.storage() == key.resource && objects.iter().any(|one| place_of(one) == place)
        });
        let changed = |kind: &Kind| event.now.as_ref().is_none_or(|now| is_kept(kind, now));
        let own = own.filter(|(kind, _)| changed(kind));
        own.map(|_| self.key_for(key.cluster.as_str())).into_iter().collect()
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
                let (namespace, name) = place_of(object);
                if let Some(stored) = snapshot.get(&key_of(kind, &cluster, namespace, name)) {
                    keep(&client, kind, &stored, object).await?;
                    continue;
                }
                if let Err(error) = client.create(kind, &cluster, namespace, object).await
                    && error.reason != "AlreadyExists"
                    // What goes with its namespace comes back with it.
                    && !error.is_namespace_terminating()
                {
                    return Err(Error::api("create what a cluster has from the start")(error));
                }
            }
        }
        Ok(None)
    }
}
