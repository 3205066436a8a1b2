//! Stored objects in the version that they are served in, where somebody has to be asked for that: a webhook.
//!
//! ```text
//! stored ─ in another version than is served ─▶ converter ─▶ the same, with another body ─▶ encoder
//!        └ anything else ─▶ as it is
//! ```
//!
//! Selectors have looked at what is stored, and labels that a webhook makes are shown and not found.
//!
//! Guarantees:
//! - of the watchers of an event one has it converted (`watchers_share_what_was_converted`);
//! - who converts makes nobody hold much more than there was (`a_webhook_makes_no_list_much_larger`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::{Converter, Kind, KindId};
use freewheel_hub_schema::object::{Key, Object};
use freewheel_hub_store::{Revision, Stored};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::timeout;

/// Made one after the other, so that not all of a list are trees of values at a time.
const OBJECTS_AT_ONCE: usize = 64;
/// How long the objects of one answer may take.
const CONVERSION_MAX: Duration = Duration::from_secs(60);
/// How many times as large they may become, and what they may be anyway.
pub(crate) const GROWTH_MAX: usize = 3;
const GROWTH_FREE_BYTES: usize = 1 << 20;
/// Bytes that are kept for watchers to come.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// One object.
pub(crate) async fn one(kind: &Kind, stored: Arc<Stored>) -> Result<Arc<Stored>, ApiError> {
    if kind.converter().is_none() {
        return Ok(stored);
    }
    let converted = all(kind, vec![stored]).await?;
    converted.into_iter().next().ok_or_else(|| ApiError::internal("an object was lost"))
}

/// Those of one answer, in their order.
pub(crate) async fn all(
    kind: &Kind,
    items: Vec<Arc<Stored>>,
) -> Result<Vec<Arc<Stored>>, ApiError> {
    let Some(converter) = kind.converter() else { return Ok(items) };
    let before: usize = items.iter().map(|item| item.object.body.len()).sum();
    let bytes_max = GROWTH_FREE_BYTES + GROWTH_MAX * before;
    let work = async {
        let (mut out, mut bytes) = (Vec::with_capacity(items.len()), 0);
        for part in items.chunks(OBJECTS_AT_ONCE) {
            let converted = part_of(converter, kind.api_version(), part).await?;
            bytes += converted.iter().map(|item| item.object.body.len()).sum::<usize>();
            if bytes_max < bytes {
                return Err(too_large(kind, bytes_max));
            }
            out.extend(converted);
        }
        Ok(out)
    };
    timeout(CONVERSION_MAX, work).await.unwrap_or_else(|_| Err(too_late(kind)))
}

async fn part_of(
    converter: &dyn Converter,
    to: &str,
    part: &[Arc<Stored>],
) -> Result<Vec<Arc<Stored>>, ApiError> {
    let (mut out, mut places, mut values) = (part.to_vec(), Vec::new(), Vec::new());
    for (place, stored) in part.iter().enumerate() {
        let value = stored.object.value()?;
        if value["apiVersion"] != to {
            places.push(place);
            values.push(value);
        }
    }
    if places.is_empty() {
        return Ok(out);
    }
    let converted = converter.convert(to, values).await?;
    for (place, value) in places.into_iter().zip(converted) {
        if let Some(stored) = out.get_mut(place) {
            *stored = Arc::new(with_body(stored, &value)?);
        }
    }
    Ok(out)
}

fn with_body(stored: &Stored, value: &Value) -> Result<Stored, ApiError> {
    let body = serde_json::to_vec(value).map_err(ApiError::internal)?.into();
    let object = Object { header: stored.object.header.clone(), body };
    Ok(Stored {
        key: stored.key.clone(),
        object,
        revision: stored.revision,
        created: stored.created,
    })
}

fn too_large(kind: &Kind, most: usize) -> ApiError {
    let text = format!(
        "conversion webhook for {kind:?} made the objects of this answer larger than {most} bytes, more than {GROWTH_MAX} times \
         what they were: ask for fewer with limit"
    );
    ApiError::new(500, "", text)
}

fn too_late(kind: &Kind) -> ApiError {
    let text = format!(
        "conversion webhook for {kind:?} did not convert the objects of this answer within {} s: ask for fewer with limit",
        CONVERSION_MAX.as_secs()
    );
    ApiError::new(504, "Timeout", text)
}

/// What was converted for watchers lately.
#[derive(Default)]
pub(crate) struct Converted {
    /// Never held while a webhook is asked: watchers of other kinds look here, too.
    kept: Mutex<Kept>,
    /// Of each kind, one watcher at a time has something converted. A turn lasts until what came of it is kept: who waits
    /// for the next one finds it there, and the webhook is asked once.
    turns: Mutex<HashMap<KindId, Weak<tokio::sync::Mutex<()>>>>,
}

type ConvertedKey = (KindId, Key, Revision);

