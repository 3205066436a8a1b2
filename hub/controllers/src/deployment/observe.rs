//! A Deployment and its ReplicaSets as read at one moment.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_store::Stored;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::amount::in_pods;
use crate::engine::Error;
use crate::engine::client::typed;

/// Revision of a ReplicaSet, and of the Deployment that runs it.
pub const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";
/// Revisions that a ReplicaSet had before a rollback made it new again.
pub const REVISION_HISTORY_ANNOTATION: &str = "deployment.kubernetes.io/revision-history";
/// `spec.replicas` of the Deployment when the set was last scaled.
pub const DESIRED_REPLICAS_ANNOTATION: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with the surge.
pub const MAX_REPLICAS_ANNOTATION: &str = "deployment.kubernetes.io/max-replicas";
/// Label that tells the sets' pods apart.
pub const POD_TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// How pods are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Old ones go before new ones come.
    Recreate,
    /// A few at a time, within these bounds in pods.
    Rolling {
        /// So many more than asked for.
        surge: i32,
        /// So many less than asked for.
        unavailable: i32,
    },
}

/// What the Deployment asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// metadata.name
    pub name: String,
    /// metadata.generation
    pub generation: i64,
    /// spec.replicas
    pub replicas: i32,
    /// spec.strategy in pods
    pub strategy: Strategy,
    /// spec.paused
    pub paused: bool,
    /// spec.minReadySeconds
    pub min_ready: i32,
    /// spec.progressDeadlineSeconds, unless it is endless.
    pub deadline: Option<Duration>,
    /// spec.revisionHistoryLimit, unless it is endless.
    pub history: Option<usize>,
    /// spec.template as JSON.
    pub template: Value,
    /// The typed object.
    pub typed: Deployment,
}

impl Wanted {
    /// Reads a stored Deployment.
    pub fn read(stored: &Stored) -> Result<Self, Error> {
        let typed: Deployment = typed(stored)?;
        let spec = typed.spec.clone().unwrap_or_default();
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.unwrap_or_default();
        let strategy = if strategy.type_.as_deref() == Some("Recreate") {
            Strategy::Recreate
        } else {
            let bounds = strategy.rolling_update.unwrap_or_default();
            fenceposts(bounds.max_surge.as_ref(), bounds.max_unavailable.as_ref(), replicas)
        };
        let deadline = spec.progress_deadline_seconds.filter(|s| *s != i32::MAX);
        let history = spec.revision_history_limit.filter(|n| *n != i32::MAX);
        let raw = stored.object.value().map_err(Error::api("read a Deployment"))?;
        Ok(Self {
            name: stored.key.name.to_string(),
            generation: stored.object.header.generation,
            replicas,
            strategy,
            paused: spec.paused.unwrap_or_default(),
            min_ready: spec.min_ready_seconds.unwrap_or_default(),
            deadline: deadline.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs),
            history: history.and_then(|n| usize::try_from(n).ok()),
            template: comparable(&raw["spec"]["template"]),
            typed,
        })
    }

    /// Pods that may be there beyond `replicas`; none when nothing is asked for.
    #[must_use]
    pub fn surge(&self) -> i32 {
        match self.strategy {
            Strategy::Rolling { surge, .. } => surge,
            Strategy::Recreate => 0,
        }
    }

    /// Pods of `replicas` that may be missing.
    #[must_use]
    pub fn unavailable(&self) -> i32 {
        match self.strategy {
            Strategy::Rolling { unavailable, .. } if self.replicas > 0 => {
                unavailable.min(self.replicas)
            }
            Strategy::Rolling { .. } | Strategy::Recreate => 0,
        }
    }
}

/// maxSurge rounds up, maxUnavailable down; both zero would never move, so one may be missing then.
#[must_use]
pub fn fenceposts(
    surge: Option<&IntOrString>,
    unavailable: Option<&IntOrString>,
    replicas: i32,
) -> Strategy {
    let quarter = IntOrString::String("25%".into());
    let surge = in_pods(surge.unwrap_or(&quarter), replicas, true);
    let unavailable = in_pods(unavailable.unwrap_or(&quarter), replicas, false);
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Strategy::Rolling { surge, unavailable }
}

/// A template without the hash label and with its empty parts gone, so that what was written in two
/// ways compares equal.
#[must_use]
pub fn comparable(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("creationTimestamp");
        if let Some(labels) = meta.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(POD_TEMPLATE_HASH_LABEL);
        }
        meta.retain(|_, part| !part.is_null() && *part != json!({}) && *part != json!([]));
    }
    template
}

