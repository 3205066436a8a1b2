//! NodeRestriction: a node writes of itself, and of the pods that are bound to it, and nothing by which it would get more.
//!
//! ```text
//! pods      mirrors of what a node runs by itself, their status, evictions
//! nodes     its own Node, without labels, taints and owners that say who may run there
//! tokens    of the accounts of its pods, bound to them, for those whom they name
//! ```
//!
//! Which of these rules holds of a kind, its traits say (`node_restriction/node_rule.rs`).
//! Whether it may write such objects at all, the authorizer for nodes says (`authz/node.rs`); this one is asked about
//! whoever is a node, whatever else they may. The gateway, which writes for devices, is not asked about.
//!
//! Guarantees:
//! - so it is for nodes by whatever right they write (`a_node_writes_of_itself_and_its_pods_and_nothing_else`);
//! - a node gives itself no label that steers pods (`a_node_sets_no_label_that_others_decide_by`);
//! - a token that a node gets is that of a pod of its own (`a_node_gets_tokens_of_its_own_pods_alone`).

mod node_rule;
mod nodes;
mod pods;
mod tokens;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_objects::{Actor, Claims, Person, Plugin, Refusal, Review, Verb};
use freewheel_hub_pki::Request;
use freewheel_link::identities::NODE_PREFIX;
use serde_json::Value;

use crate::authz::{Authorizers, LEASES, node_of, text};
use node_rule::NodeRule;
use write::{Judged, NodeWrite};

/// Refuses what nodes have no business with.
pub(super) struct NodeRestriction {
    pub(super) authorizers: Arc<Authorizers>,
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.verb != Verb::Connect && node(review.actor).is_some()
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Refusal> {
        self.admit(review, object).await
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        // What others have made of the rest is not the node's.
        if review.verb == Verb::Delete {
            self.admit(review, object).await?;
        }
        Ok(Claims::default())
    }
}

fn node(actor: &Actor) -> Option<(&Person, &str)> {
    let Actor::Person(person) = actor else { return None };
    Some((person, node_of(&person.name, &person.groups)?))
}

impl NodeRestriction {
    async fn admit(&self, review: &Review<'_>, object: &Value) -> Judged {
        let Some((person, node)) = node(review.actor) else { return Ok(()) };
        if node.is_empty() {
            let why = format!("could not determine node from user {:?}", person.name);
            return Err(Refusal::forbidden(why));
        }
        let write = NodeWrite { review, person, node, object };
        let Some(rule) = NodeRule::of(&review.target.kind) else { return Ok(()) };
        match rule {
            NodeRule::Workload => pods::admit(&write),
            NodeRule::Itself => nodes::admit(&write),
            NodeRule::Claim => claim(&write),
            NodeRule::Token => tokens::admit(&write, &self.authorizers).await,
            NodeRule::Lease => lease(&write),
            NodeRule::OwnName => own_name(&write),
            NodeRule::NamesIt => names_it(&write),
            NodeRule::Certificate => signing_request(&write),
        }
    }
}

fn lease(write: &NodeWrite<'_>) -> Judged {
    if &*write.review.target.namespace != LEASES {
        let why = format!("can only access leases in the {LEASES:?} system namespace");
        return Err(Refusal::forbidden(why));
    }
    write.is_own("can only access node lease with the same name as the requesting node")
}

fn own_name(write: &NodeWrite<'_>) -> Judged {
    let kind = write.review.target.kind.kind();
    write.is_own(&format!("can only access {kind} with the same name as the requesting node"))
}

fn names_it(write: &NodeWrite<'_>) -> Judged {
    let does = match write.review.verb {
        Verb::Create => "create",
        Verb::Delete => "delete",
        Verb::Update | Verb::Connect => return Ok(()),
    };
    if text(write.object, "/spec/nodeName") == Some(write.node) {
        return Ok(());
    }
    let kind = write.review.target.kind.kind();
    Err(Refusal::forbidden(format!(
        "can only {does} {kind} with the same NodeName as the requesting node"
    )))
}

/// Of a claim, a node tells what has become of it.
fn claim(write: &NodeWrite<'_>) -> Judged {
    if write.review.subresource != Some("status") {
        return Err(Refusal::forbidden("may only update PVC status"));
    }
    let (Verb::Update, Some(old)) = (write.review.verb, write.review.old) else {
        return write.unexpected();
    };
    let rest = |claim: &Value| {
        let mut rest = claim.clone();
        if let Some(meta) = rest.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.retain(|key, _| key != "resourceVersion" && key != "managedFields");
        }
        if let Some(status) = rest.get_mut("status").and_then(Value::as_object_mut) {
            let reported =
                ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"];
            status.retain(|key, _| !reported.contains(&key.as_str()));
        }
        rest
    };
    if rest(old) == rest(write.object) {
        return Ok(());
    }
    let node = write.node;
    Err(Refusal::forbidden(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    )))
}

/// Whoever asks for a node's certificate is that node.
fn signing_request(write: &NodeWrite<'_>) -> Judged {
    let signer = text(write.object, "/spec/signerName").unwrap_or_default();
    let of_nodes = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
    if !write.review.creates() || !of_nodes.contains(&signer) {
        return Ok(());
    }
    let refused =
        |why: &dyn std::fmt::Display| Refusal::forbidden(format!("unable to parse csr: {why}"));
    let encoded = text(write.object, "/spec/request").unwrap_or_default();
    let pem = STANDARD.decode(encoded).map_err(|error| refused(&error))?;
    let der = Request::in_pem(&pem).map_err(|error| refused(&error))?;
    let request = Request::read(&der).map_err(|error| refused(&error))?;
    let own = format!("{NODE_PREFIX}{}", write.node);
    // With several names, another reader may take another one for its name.
    if request.claims().map_err(|error| refused(&error))?.0 == [own.as_str()] {
        return Ok(());
    }
    Err(Refusal::forbidden(format!("can only create a node CSR with CN={own}")))
}
