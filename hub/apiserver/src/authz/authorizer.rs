//! What an authorizer is: it decides some of what callers want to do, and leaves the rest to others.

use std::borrow::Cow;

use async_trait::async_trait;
use freewheel_hub_rbac::PolicyRule;
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
    /// Others decide; where none does, it is not known whether it may be done: to ask again may help.
    Unanswered(Reason),
    /// Nobody else decides, and it is not known whether it may be done: to ask again may help.
    Failed(Reason),
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

    /// Adds what this one allows a caller in a cluster, and in a namespace of it, where that can be listed.
    fn rules(&self, user: &User, place: (Cluster<'_>, &str), rules: &mut Rules);
}

/// What a caller may do, as SelfSubjectRulesReviews tell it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
    incomplete: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    evaluation_error: String,
}

/// These verbs of these resources.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource_names: Vec<String>,
}

/// These verbs of these paths.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
}

impl Rules {
    /// Adds what a rule allows; what two members allow is told once.
    pub(super) fn add(&mut self, rule: &PolicyRule) {
        let PolicyRule { verbs, api_groups, resources, resource_names, non_resource_urls } =
            rule.clone();
        if !non_resource_urls.is_empty() {
            let of_paths = PathRule { verbs: verbs.clone(), paths: non_resource_urls };
            if !self.non_resource_rules.contains(&of_paths) {
                self.non_resource_rules.push(of_paths);
            }
        }
        let of_resources = ResourceRule { verbs, api_groups, resources, resource_names };
        if !of_resources.resources.is_empty() && !self.resource_rules.contains(&of_resources) {
            self.resource_rules.push(of_resources);
        }
    }

    /// Adds everything.
    pub(super) fn everything(&mut self) {
        PolicyRule::everything().iter().for_each(|rule| self.add(rule));
    }

    /// There may be more than could be found out.
    pub(super) fn lacks(&mut self, why: String) {
        self.evaluation_error = why;
    }

    /// The same, as somebody else decides who lists nothing.
    pub(super) fn may_be_more(&mut self, why: &str) {
        self.incomplete = true;
        self.evaluation_error = why.to_owned();
    }

    /// Nobody lists what this caller may do.
    pub(super) fn nothing(&mut self) {
        *self = Self::default();
    }
}
