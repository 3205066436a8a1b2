//! Writes what was said as Events, repetitions as counts.

use std::collections::HashMap;
use std::time::Duration;

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Key;
use freewheel_hub_store::objects::{Actor, FieldValidation, How, Objects};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Said;
use crate::engine::clock::rfc3339;
use crate::engine::desk::{kind, place};
use crate::engine::{Clock, Error};

/// Events about one object from one component before it has to wait (client-go's spam filter).
const BURST: u32 = 25;
/// One more after so long.
const REFILL: Duration = Duration::from_secs(300);
/// Different events, and objects talked about, that are remembered.
const REMEMBERED: usize = 4096;
/// Written at the same time, so that the store makes them durable together.
const BATCH: usize = 64;
/// A repetition after so long is news again.
const FRESH: Duration = Duration::from_secs(600);

/// The task behind a [`super::Recorder`].
pub struct Writer {
    objects: Objects,
    events: &'static Kind,
    clock: Clock,
    receiver: mpsc::Receiver<Said>,
    seen: HashMap<Same, Repeated>,
    buckets: HashMap<(&'static str, String), Bucket>,
    made: u64,
}

/// What makes two events the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Same {
    component: &'static str,
    uid: String,
    key: Key,
    reason: &'static str,
    severity: &'static str,
    message: String,
}

#[derive(Clone, Debug)]
struct Repeated {
    event: Key,
    last: Instant,
}

struct Bucket {
    left: u32,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && self.filled + REFILL <= now {
            self.left += 1;
            self.filled += REFILL;
        }
        if self.left == BURST {
            self.filled = now;
        }
        self.left.checked_sub(1).inspect(|left| self.left = *left).is_some()
    }
}

enum Write {
    Create { event: Key, said: Said, count: u32 },
    Count { event: Key, said: Said, count: u32 },
}

impl Writer {
    pub(crate) fn new(objects: Objects, receiver: mpsc::Receiver<Said>) -> Result<Self, Error> {
        let clock = Clock::new(objects.clock().clone());
        Ok(Self {
            objects,
            events: kind("", "v1", "events")?,
            clock,
            receiver,
            seen: HashMap::new(),
            buckets: HashMap::new(),
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

    /// What of a batch is new, what repeats, what is too much.
    fn sort_out(&mut self, batch: impl Iterator<Item = Said>) -> Vec<Write> {
        let now = Instant::now();
        let mut counts: Vec<(Same, Said, u32)> = Vec::new();
        for said in batch {
            let same = Same {
                component: said.component,
                uid: said.uid.clone(),
                key: said.key.clone(),
                reason: said.reason,
                severity: said.severity,
                message: said.message.clone(),
            };
            match counts.iter_mut().find(|(known, ..)| *known == same) {
                Some((_, _, count)) => *count += 1,
                None => counts.push((same, said, 1)),
            }
        }
        if self.seen.len() > REMEMBERED {
            self.seen.clear();
        }
        if self.buckets.len() > REMEMBERED {
            self.buckets.clear();
        }
        let mut writes = Vec::new();
        for (same, said, count) in counts {
            let who = (said.component, format!("{}/{}", said.uid, said.key.name));
            let bucket = self.buckets.entry(who).or_insert(Bucket { left: BURST, filled: now });
            if !bucket.take(now) {
                continue;
            }
            let fresh = self.seen.get(&same).filter(|r| now < r.last + FRESH).cloned();
            let write = match fresh {
                Some(known) => Write::Count { event: known.event, said, count },
                None => Write::Create { event: self.name(&said), said, count },
            };
            let (Write::Create { event, .. } | Write::Count { event, .. }) = &write;
            self.seen.insert(same, Repeated { event: event.clone(), last: now });
            writes.push(write);
        }
        writes
    }

    /// `<object>.<hex>` in the object's namespace, or in `default` for what has none.
    fn name(&mut self, said: &Said) -> Key {
        self.made += 1;
        let nanos = u64::try_from(self.clock.now().as_nanosecond()).unwrap_or_default();
        let unique = nanos.wrapping_add(self.made);
        let namespace =
            if said.key.namespace.is_empty() { "default" } else { &*said.key.namespace };
        let name = format!("{}.{unique:x}", said.key.name);
        Key::new(&self.events.storage(), &said.key.cluster, namespace, &name)
    }

    async fn write(&self, write: Write) -> Result<(), ApiError> {
        let now = rfc3339(self.clock.now());
        match write {
            Write::Create { event, said, count } => self.create(&event, &said, count, &now).await,
            Write::Count { event, said, count } => {
                let how = self.how(said.component);
                let counted = self
                    .objects
                    .modify(&how, &place(self.events, &event), None, |mut value| {
                        let before = value["count"].as_i64().unwrap_or(1);
                        value["count"] = json!(before.saturating_add(i64::from(count)));
                        value["lastTimestamp"] = json!(now);
                        Ok(value)
                    })
                    .await;
                match counted {
                    Err(gone) if gone.code == 404 => self.create(&event, &said, count, &now).await,
                    other => other.map(|_| ()),
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_chatterbox_has_to_wait() {
        let mut bucket = Bucket { left: BURST, filled: Instant::now() };
        let passed = (0..100).filter(|_| bucket.take(Instant::now())).count();
        assert_eq!(passed, 25);
        tokio::time::advance(REFILL).await;
        assert!(bucket.take(Instant::now()));
        assert!(!bucket.take(Instant::now()));
    }
}
