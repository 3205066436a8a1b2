//! Writes what was said as Events, repetitions as counts.

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Key;
use freewheel_hub_store::objects::{Actor, FieldValidation, How, Objects};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Said;
use super::correlate::{Correlator, Telling};
use crate::engine::clock::rfc3339;
use crate::engine::desk::{kind, place};
use crate::engine::{Clock, Error};

/// Written at the same time, so that the store makes them durable together.
const BATCH: usize = 64;

/// The task behind a [`super::Recorder`].
pub struct Writer {
    objects: Objects,
    events: &'static Kind,
    clock: Clock,
    receiver: mpsc::Receiver<Said>,
    correlator: Correlator,
    made: u64,
}

impl Writer {
    pub(crate) fn new(objects: Objects, receiver: mpsc::Receiver<Said>) -> Result<Self, Error> {
        let clock = Clock::new(objects.clock().clone());
        Ok(Self {
            objects,
            events: kind("", "v1", "events")?,
            clock,
            receiver,
            correlator: Correlator::default(),
            made: 0,
        })
    }

    /// Writes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                received = self.receiver.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                }
            }
            let writes = self.sort_out(batch.drain(..));
            let outcomes = join_all(writes.into_iter().map(|w| self.write(w))).await;
            for error in outcomes.into_iter().filter_map(Result::err) {
                debug!(%error, "an event was not written");
            }
        }
    }

    fn sort_out(&mut self, batch: impl Iterator<Item = Said>) -> Vec<Telling> {
        let (resource, clock, made) = (self.events.storage(), &self.clock, &mut self.made);
        self.correlator.sort_out(batch, |said| {
            // `<object>.<hex>` in the object's namespace, or in `default` for what has none.
            *made += 1;
            let nanos = u64::try_from(clock.now().as_nanosecond()).unwrap_or_default();
            let unique = nanos.wrapping_add(*made);
            let namespace =
                if said.key.namespace.is_empty() { "default" } else { &*said.key.namespace };
            let name = format!("{}.{unique:x}", said.key.name);
            Key::new(&resource, &said.key.cluster, namespace, &name)
        })
    }

    async fn write(&self, telling: Telling) -> Result<(), ApiError> {
        let now = rfc3339(self.clock.now());
        let Telling { event, said, count, new } = telling;
        if new {
            return self.create(&event, &said, count, &now).await;
        }
        let how = self.how(said.component);
        let counted = self
            .objects
            .modify(&how, &place(self.events, &event), None, |mut value| {
                let before = value["count"].as_i64().unwrap_or(1);
                value["count"] = json!(before.saturating_add(i64::from(count)));
                value["lastTimestamp"] = json!(now);
                // Of those that are combined the latest is told.
                value["message"] = json!(said.message);
                Ok(value)
            })
            .await;
        match counted {
            Err(gone) if gone.code == 404 => self.create(&event, &said, count, &now).await,
            other => other.map(|_| ()),
        }
    }

    fn how(&self, component: &str) -> How {
        let user = format!("system:controller:{component}");
        let actor = Actor { user, field_manager: "freewheel-hub".to_owned() };
        How { actor, field_validation: FieldValidation::Ignore, ..How::default() }
    }

    async fn create(
        &self,
        event: &Key,
        said: &Said,
        count: u32,
        now: &str,
    ) -> Result<(), ApiError> {
        let place = place(self.events, event);
        let value = event_value(event, said, count, now);
        self.objects.create(&self.how(said.component), &place, value).await.map(|_| ())
    }
}

fn event_value(event: &Key, said: &Said, count: u32, now: &str) -> Value {
    let mut involved = json!({
        "kind": said.kind.kind, "apiVersion": said.kind.api_version(), "name": &*said.key.name,
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
