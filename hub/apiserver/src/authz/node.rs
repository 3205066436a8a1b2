//! What a node may do (`--authorization-mode=Node`): who is `system:node:NAME` in the group `system:nodes` reads what the
//! pods need that are bound to that node, and writes what the node has to say.
//!
//! ```text
//! node ◀─ pod ◀─ Secret, ConfigMap, ServiceAccount, ResourceClaim
//!          └─── PersistentVolumeClaim ◀─ PersistentVolume ◀─ Secret
//! node ◀─ VolumeAttachment, ResourceSlice
//! ```
//!
//! It counts where the node is known from: in the root, and of who is let into one cluster alone in that one. Which node
//! an object is of that is written, admission looks at (`access/node_restriction.rs`).
//!
//! Guarantees:
//! - a node reads nothing that only pods of others need, from the moment at which it is answered that one is bound or
//!   gone (`a_node_reads_what_its_own_pods_need_and_nothing_else`);
//! - nor what is of another cluster (`a_node_of_the_root_is_nobody_in_another_cluster`).

mod bound_pods;
mod references;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use freewheel_hub_rbac::{PolicyRule, Request, policy};
use freewheel_hub_schema::object::{Key, Resource as Storage};
use freewheel_hub_schema::selector::FieldSelector;
use freewheel_hub_store::{Store, Stored};
use freewheel_link::identities::{NODE_PREFIX, NODES};
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::attributes::{Attributes, Cluster, Resource, What};
use super::authorizer::{Authorizer, Decision, Reason, Rules};
use super::confined::is_known_in;
use crate::authn::User;
use bound_pods::BoundPods;
pub(crate) use references::{MIRROR, Needed, ephemeral_claim, needs, text};

/// The namespace of nodes' leases.
pub(crate) const LEASES: &str = "kube-node-lease";

/// The node that somebody is; empty for one that has no name.
pub(crate) fn node_of<'a>(name: &'a str, groups: &[String]) -> Option<&'a str> {
    name.strip_prefix(NODE_PREFIX).filter(|_| groups.iter().any(|group| group == NODES))
}

/// Allows nodes what they need.
pub(super) struct Nodes {
    store: Arc<dyn Store>,
    pods: BoundPods,
}

/// What a node asks for.
struct Asked<'a> {
    node: &'a str,
    cluster: &'a ClusterName,
    verb: &'a str,
    what: Resource<'a>,
}

/// Why a node may not, as far as it is told.
type Judged = Result<(), Reason>;

/// What is the same for all nodes.
static EVERY_NODE: LazyLock<Vec<PolicyRule>> = LazyLock::new(|| {
    let of_nodes = |object: &&policy::PolicyObject| {
        (object.kind.plural, &*object.name) == ("clusterroles", "system:node")
    };
    let role = policy::of(true).find(of_nodes);
    let rules = role.map(|role| role.value["rules"].clone()).unwrap_or_default();
    serde_json::from_value(rules).unwrap_or_default()
});

#[async_trait]
impl Authorizer for Nodes {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let user = asked.user;
        let node = node_of(&user.name, &user.groups).filter(|_| is_known_in(user, asked.cluster));
        let (Some(node), What::Resource(what)) = (node, asked.what) else {
            return Decision::none();
        };
        if node.is_empty() {
            return Decision::NoOpinion(format!("unknown node for user {:?}", user.name).into());
        }
        let asked = Asked { node, cluster: asked.cluster.name, verb: asked.verb, what };
        match self.judge(&asked) {
            Ok(()) => Decision::Allow("".into()),
            Err(why) => Decision::NoOpinion(why),
        }
    }

    fn rules(&self, user: &User, (cluster, _): (Cluster<'_>, &str), rules: &mut Rules) {
        if node_of(&user.name, &user.groups).is_some() && is_known_in(user, cluster) {
            rules.may_be_more("node authorizer does not support user rule resolution");
        }
    }
}

impl Nodes {
    pub(super) fn over(store: Arc<dyn Store>) -> Self {
        Self { pods: BoundPods::of(store.clone()), store }
    }

