//! What all that look at a write share, and whom of it they ask about.

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_hub_objects::Review;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::registry::Registries;
use freewheel_link::names::ClusterName;
use tokio::runtime::Handle;

use crate::asker::{Asker, Authorizer, Who};
use crate::attributes::Attributes;
use crate::index::{Config, Index, is_configuration};
use crate::policy::{Hook, Job, Seen, Selected};
use crate::turns::Turns;
use crate::webhook::Calls;

/// What all that look at a write share.
pub(crate) struct Admission {
    pub(crate) index: Arc<Index>,
    pub(crate) kinds: Arc<Registries>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) turns: Turns,
    pub(crate) calls: Calls,
}

impl Admission {
    /// Whether somebody may be asked about a write.
    pub(crate) fn concerns(
        &self,
        review: &Review<'_>,
        has: impl Fn(&Config, &str) -> bool,
    ) -> bool {
        let target = review.target;
        let Some(config) = self.index.of(&target.cluster) else { return false };
        // What a binding changes of its pod: the binding was asked about.
        let is_settled = review.stores && review.subresource == Some("binding");
        has(&config, target.kind.plural())
            && !is_settled
            && Who::is_asked_about(review.actor)
            && !is_configuration(target.kind.group(), target.kind.plural())
    }

    fn asker(&self, who: Who, cluster: &ClusterName) -> Arc<Asker> {
        let (authorizer, cluster) = (self.authorizer.clone(), cluster.clone());
        Arc::new(Asker { authorizer, who, cluster, handle: Handle::current() })
    }

    /// A write in this version.
    pub(crate) fn seen_in(&self, asked: &Attributes<'_>, version: &Kind) -> Seen {
        let who = Who::is_behind(asked.review.actor).unwrap_or_default();
        let request = asked.request(version, &who);
        Seen::of(asked, version, request, self.asker(who, &asked.review.target.cluster))
    }

    /// A write in the version of each job.
    pub(crate) fn seen(&self, asked: &Attributes<'_>, jobs: &[Job]) -> Vec<Seen> {
        let mut versions = HashMap::new();
        let seen = |job: &Job| {
            let seen = versions
                .entry(job.version.id())
                .or_insert_with(|| self.seen_in(asked, &job.version));
            seen.clone()
        };
        jobs.iter().map(seen).collect()
    }

    /// Which policies are asked, by which bindings and with which parameters.
    pub(crate) fn select(&self, hooks: &[&Hook], asked: &Attributes<'_>) -> Selected {
        let registry = self.kinds.of(&asked.review.target.cluster);
        Selected::of(hooks, asked, &registry)
    }
}
