//! Figures of the store, which nobody else can show.
//!
//! Guarantees:
//! - objects are counted when somebody looks, by kinds that are built in: kinds of clusters' own are their owners'
//!   names (`objects_are_counted_by_kinds_that_are_built_in`);
//! - of clusters those are shown that have most: a fleet has too many to show (`the_largest_clusters_are_shown`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_metrics::{
    Counter, DurationHistogram, MetricFamily, MetricKind, Metrics, QUICK_SECONDS_BUCKETS, Sample,
    Value,
};
use freewheel_hub_objects::Objects;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::{CommitError, Scope, Snapshot};
use freewheel_link::names::ClusterName;

/// Of so many clusters their bytes are shown.
const CLUSTERS_SHOWN_MAX: usize = 20;

/// Transactions.
#[derive(Debug)]
pub struct CommitMetrics {
    ok: Counter,
    conflict: Counter,
    too_large: Counter,
    cluster_full: Counter,
    malformed: Counter,
    busy: Counter,
    unavailable: Counter,
    time: Arc<DurationHistogram>,
}

impl Default for CommitMetrics {
    fn default() -> Self {
        let none = Counter::default;
        let (ok, conflict, too_large, cluster_full) = (none(), none(), none(), none());
        let (malformed, busy, unavailable) = (none(), none(), none());
        let time = Arc::new(DurationHistogram::new(QUICK_SECONDS_BUCKETS));
        Self { ok, conflict, too_large, cluster_full, malformed, busy, unavailable, time }
    }
}

impl CommitMetrics {
    /// One more, which has taken so long.
    pub fn note<T>(&self, outcome: &Result<T, CommitError>, took: Duration) {
        let counter = match outcome {
            Ok(_) => &self.ok,
            Err(CommitError::Unmet { .. }) => &self.conflict,
            Err(CommitError::TooLarge(_)) => &self.too_large,
            Err(CommitError::ClusterFull { .. }) => &self.cluster_full,
            Err(CommitError::Malformed(_)) => &self.malformed,
            Err(CommitError::Busy) => &self.busy,
            Err(CommitError::Unavailable(_) | CommitError::Stopped) => &self.unavailable,
        };
        counter.inc();
        if outcome.is_ok() {
            self.time.observe(took);
        }
    }

    fn outcomes(&self) -> Vec<Sample> {
        let all = [
            ("ok", &self.ok),
            ("conflict", &self.conflict),
            ("too_large", &self.too_large),
            ("cluster_full", &self.cluster_full),
            ("malformed", &self.malformed),
            ("busy", &self.busy),
            ("unavailable", &self.unavailable),
        ];
        all.map(|(outcome, count)| labelled(("outcome", outcome), Value::Whole(count.get()))).into()
    }
}

