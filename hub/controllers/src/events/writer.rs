//! Writes what was said as Events, repetitions as counts.
//!
//! Guarantees:
//! - what the store cannot write at the moment is tried again for a while (`a_store_that_is_busy_is_asked_again`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_objects::{Actor, FieldValidation, Objects, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::EventDraft;
use super::correlate::{Correlator, PendingEvent};
use crate::engine::Error;
use crate::engine::client::{kind, object_ref};
use crate::engine::clock::rfc3339;

/// Written at the same time, so that the store makes them durable together.
const EVENT_WRITES_AT_ONCE: usize = 64;
/// How often a store that cannot write is asked, and how soon again. What is said meanwhile waits in the channel, as
/// much as fits.
const WRITE_TRIES_MAX: usize = 12;
const WRITE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The task behind a [`super::Recorder`].
pub struct Writer {
    objects: Objects,
    events: Arc<Kind>,
    receiver: mpsc::Receiver<EventDraft>,
    correlator: Correlator,
    made: u64,
}

impl Writer {
    pub(crate) fn new(
        objects: Objects,
        receiver: mpsc::Receiver<EventDraft>,
    ) -> Result<Self, Error> {
        Ok(Self {
            objects,
            events: kind("", "v1", "events")?,
            receiver,
            correlator: Correlator::default(),
            made: 0,
        })
    }

    /// Writes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(EVENT_WRITES_AT_ONCE);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                received = self.receiver.recv_many(&mut batch, EVENT_WRITES_AT_ONCE) => {
                    if received == 0 {
                        return;
                    }
                }
            }
            let tellings = self.correlate(batch.drain(..));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.write_all(tellings) => {}
            }
        }
    }

    async fn write_all(&self, mut tellings: Vec<PendingEvent>) {
        for last in (0..WRITE_TRIES_MAX).rev().map(|left| left == 0) {
            let outcomes = join_all(tellings.iter().map(|one| self.write(one))).await;
            let mut left = Vec::new();
            for (telling, outcome) in tellings.into_iter().zip(outcomes) {
                match outcome {
                    Ok(()) => {}
                    Err(error) if error.code == 503 && !last => left.push(telling),
                    Err(error) => debug!(%error, "an event was not written"),
                }
            }
            if left.is_empty() {
                return;
            }
            tellings = left;
            sleep(WRITE_RETRY_AFTER).await;
        }
    }

    fn correlate(&mut self, batch: impl Iterator<Item = EventDraft>) -> Vec<PendingEvent> {
        let (resource, made) = (self.events.storage().clone(), &mut self.made);
        self.correlator.correlate(batch, |said| {
            // `<object>.<hex>` in the object's namespace, or in `default` for what has none.
            *made += 1;
            let nanos = u64::try_from(said.at.as_nanosecond()).unwrap_or_default();
            let unique = nanos.wrapping_add(*made);
            let namespace =
                if said.key.namespace.is_empty() { "default" } else { &*said.key.namespace };
            let name = format!("{}.{unique:x}", said.key.name);
            Key::new(&resource, &said.key.cluster, namespace, &name)
        })
    }

    async fn write(&self, telling: &PendingEvent) -> Result<(), ApiError> {
        let PendingEvent { event, said, count, new } = telling;
        let (now, how) = (rfc3339(said.at), self.how(said.component));
        if *new {
            let value = event_value(event, said, *count, &now);
            return self
                .objects
                .create(&how, &object_ref(&self.events, event), value)
                .await
                .map(drop);
        }
        let counted = |old: Option<Value>| {
            let Some(mut value) = old else { return Ok(event_value(event, said, *count, &now)) };
            let before = value["count"].as_i64().unwrap_or(1);
            value["count"] = json!(before.saturating_add(i64::from(*count)));
            value["lastTimestamp"] = json!(now);
            // Of those that are combined the latest is told.
            value["message"] = json!(said.message);
            Ok(value)
        };
        self.objects
            .create_or_modify(&how, &object_ref(&self.events, event), counted)
            .await
            .map(drop)
    }

    fn how(&self, component: &'static str) -> WriteOptions {
        let actor = Actor::Controller(component);
        WriteOptions { field_validation: FieldValidation::Ignore, ..WriteOptions::by(actor) }
    }
}