    fn judge(&self, asked: &Asked<'_>) -> Judged {
        match (asked.what.group, asked.what.plural) {
            ("", "secrets" | "configmaps") => self.reads_in_namespace(asked),
            ("", "persistentvolumeclaims") if asked.what.subresource == "status" => {
                self.writes_status(asked)
            }
            ("", "persistentvolumeclaims" | "persistentvolumes")
            | ("resource.k8s.io", "resourceclaims")
            | ("storage.k8s.io", "volumeattachments") => self.gets(asked),
            ("", "serviceaccounts") => self.account(asked),
            ("", "nodes") => own_node(asked),
            ("", "pods") => self.pod(asked),
            ("coordination.k8s.io", "leases") => lease(asked),
            ("storage.k8s.io", "csinodes") => csi_node(asked),
            ("resource.k8s.io", "resourceslices") => self.slice(asked),
            _ => every_node(asked),
        }
    }

    /// Whether the object is needed on the node.
    fn is_needed(&self, asked: &Asked<'_>) -> Judged {
        let Asked { node, cluster, what, .. } = asked;
        if what.name.is_empty() {
            return Err("No Object name found".into());
        }
        let by_pods = |what: Needed, namespace: &str, name: &str| {
            self.pods.need((cluster, node), what, (namespace, name))
        };
        let named_in = |path: &str| {
            let object = self.object(asked.cluster, (what.group, what.plural), ("", what.name));
            object.is_some_and(|object| text(&object, path) == Some(node))
        };
        let (namespace, name) = (what.namespace, what.name);
        let needed = match what.plural {
            "secrets" => {
                by_pods(Needed::Secret, namespace, name) || self.by_volumes(asked, namespace, name)
            }
            "configmaps" => by_pods(Needed::ConfigMap, namespace, name),
            "persistentvolumeclaims" => by_pods(Needed::Claim, namespace, name),
            "serviceaccounts" => by_pods(Needed::Account, namespace, name),
            "resourceclaims" => by_pods(Needed::DeviceClaim, namespace, name),
            "persistentvolumes" => {
                let volume = self.object(cluster, ("", what.plural), ("", name));
                let claim = volume.as_ref().and_then(references::claim_of);
                claim.is_some_and(|(namespace, name)| by_pods(Needed::Claim, namespace, name))
            }
            "volumeattachments" | "resourceslices" => named_in("/spec/nodeName"),
            "pods" => {
                let pod = self.stored(cluster, ("", "pods"), (namespace, name));
                pod.is_some_and(|pod| references::node_of(&pod) == Some(node))
            }
            _ => false,
        };
        if needed {
            return Ok(());
        }
        let why = format!("no relationship found between node '{node}' and this object");
        Err(why.into())
    }

    /// Whether a volume that is claimed by a pod of the node names this Secret for it.
    fn by_volumes(&self, asked: &Asked<'_>, namespace: &str, secret: &str) -> bool {
        let claims = self.pods.claims((asked.cluster, asked.node));
        claims.iter().any(|(home, claim)| {
            let claims = ("", "persistentvolumeclaims");
            let claimed = self.object(asked.cluster, claims, (home, claim));
            let volume = claimed.as_ref().and_then(|claim| text(claim, "/spec/volumeName"));
            let volumes = ("", "persistentvolumes");
            let volume = volume.and_then(|name| self.object(asked.cluster, volumes, ("", name)));
            volume.is_some_and(|volume| {
                references::claim_of(&volume) == Some((home, claim))
                    && references::secrets_of_volume(&volume).contains(&(namespace, secret))
            })
        })
    }

    fn stored(
        &self,
        cluster: &ClusterName,
        (group, plural): (&str, &str),
        (namespace, name): (&str, &str),
    ) -> Option<Arc<Stored>> {
        let key = Key::new(&Storage::new(group, plural), cluster, namespace, name);
        self.store.snapshot().get(&key)
    }

    fn object(
        &self,
        cluster: &ClusterName,
        kind: (&str, &str),
        place: (&str, &str),
    ) -> Option<Value> {
        self.stored(cluster, kind, place)?.object.value().ok()
    }

    fn reads_in_namespace(&self, asked: &Asked<'_>) -> Judged {
        if !matches!(asked.verb, "get" | "list" | "watch") {
            return Err("can only read resources of this type".into());
        }
        if !asked.what.subresource.is_empty() {
            return Err("cannot read subresource".into());
        }
        if asked.what.namespace.is_empty() {
            return Err("can only read namespaced object of this type".into());
        }
        self.is_needed(asked)
    }