fn labelled((name, value): (&'static str, &str), figure: Value) -> Sample {
    Sample { labels: vec![(name, value.to_owned())], value: figure }
}

/// Shows the store's.
pub fn show(metrics: &Metrics, objects: &Objects, commits: &Arc<CommitMetrics>, data: &Path) {
    let named = ("freewheel_store_commits", "Transactions of the store");
    let at = commits.clone();
    metrics.show(MetricFamily::new(named, MetricKind::Counter, move || at.outcomes()));
    let help = "Time in seconds until a transaction is durable";
    let named = ("freewheel_store_commit_duration_seconds", help);
    let at = commits.time.clone();
    metrics.show(MetricFamily::one(named, MetricKind::Histogram, move || {
        Some(Value::Histogram(at.clone()))
    }));
    let named = ("freewheel_store_revision", "Newest revision of the store");
    let at = objects.store().clone();
    let newest = move || Some(Value::Whole(at.snapshot().revision()));
    metrics.show(MetricFamily::one(named, MetricKind::Gauge, newest));
    let named = ("apiserver_storage_size_bytes", "Size of the store's file");
    let file = data.join("store/store.redb");
    let size = move || std::fs::metadata(&file).ok().map(|file| Value::Whole(file.len()));
    metrics.show(MetricFamily::new(named, MetricKind::Gauge, move || {
        size().map(|size| labelled(("storage_cluster_id", "store"), size)).into_iter().collect()
    }));
    let named = ("apiserver_storage_objects", "Objects in the store, of all clusters");
    let at = objects.store().clone();
    metrics.show(MetricFamily::new(named, MetricKind::Gauge, move || count(&*at.snapshot())));
}

/// Shows how much clusters have of what they may have.
pub fn show_clusters(metrics: &Metrics, objects: &Objects, quota: u64) {
    let help = "Bytes that a cluster has in the store, of those that have most";
    let named = ("freewheel_store_cluster_bytes", help);
    let at = objects.store().clone();
    metrics.show(MetricFamily::new(named, MetricKind::Gauge, move || largest(&*at.snapshot())));
    let help = "Most bytes that a cluster of a spoke may have in the store";
    let named = ("freewheel_store_cluster_quota_bytes", help);
    metrics.show(MetricFamily::one(named, MetricKind::Gauge, move || Some(Value::Whole(quota))));
}

fn largest(snapshot: &dyn Snapshot) -> Vec<Sample> {
    let bytes = snapshot.stored_bytes();
    let mut all: Vec<_> = bytes.clusters().collect();
    all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let shown = all.into_iter().take(CLUSTERS_SHOWN_MAX);
    shown.map(|(name, bytes)| labelled(("cluster", name.as_str()), Value::Whole(bytes))).collect()
}

fn count(snapshot: &dyn Snapshot) -> Vec<Sample> {
    let one = |kind: &Arc<Kind>| {
        let scope = Scope { resource: kind.storage().clone(), cluster: None, namespace: None };
        let count = snapshot.count(&scope);
        let name = match kind.group() {
            "" => kind.plural().to_owned(),
            group => format!("{}.{group}", kind.plural()),
        };
        labelled(("resource", &name), Value::Whole(u64::try_from(count).unwrap_or(u64::MAX)))
    };
    kinds::registry(&ClusterName::root()).stored().into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::{Header, Key, Object, Resource};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Operation, Store as _, Txn};

    use super::*;

    #[tokio::test]
    async fn objects_are_counted_by_kinds_that_are_built_in() {
        let store = MemoryStore::new();
        let pi = ClusterName::try_from("pi-7").unwrap();
        for (resource, cluster, name) in [
            (Resource::new("", "pods"), &pi, "a"),
            (Resource::new("", "pods"), &ClusterName::root(), "a"),
            (Resource::new("made.up", "madeups"), &pi, "a"),
        ] {
            let key = Key::new(&resource, cluster, "default", name);
            let object = Object { header: Header::default(), body: b"{}".to_vec().into() };
            let operations = vec![Operation::Put(key, object)];
            store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        }
        let all = count(&*store.snapshot());
        let of = |name: &str| {
            let found = all.iter().find(|sample| sample.labels == [("resource", name.to_owned())]);
            found.map(|sample| match &sample.value {
                Value::Whole(count) => *count,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(
            (of("pods"), of("deployments.apps"), of("madeups.made.up")),
            (Some(2), Some(0), None)
        );
    }

    #[tokio::test]
    async fn the_largest_clusters_are_shown() {
        let store = MemoryStore::new();
        for number in 0..2 * CLUSTERS_SHOWN_MAX {
            let cluster = ClusterName::try_from(format!("pi-{number:02}").as_str()).unwrap();
            let key = Key::new(&Resource::new("", "pods"), &cluster, "default", "a");
            let body = "x".repeat(100 * number).into();
            let object = Object { header: Header::default(), body };
            let operations = vec![Operation::Put(key, object)];
            store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        }
        let shown = largest(&*store.snapshot());
        let names: Vec<_> = shown.iter().map(|sample| sample.labels[0].1.as_str()).collect();
        assert_eq!((names.len(), names[0], names[19]), (20, "pi-39", "pi-20"));
    }
}