fn event_value(event: &Key, said: &EventDraft, count: u32, now: &str) -> Value {
    let mut involved = json!({
        "kind": said.kind.kind(), "apiVersion": said.kind.api_version(), "name": &*said.key.name,
        "uid": said.uid, "resourceVersion": said.revision.to_string(),
    });
    if !said.key.namespace.is_empty() {
        involved["namespace"] = json!(&*said.key.namespace);
    }
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": &*event.name, "namespace": &*event.namespace},
        "involvedObject": involved, "reason": said.reason, "message": said.message,
        "type": said.severity, "source": {"component": said.component}, "count": count,
        "firstTimestamp": now, "lastTimestamp": now, "reportingComponent": said.component,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use freewheel_hub_objects::clock::SeededRandom;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{CommitError, Committed, Layer, Operation, Scope, Store, Txn};
    use freewheel_link::names::ClusterName;
    use jiff::Timestamp;

    use super::super::Recorder;
    use super::*;
    use crate::testing::clock::SimulatedClock;
    use crate::testing::pod;

    /// With a namespace for what is said.
    async fn objects_over(store: impl Store) -> Objects {
        let clock =
            Arc::new(SimulatedClock::starting_at(Timestamp::from_second(1_800_000_000).unwrap()));
        let objects = Objects::with(Arc::new(store), clock, Arc::new(SeededRandom::new(1)));
        let namespaces = kind("", "v1", "namespaces").unwrap();
        let home = Key::new(namespaces.storage(), &ClusterName::root(), "", "default");
        let home = object_ref(&namespaces, &home);
        let value =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        objects.create(&WriteOptions::default(), &home, value).await.unwrap();
        objects
    }

    fn told(objects: &Objects) -> Vec<Value> {
        let resource = kind("", "v1", "events").unwrap().storage().clone();
        let scope = Scope { resource, cluster: None, namespace: None };
        let snapshot = objects.store().snapshot();
        snapshot.range(&scope, None).map(|stored| stored.object.value().unwrap()).collect()
    }

    /// A store that takes every third Event.
    struct Busy(MemoryStore, AtomicUsize);

    #[async_trait]
    impl Layer for Busy {
        fn below(&self) -> &dyn Store {
            &self.0
        }

        async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
            let is_event = |one: &Operation| one.key().resource.as_str() == "events";
            let busy = txn.operations.iter().any(is_event)
                && !self.1.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
            if busy { Err(CommitError::Busy) } else { self.0.commit(txn).await }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_busy_is_asked_again() {
        let busy = Busy(MemoryStore::with_incarnation(1), AtomicUsize::new(1));
        let objects = objects_over(busy).await;
        let (recorder, said) = Recorder::channel(&objects);
        let (pods, about) = (kind("", "v1", "pods").unwrap(), pod("web").facts().stored);
        for reason in ["First", "Second", "Second", "Third"] {
            recorder.normal(&pods, &about, "test", reason, String::new());
        }
        drop(recorder);
        Writer::new(objects.clone(), said).unwrap().run(CancellationToken::new()).await;
        let told: Vec<_> =
            told(&objects).iter().map(|it| (it["reason"].clone(), it["count"].clone())).collect();
        assert_eq!(json!(told), json!([["First", 1], ["Second", 2], ["Third", 1]]));
    }

    /// The writer had other things to do, as on a machine under load.
    #[tokio::test(start_paused = true)]
    async fn an_event_has_the_time_of_what_it_tells() {
        let objects = objects_over(MemoryStore::with_incarnation(1)).await;
        let (recorder, said) = Recorder::channel(&objects);
        let pods = kind("", "v1", "pods").unwrap();
        let about = pod("web").facts().stored;
        let began = Timestamp::from_second(1_799_999_998).unwrap();
        recorder.normal(&pods, &about, "test", "Second", String::new());
        recorder.normal_at(began, (&pods, &about), "test", "First", String::new());
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(recorder);
        Writer::new(objects.clone(), said).unwrap().run(CancellationToken::new()).await;
        let told: Vec<(String, String)> = told(&objects)
            .iter()
            .map(|event| {
                ["reason", "lastTimestamp"].map(|key| event[key].as_str().unwrap().to_owned())
            })
            .map(|[reason, at]| (reason, at))
            .collect();
        let told: Vec<_> = told.iter().map(|(reason, at)| (&**reason, &**at)).collect();
        // In the order of their names, too, which tells those of one second apart.
        assert_eq!(told, [("First", "2027-01-15T07:59:58Z"), ("Second", "2027-01-15T08:00:00Z")]);
    }
}
