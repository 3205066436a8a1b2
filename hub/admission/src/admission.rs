//! What all that look at a write share, and whom of it they ask about.

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_hub_objects::{Refusal, Review};
use freewheel_hub_schema::kind::{Kind, KindId};
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
    pub(crate) async fn seen_in(
        &self,
        asked: &Attributes<'_>,
        version: &Kind,
    ) -> Result<Seen, Refusal> {
        let who = Who::is_behind(asked.review.actor).unwrap_or_default();
        let request = asked.request(version, &who);
        let asker = self.asker(who, &asked.review.target.cluster);
        let seen = Seen::of(asked, version, request, asker).await;
        seen.map_err(|error| Refusal::Status(Box::new(error)))
    }

    /// A write in the version of each job.
    pub(crate) async fn seen(
        &self,
        asked: &Attributes<'_>,
        jobs: &[Job],
    ) -> Result<Vec<Seen>, Refusal> {
        let mut versions: HashMap<KindId, Seen> = HashMap::new();
        let mut all = Vec::new();
        for job in jobs {
            let seen = match versions.get(&job.version.id()) {
                Some(seen) => seen.clone(),
                None => self.seen_in(asked, &job.version).await?,
            };
            versions.insert(job.version.id(), seen.clone());
            all.push(seen);
        }
        Ok(all)
    }

    /// Which policies are asked, by which bindings and with which parameters.
    pub(crate) async fn select(&self, hooks: &[&Hook], asked: &Attributes<'_>) -> Selected {
        let registry = self.kinds.of(&asked.review.target.cluster);
        Selected::of(hooks, asked, &registry).await
    }
}