    fn gets(&self, asked: &Asked<'_>) -> Judged {
        if asked.verb != "get" {
            return Err("can only get individual resources of this type".into());
        }
        if !asked.what.subresource.is_empty() {
            return Err("cannot get subresource".into());
        }
        self.is_needed(asked)
    }

    fn writes_status(&self, asked: &Asked<'_>) -> Judged {
        if !matches!(asked.verb, "update" | "patch") {
            return Err("can only get/update/patch this type".into());
        }
        self.is_needed(asked)
    }

    fn account(&self, asked: &Asked<'_>) -> Judged {
        if asked.verb == "get" && asked.what.subresource.is_empty() {
            return self.reads_in_namespace(asked);
        }
        if asked.verb != "create" || asked.what.name.is_empty() {
            return Err("can only create tokens for individual service accounts".into());
        }
        if asked.what.subresource != "token" {
            return Err("can only create token subresource of serviceaccount".into());
        }
        self.is_needed(asked)
    }

    fn pod(&self, asked: &Asked<'_>) -> Judged {
        match (asked.what.subresource, asked.verb) {
            ("", "get") => self.gets(asked),
            ("", "list" | "watch") if selects(asked, "spec.nodeName") => Ok(()),
            ("", "list" | "watch") if !asked.what.name.is_empty() => self.is_needed(asked),
            ("", "list" | "watch") => {
                Err("can only list/watch pods with spec.nodeName field selector".into())
            }
            // Which ones, admission looks at.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Ok(())
            }
            _ => Err("".into()),
        }
    }

    fn slice(&self, asked: &Asked<'_>) -> Judged {
        if !asked.what.subresource.is_empty() {
            return Err("cannot authorize ResourceSlice subresources".into());
        }
        match asked.verb {
            // Whose it is, admission looks at.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.is_needed(asked),
            "watch" | "list" | "deletecollection" if selects(asked, "spec.nodeName") => Ok(()),
            "watch" | "list" | "deletecollection" => Err(
                "can only list/watch/deletecollection resourceslices with nodeName field selector"
                    .into(),
            ),
            _ => {
                Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, \
                      create, update, patch, delete, deletecollection"
                    .into())
            }
        }
    }
}

/// Whether a selector leaves what names the node in this field.
fn selects(asked: &Asked<'_>, field: &str) -> bool {
    let selector = FieldSelector::read(asked.what.fields);
    selector.is_ok_and(|selector| selector.terms().any(|term| term == (field, true, asked.node)))
}

fn every_node(asked: &Asked<'_>) -> Judged {
    let Resource { group, plural, subresource, name, .. } = asked.what;
    let request =
        Request::Resource { verb: asked.verb, group, resource: plural, subresource, name };
    if EVERY_NODE.iter().any(|rule| rule.allows(&request)) { Ok(()) } else { Err("".into()) }
}

fn own_node(asked: &Asked<'_>) -> Judged {
    let (node, name) = (asked.node, asked.what.name);
    match (asked.what.subresource, asked.verb) {
        // Which one, admission looks at.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if name == node => Ok(()),
        ("", "get" | "list" | "watch") if name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object").into())
        }
        ("", "get" | "list" | "watch") => {
            Err(format!("node '{node}' cannot read '{name}', only its own Node object").into())
        }
        _ => Err("".into()),
    }
}

fn lease(asked: &Asked<'_>) -> Judged {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a node lease".into());
    }
    if asked.what.namespace != LEASES {
        let text = format!("can only access leases in the {LEASES:?} system namespace");
        return Err(text.into());
    }
    // Of one that is made, admission knows the name.
    if asked.verb != "create" && asked.what.name != asked.node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn csi_node(asked: &Asked<'_>) -> Judged {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a CSINode".into());
    }
    if !asked.what.subresource.is_empty() {
        return Err("cannot authorize CSINode subresources".into());
    }
    if asked.verb != "create" && asked.what.name != asked.node {
        return Err("can only access CSINode with the same name as the requesting node".into());
    }
    Ok(())
}