#[derive(Default)]
struct Kept {
    all: HashMap<ConvertedKey, Arc<Stored>>,
    order: VecDeque<ConvertedKey>,
    bytes: usize,
}

impl Kept {
    fn keep(&mut self, place: ConvertedKey, stored: Arc<Stored>) {
        let bytes = stored.object.body.len();
        if self.all.insert(place.clone(), stored).is_some() {
            return;
        }
        self.bytes += bytes;
        self.order.push_back(place);
        while KEPT_BYTES_MAX < self.bytes {
            let Some(oldest) = self.order.pop_front() else { break };
            let gone = self.all.remove(&oldest);
            self.bytes -= gone.map_or(0, |gone| gone.object.body.len());
        }
    }
}

impl Converted {
    /// As [`all`], for one of many who want the same.
    pub(crate) async fn for_watcher(
        &self,
        kind: &Kind,
        items: Vec<Arc<Stored>>,
    ) -> Result<Vec<Arc<Stored>>, ApiError> {
        let turn = self.turn(kind.id());
        let _turn = turn.lock().await;
        let place = |stored: &Stored| (kind.id(), stored.key.clone(), stored.revision);
        let (mut out, mut places, mut missing) = (items, Vec::new(), Vec::new());
        {
            let kept = self.kept.lock();
            for (at, stored) in out.iter_mut().enumerate() {
                match kept.all.get(&place(stored)) {
                    Some(known) => *stored = known.clone(),
                    None => {
                        places.push(at);
                        missing.push(stored.clone());
                    }
                }
            }
        }
        if missing.is_empty() {
            return Ok(out);
        }
        let made = all(kind, missing).await?;
        let mut kept = self.kept.lock();
        for (at, stored) in places.into_iter().zip(made) {
            kept.keep(place(&stored), stored.clone());
            if let Some(slot) = out.get_mut(at) {
                *slot = stored;
            }
        }
        Ok(out)
    }

    fn turn(&self, kind: KindId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        if let Some(turn) = turns.get(&kind).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.retain(|_, turn| turn.strong_count() != 0);
        turns.insert(kind, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use freewheel_hub_schema::gvk::Gvk;
    use freewheel_hub_schema::kind::{Converting, Strategy};
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;
    use serde_json::json;

    use super::*;

    struct Plain;
    impl Strategy for Plain {}

    /// Makes objects so much larger, and counts.
    struct Played(usize, AtomicUsize);

    impl Converter for Played {
        fn convert<'a>(&'a self, to: &'a str, mut objects: Vec<Value>) -> Converting<'a> {
            self.1.fetch_add(objects.len(), Ordering::Relaxed);
            Box::pin(async move {
                tokio::task::yield_now().await;
                for object in &mut objects {
                    object["apiVersion"] = json!(to);
                    object["more"] = json!("x".repeat(self.0));
                }
                Ok(objects)
            })
        }
    }

    fn kind(grows: usize) -> (Kind, Arc<Played>) {
        let played = Arc::new(Played(grows, AtomicUsize::new(0)));
        let kind = Kind::new(Gvk::new("e.com", "v2", "Widget"), "widgets", Plain);
        (kind.converted_by(played.clone()), played)
    }

    fn items(count: usize) -> Vec<Arc<Stored>> {
        let stored = |number: usize| {
            let name = format!("w{number}");
            let body =
                json!({"apiVersion": "e.com/v1", "kind": "Widget", "metadata": {"name": name}});
            let key =
                Key::new(&Resource::new("e.com", "widgets"), &ClusterName::root(), "n", &name);
            let object = Object::from_value(body, BTreeMap::new()).unwrap();
            Arc::new(Stored { key, object, revision: 7, created: 7 })
        };
        (0..count).map(stored).collect()
    }

    #[tokio::test]
    async fn watchers_share_what_was_converted() {
        let (kind, played) = kind(1);
        let converted = Converted::default();
        let watchers = (0..20).map(|_| converted.for_watcher(&kind, items(3)));
        for outcome in futures::future::join_all(watchers).await {
            let bodies: Vec<Value> =
                outcome.unwrap().iter().map(|stored| stored.object.value().unwrap()).collect();
            assert_eq!(bodies.len(), 3);
            assert!(bodies.iter().all(|body| body["apiVersion"] == "e.com/v2"));
            assert_eq!(bodies[2]["metadata"]["name"], "w2");
        }
        assert_eq!(played.1.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_webhook_makes_no_list_much_larger() {
        let (grows, _) = kind(600 << 10);
        let error = all(&grows, items(2)).await.unwrap_err();
        assert_eq!(error.code, 500);
        assert!(error.message.contains("larger than"), "{}", error.message);
        let (small, _) = kind(10);
        assert_eq!(all(&small, items(200)).await.unwrap().len(), 200);
        assert_eq!(one(&small, items(1).remove(0)).await.unwrap().revision, 7);
    }
}