/// One ReplicaSet of the Deployment.
#[derive(Clone, Debug)]
pub struct Set {
    /// The stored object.
    pub stored: Arc<Stored>,
    /// metadata.name
    pub name: String,
    /// spec.replicas
    pub replicas: i32,
    /// status.replicas
    pub actual: i32,
    /// status.readyReplicas
    pub ready: i32,
    /// status.availableReplicas, of those that stay.
    pub available: i32,
    /// The status is about the newest spec.
    pub observed: bool,
    /// metadata.creationTimestamp
    pub created: Timestamp,
    /// The revision annotation, 0 when it is missing.
    pub revision: i64,
    /// The desired-replicas annotation.
    pub desired: Option<i32>,
    /// The max-replicas annotation.
    pub max: Option<i32>,
    /// The typed object.
    pub typed: ReplicaSet,
    /// spec.template as JSON, comparable.
    pub template: Value,
}

impl Set {
    /// Reads a stored ReplicaSet.
    pub fn read(stored: Arc<Stored>) -> Result<Self, Error> {
        let typed: ReplicaSet = typed(&stored)?;
        let raw = stored.object.value().map_err(Error::api("read a ReplicaSet"))?;
        let note = |name: &str| typed.metadata.annotations.as_ref()?.get(name)?.parse::<i64>().ok();
        let count = |name: &str| note(name).and_then(|n| i32::try_from(n).ok());
        let status = typed.status.clone().unwrap_or_default();
        let replicas = typed.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        Ok(Self {
            name: stored.key.name.to_string(),
            replicas,
            actual: status.replicas,
            ready: status.ready_replicas.unwrap_or_default(),
            // A set that was just told to shrink still reports those that are about to go.
            available: status.available_replicas.unwrap_or_default().min(replicas),
            observed: stored.object.header.generation
                <= status.observed_generation.unwrap_or_default(),
            created: typed
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            revision: note(REVISION_ANNOTATION).unwrap_or_default(),
            desired: count(DESIRED_REPLICAS_ANNOTATION),
            max: count(MAX_REPLICAS_ANNOTATION),
            template: comparable(&raw["spec"]["template"]),
            typed,
            stored,
        })
    }

    /// Oldest first; the name breaks ties, as creation has only seconds.
    #[must_use]
    pub fn by_age(a: &Self, b: &Self) -> Ordering {
        a.created.cmp(&b.created).then_with(|| a.name.cmp(&b.name))
    }
}

/// The sets split into the one that runs the present template and the others, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    /// Runs the present template.
    pub new: Option<Set>,
    /// The others.
    pub old: Vec<Set>,
}

impl Sets {
    /// Splits. Of several with the same template the oldest is the new one, so that every run picks
    /// the same.
    #[must_use]
    pub fn split(mut all: Vec<Set>, template: &Value) -> Self {
        all.sort_by(Set::by_age);
        let new = all.iter().position(|set| set.template == *template).map(|at| all.remove(at));
        Self { new, old: all }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(self.new.as_ref())
    }

    /// Sum over all of them.
    #[must_use]
    pub fn sum(&self, what: fn(&Set) -> i32) -> i32 {
        self.all().map(what).sum()
    }
}

/// Sets this set to this size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Its name.
    pub set: String,
    /// spec.replicas
    pub to: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(surge: &str, unavailable: &str, replicas: i32, expected: (i32, i32)) {
        let bound = |text: &str| match text.parse() {
            Ok(number) => IntOrString::Int(number),
            Err(_) => IntOrString::String(text.to_owned()),
        };
        let (surge, unavailable) = (bound(surge), bound(unavailable));
        let got = fenceposts(Some(&surge), Some(&unavailable), replicas);
        assert_eq!(got, Strategy::Rolling { surge: expected.0, unavailable: expected.1 });
    }

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        check("25%", "25%", 10, (3, 2));
        check("25%", "25%", 1, (1, 0));
        check("0", "0", 4, (0, 1));
        check("0%", "10%", 4, (0, 1));
        check("2", "50%", 3, (2, 1));
        check("100%", "0", 7, (7, 0));
    }

    #[test]
    fn the_hash_label_and_empty_parts_do_not_count() {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {}});
        let hashed = json!({"metadata": {"labels": {"app": "web", POD_TEMPLATE_HASH_LABEL: "x"}, "annotations": {},
            "creationTimestamp": null}, "spec": {}});
        assert_eq!(comparable(&template), comparable(&hashed));
    }
}
