//! Who is behind a write, and what they may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_cel::{Answer, Ask, Question};
use freewheel_hub_objects::Actor;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::runtime::Handle;

/// A controller that is not asked about: what a removed cluster leaves behind goes, whatever its rules say.
const CLEANUP: &str = "cluster-leftovers";
/// Another one: whether a device is there is for nobody to forbid, as what devices say themselves.
const PRESENCE: &str = "node-controller";
const ACCOUNT: &str = "system:serviceaccount:";

/// Who is behind a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// User name.
    pub name: String,
    /// UID, where there is one.
    pub uid: String,
    /// All that they are members of.
    pub groups: Vec<String>,
    /// What else is known of them.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Knows what people may do in a cluster.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Whether they may.
    async fn may(&self, who: &Who, cluster: &ClusterName, question: &Question) -> Answer;
}

impl Who {
    /// Whom rules are asked about; nobody for those who are never asked about.
    pub(crate) fn is_behind(actor: &Actor) -> Option<Self> {
        match actor {
            Actor::Person(person) => Some(Self {
                name: person.name.clone(),
                uid: person.uid.clone(),
                groups: person.groups.clone(),
                extra: person.extra.clone(),
            }),
            Actor::Controller(CLEANUP | PRESENCE) => None,
            Actor::Controller(name) => Some(Self::account("kube-system", name)),
            Actor::Device(_) | Actor::Joining | Actor::Hub => None,
        }
    }

    /// Whether rules are asked about what it writes.
    pub(crate) fn is_asked_about(actor: &Actor) -> bool {
        match actor {
            Actor::Person(_) => true,
            Actor::Controller(name) => !matches!(*name, CLEANUP | PRESENCE),
            Actor::Device(_) | Actor::Joining | Actor::Hub => false,
        }
    }

    fn account(namespace: &str, name: &str) -> Self {
        let groups =
            ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        let groups = groups.into_iter().chain(["system:authenticated".to_owned()]).collect();
        Self { name: format!("{ACCOUNT}{namespace}:{name}"), groups, ..Self::default() }
    }

    /// As reviews have it (authentication/v1 UserInfo).
    pub(crate) fn info(&self) -> Value {
        let mut info = json!({"username": self.name});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// Asks for an expression, which waits for the answer: on a thread of its own.
pub(crate) struct Asker {
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) who: Who,
    pub(crate) cluster: ClusterName,
    pub(crate) handle: Handle,
}

impl Ask for Asker {
    fn ask(&self, question: &Question) -> Answer {
        let account =
            question.account.as_ref().map(|(namespace, name)| Who::account(namespace, name));
        let who = account.as_ref().unwrap_or(&self.who);
        self.handle.block_on(self.authorizer.may(who, &self.cluster, question))
    }
}
