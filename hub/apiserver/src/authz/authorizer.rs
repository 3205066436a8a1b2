//! What an authorizer is: it decides some of what callers want to do, and leaves the rest to others.

use std::borrow::Cow;

use async_trait::async_trait;
use serde::Serialize;

use super::attributes::{Attributes, Cluster};
use crate::authn::User;

/// Why; empty where nobody needs to know.
pub type Reason = Cow<'static, str>;

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done, whatever others say.
    Allow(Reason),
    /// It may not be done, whatever others say.
    Deny(Reason),
    /// Others decide; where none does, it may not be done.
    NoOpinion(Reason),
}

impl Decision {
    /// Nothing to say.
    #[must_use]
    pub const fn none() -> Self {
        Self::NoOpinion(Cow::Borrowed(""))
    }
}

/// Decides some of what callers want to do.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Whether they may.
    async fn decide(&self, asked: &Attributes<'_>) -> Decision;

    /// Adds what this one allows a caller in a cluster, where that can be listed.
    fn rules(&self, user: &User, cluster: Cluster<'_>, rules: &mut Rules);
}

/// What a caller may do, as SelfSubjectRulesReviews tell it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
    incomplete: bool,
}

/// These verbs of these resources.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceRule {
    verbs: &'static [&'static str],
    api_groups: &'static [&'static str],
    resources: &'static [&'static str],
}

/// These verbs of these paths.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct PathRule {
    verbs: &'static [&'static str],
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
}

impl Rules {
    /// Adds resources; what two members allow is told once.
    pub(super) fn resources(
        &mut self,
        verbs: &'static [&'static str],
        api_groups: &'static [&'static str],
        resources: &'static [&'static str],
    ) {
        let rule = ResourceRule { verbs, api_groups, resources };
        if !self.resource_rules.contains(&rule) {
            self.resource_rules.push(rule);
        }
    }

    /// Adds paths; what two members allow is told once.
    pub(super) fn paths(&mut self, verbs: &'static [&'static str], paths: Vec<String>) {
        let rule = PathRule { verbs, paths };
        if !self.non_resource_rules.contains(&rule) {
            self.non_resource_rules.push(rule);
        }
    }

    /// Adds everything.
    pub(super) fn everything(&mut self) {
        self.resources(&["*"], &["*"], &["*"]);
        self.paths(&["*"], vec!["*".to_owned()]);
    }
}
