//! All who decide, one after the other: those whom nobody chooses, and then those whom the command line or a file names.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_metrics::Metrics;
use freewheel_hub_objects::clock::SystemClock;
use freewheel_hub_rbac::Index;
use freewheel_hub_store::Store;

use super::abac::PolicyFile;
use super::admins::{ClusterAdmins, Masters};
use super::always::Always;
use super::attributes::{Attributes, Cluster};
use super::authorizer::{Authorizer, Decision, Rules};
use super::configuration::WebhookOptions;
use super::confined::Confined;
use super::node::Nodes;
use super::probes::Probes;
use super::roles::Roles;
use super::webhook::AccessWebhook;
use super::webhook_figures::WebhookFigures;
use crate::access::remote::Remote;
use crate::authn::User;

/// All who decide, in the order in which they are asked.
pub struct Authorizers {
    members: Vec<Box<dyn Authorizer>>,
    /// Of those of them who ask somebody else.
    figures: Vec<Arc<WebhookFigures>>,
}

/// Who decides, after those whom nobody chooses.
#[derive(Clone)]
pub enum AuthorizerOptions {
    /// By which node runs what.
    Node,
    /// By roles.
    Rbac,
    /// By a file of policies.
    Abac(PolicyFile),
    /// Allows everything to all who are known, or denies it.
    Always(bool),
    /// By asking somebody else.
    Webhook(WebhookOptions, Arc<dyn Remote>),
}

impl Authorizers {
    /// These decide. Pods are in the store, roles in `rights`.
    #[must_use]
    pub(crate) fn over(
        store: &Arc<dyn Store>,
        rights: &Arc<Index>,
        chosen: Vec<AuthorizerOptions>,
    ) -> Self {
        // Before all who may do something is who may not.
        let mut members: Vec<Box<dyn Authorizer>> =
            vec![Box::new(Confined), Box::new(Masters), Box::new(Probes), Box::new(ClusterAdmins)];
        let roles = |in_root| -> Box<dyn Authorizer> {
            Box::new(Roles { rights: rights.clone(), in_root })
        };
        if !chosen.iter().any(|one| matches!(one, AuthorizerOptions::Rbac)) {
            members.push(roles(false));
        }
        let mut figures = Vec::new();
        members.extend(chosen.into_iter().map(|one| -> Box<dyn Authorizer> {
            match one {
                AuthorizerOptions::Node => Box::new(Nodes::over(store.clone())),
                AuthorizerOptions::Rbac => roles(true),
                AuthorizerOptions::Abac(policies) => Box::new(policies),
                AuthorizerOptions::Always(may) => Box::new(Always(may)),
                AuthorizerOptions::Webhook(options, remote) => {
                    let webhook = AccessWebhook::new(remote, Arc::new(SystemClock), options);
                    figures.push(webhook.figures().clone());
                    Box::new(webhook)
                }
            }
        }));
        Self { members, figures }
    }

    /// These decide.
    #[cfg(test)]
    pub(super) fn of(members: Vec<Box<dyn Authorizer>>) -> Self {
        Self { members, figures: Vec::new() }
    }

    /// Shows what is counted of those who ask somebody else.
    pub(crate) fn show(&self, metrics: &Metrics) {
        WebhookFigures::show(&self.figures, metrics);
    }
}

#[async_trait]
impl Authorizer for Authorizers {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let (mut reasons, mut unanswered) = (Vec::new(), Vec::new());
        for member in &self.members {
            match member.decide(asked).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                Decision::Unanswered(reason) => unanswered.push(reason),
                decided => return decided,
            }
        }
        if unanswered.is_empty() {
            Decision::NoOpinion(reasons.join("\n").into())
        } else {
            Decision::Unanswered(unanswered.join("\n").into())
        }
    }

    fn rules(&self, user: &User, place: (Cluster<'_>, &str), rules: &mut Rules) {
        // In the other order, so that who denies takes away what others give.
        self.members.iter().rev().for_each(|member| member.rules(user, place, rules));
    }
}
