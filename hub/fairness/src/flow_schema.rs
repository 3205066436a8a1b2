//! FlowSchema: which requests belong to which level, and what is told apart in it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use serde::Deserialize;

use crate::request::Request;
use crate::rule::{Caller, Rule};

/// A FlowSchema as it acts.
#[derive(Debug)]
pub struct FlowSchema {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID, empty for what acts without an object.
    pub uid: Arc<str>,
    pub(crate) precedence: i64,
    pub(crate) level: String,
    distinguisher: Option<Distinguisher>,
    rules: Vec<Rule>,
    /// How many texts a request is compared with at most.
    pub(crate) terms: usize,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "type")]
enum Distinguisher {
    ByUser,
    ByNamespace,
}

#[derive(Deserialize)]
struct Object {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    priority_level_configuration: Level,
    matching_precedence: i64,
    distinguisher_method: Option<Distinguisher>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Level {
    name: String,
}

impl FlowSchema {
    /// Reads an object.
    ///
    /// # Errors
    /// When its spec is none.
    pub fn read(name: &str, uid: &str, object: &[u8]) -> Result<Self, serde_json::Error> {
        let Object { spec } = serde_json::from_slice(object)?;
        Ok(Self {
            name: name.into(),
            uid: uid.into(),
            precedence: spec.matching_precedence,
            level: spec.priority_level_configuration.name,
            distinguisher: spec.distinguisher_method,
            terms: spec.rules.iter().map(Rule::terms).sum(),
            rules: spec.rules,
        })
    }

    pub(crate) fn matches(&self, caller: &Caller<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(caller))
    }

    /// Which of its flows a request belongs to.
    pub(crate) fn flow(&self, request: &Request<'_>) -> u64 {
        let told_apart = match self.distinguisher {
            None => "",
            Some(Distinguisher::ByUser) => request.user,
            Some(Distinguisher::ByNamespace) => request.namespace(),
        };
        let mut hasher = DefaultHasher::new();
        (&*self.name, told_apart).hash(&mut hasher);
        hasher.finish()
    }
}
