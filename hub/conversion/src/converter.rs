//! Asks webhooks to convert: some objects at a time, so many calls at a time, for so long.
//!
//! Guarantees:
//! - what is in the version asked for is nobody's to convert, and what is asked is bounded
//!   (`many_objects_are_asked_about_in_batches`);
//! - a webhook that does not answer is given up, and harms its own definition alone, where it is the only one of its
//!   cluster (`a_webhook_that_hangs_is_given_up_and_harms_no_other`, `webhooks_of_some_clusters_hold_up_no_other`);
//! - that there was no call for it is none of its failures (`who_was_not_asked_is_not_silent`);
//! - one of a spoke's cluster that has just not answered holds up nobody for a while, nor those who waited for it
//!   meanwhile (`a_tenants_webhook_that_hangs_is_left_alone_for_a_while`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_admission::{
    CALL_WAIT, CallError, CallPermits, Caller, ClusterCalls, OWN_CALLS_OF_ONE_MAX,
};
use freewheel_hub_objects::Conversions;
use freewheel_hub_schema::kind::{Converter, Converting};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::error::ConversionError;
use crate::review::{Fault, Review};
use crate::webhook::Webhook;

/// Calls at a time of one cluster's webhooks, and of one definition's.
const CLUSTER_CALLS_MAX: usize = 16;
const DEFINITION_CALLS_MAX: usize = 8;
/// How long one may take, as at kube-apiserver, and one of a spoke's cluster, for which the hub's own controllers may wait.
const CONVERSION_TIMEOUT: Duration = Duration::from_secs(30);
const TENANT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one of a spoke's cluster is left alone that has not answered.
const TENANT_PAUSE: Duration = Duration::from_secs(10);
/// Most that is asked about at once: an answer may be several times as long, and is bounded as well.
const BATCH_OBJECTS_MAX: usize = 64;
const BATCH_BYTES: usize = 512 << 10;

/// All webhooks that convert.
pub struct Webhooks {
    caller: Option<Arc<dyn Caller>>,
    permits: CallPermits,
}

impl Webhooks {
    /// Over who calls them, where somebody does.
    #[must_use]
    pub fn over(caller: Option<Arc<dyn Caller>>) -> Self {
        Self { caller, permits: CallPermits::of_clusters_with(CLUSTER_CALLS_MAX) }
    }
}

impl Conversions for Webhooks {
    fn of(&self, cluster: &ClusterName, definition: &Value) -> Option<Arc<dyn Converter>> {
        let root = (CONVERSION_TIMEOUT, DEFINITION_CALLS_MAX);
        let (limit, own) =
            if cluster.is_root() { root } else { (TENANT_TIMEOUT, OWN_CALLS_OF_ONE_MAX) };
        let webhook = Webhook::of(cluster, definition, limit)?;
        Some(Arc::new(WebhookConverter {
            webhook,
            caller: self.caller.clone(),
            limit,
            turns: Semaphore::new(DEFINITION_CALLS_MAX),
            own: Arc::new(Semaphore::new(own)),
            permits: self.permits.of(cluster),
            silent_since: Mutex::default(),
        }))
    }
}

/// That of one definition.
struct WebhookConverter {
    webhook: Webhook,
    caller: Option<Arc<dyn Caller>>,
    limit: Duration,
    turns: Semaphore,
    /// Of the calls that its cluster has of its own, those that it may have.
    own: Arc<Semaphore>,
    permits: Arc<ClusterCalls>,
    /// When it has not answered.
    silent_since: Mutex<Option<Instant>>,
}

/// Objects that are asked about together, with their places among all.
#[derive(Default)]
struct Batch {
    places: Vec<usize>,
    objects: Vec<Value>,
    texts: Vec<String>,
    bytes: usize,
}

/// Those that are in another version, some together.
fn batches(to: &str, objects: &mut [Value]) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    for (place, object) in objects.iter_mut().enumerate() {
        if object["apiVersion"] == to {
            continue;
        }
        let text = object.to_string();
        let fits = |batch: &Batch| {
            batch.places.len() < BATCH_OBJECTS_MAX && batch.bytes + text.len() <= BATCH_BYTES
        };
        if !all.last().is_some_and(fits) {
            all.push(Batch::default());
        }
        let Some(batch) = all.last_mut() else { continue };
        batch.places.push(place);
        batch.bytes += text.len();
        batch.objects.push(object.take());
        batch.texts.push(text);
    }
    all
}

impl Converter for WebhookConverter {
    fn convert<'a>(&'a self, to: &'a str, mut objects: Vec<Value>) -> Converting<'a> {
        Box::pin(async move {
            for batch in batches(to, &mut objects) {
                let Batch { places, objects: sent, texts, .. } = batch;
                let kind = self.name_of(&sent);
                let converted = self.ask(kind, to, sent, &texts).await?;
                for (place, object) in places.into_iter().zip(converted) {
                    if let Some(slot) = objects.get_mut(place) {
                        *slot = object;
                    }
                }
            }
            Ok(objects)
        })
    }
}

impl WebhookConverter {
    /// As Kubernetes prints what was to be converted.
    fn name_of(&self, sent: &[Value]) -> String {
        let version = sent.first().and_then(|object| object["apiVersion"].as_str());
        format!("{}, Kind={}", version.unwrap_or_default(), self.webhook.kind)
    }

    async fn ask(
        &self,
        kind: String,
        to: &str,
        sent: Vec<Value>,
        texts: &[String],
    ) -> Result<Vec<Value>, ConversionError> {
        let unusable =
            |why: &str| ConversionError::Unusable { kind: kind.clone(), why: why.to_owned() };
        let version = self
            .webhook
            .version
            .ok_or_else(|| unusable("no supported conversion review versions (v1, v1beta1)"))?;
        let caller = self.caller.as_ref().ok_or_else(|| unusable("this hub calls no webhooks"))?;
        let address = &self.webhook.address;
        let url = address.url.clone();
        let rests = || address.of_tenant && self.is_resting();
        if rests() {
            return Err(ConversionError::Resting { kind });
        }
        let review = Review::of(version, to, sent);
        // As many of its own calls go on as may: they have as long to be answered.
        let Ok(_turn) = timeout(self.limit, self.turns.acquire()).await else {
            return Err(ConversionError::TimedOut { kind, url });
        };
        // Those before may just have found out that it does not answer.
        if rests() {
            return Err(ConversionError::Resting { kind });
        }
        let Some(_permit) = self.permits.permit_of(&self.own, CALL_WAIT).await else {
            return Err(ConversionError::Busy { kind });
        };
        if rests() {
            return Err(ConversionError::Resting { kind });
        }
        let call = caller.call(address, review.body(texts));
        let Ok(answer) = timeout(self.limit, call).await else {
            *self.silent_since.lock() = Some(Instant::now());
            return Err(ConversionError::TimedOut { kind, url });
        };
        let answer = answer.map_err(|error| {
            let why = match error {
                CallError::Unreachable(why) => format!("Post {url:?}: {why}"),
                CallError::Answered(answer) => answer.to_string(),
            };
            ConversionError::Failed { kind: kind.clone(), why }
        })?;
        review.read(&answer).map_err(|fault| match fault {
            Fault::Failed(why) => ConversionError::Failed { kind, why },
            Fault::Wrong(why) => ConversionError::Wrong { kind, why },
        })
    }

    fn is_resting(&self) -> bool {
        self.silent_since.lock().is_some_and(|since| since.elapsed() < TENANT_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use freewheel_hub_admission::Address;
    use serde_json::json;

    use super::*;

    /// Converts all but what is called `hang`, and remembers how many it was asked about.
    #[derive(Default)]
    struct Played(Mutex<Vec<usize>>);

    #[async_trait]
    impl Caller for Played {
        async fn call(&self, address: &Address, review: Vec<u8>) -> Result<Vec<u8>, CallError> {
            let review: Value = serde_json::from_slice(&review).unwrap();
            let request = &review["request"];
            if address.url.starts_with("https://hang") {
                std::future::pending::<()>().await;
            }
            let mut objects = request["objects"].as_array().unwrap().clone();
            self.0.lock().push(objects.len());
            for object in &mut objects {
                object["apiVersion"] = request["desiredAPIVersion"].clone();
            }
            let answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
                "response": {"uid": request["uid"], "convertedObjects": objects,
                    "result": {"status": "Success"}}});
            Ok(answer.to_string().into_bytes())
        }
    }

    fn converter(all: &Webhooks, cluster: &str, host: &str) -> Arc<dyn Converter> {
        let definition = json!({"spec": {"names": {"kind": "Widget"}, "conversion": {
            "strategy": "Webhook", "webhook": {"clientConfig": {"url": format!("https://{host}")},
                "conversionReviewVersions": ["v1"]}}}});
        all.of(&ClusterName::try_from(cluster).unwrap(), &definition).unwrap()
    }

    fn widgets(count: usize, filler: usize) -> Vec<Value> {
        let widget = |number: usize| {
            json!({"apiVersion": "e.com/v1", "kind": "Widget",
                "metadata": {"name": format!("w{number}")}, "spec": "x".repeat(filler)})
        };
        (0..count).map(widget).collect()
    }

    #[tokio::test]
    async fn many_objects_are_asked_about_in_batches() {
        let played = Arc::new(Played::default());
        let all = Webhooks::over(Some(played.clone()));
        let converter = converter(&all, "root", "good");
        let mut objects = widgets(130, 1);
        objects[5]["apiVersion"] = json!("e.com/v2");
        let converted = converter.convert("e.com/v2", objects).await.unwrap();
        assert_eq!(*played.0.lock(), [64, 64, 1]);
        for (number, object) in converted.iter().enumerate() {
            assert_eq!(object["apiVersion"], "e.com/v2");
            assert_eq!(object["metadata"]["name"], format!("w{number}"));
        }
        played.0.lock().clear();
        converter.convert("e.com/v2", widgets(3, 300 << 10)).await.unwrap();
        assert_eq!(*played.0.lock(), [1, 1, 1], "large ones go alone");
        played.0.lock().clear();
        converter.convert("e.com/v1", widgets(3, 1)).await.unwrap();
        assert!(played.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_that_hangs_is_given_up_and_harms_no_other() {
        let all = Webhooks::over(Some(Arc::new(Played::default())));
        let (hangs, good) = (converter(&all, "root", "hang"), converter(&all, "root", "good"));
        let mut stuck = tokio::task::JoinSet::new();
        for _ in 0..128 {
            let hangs = hangs.clone();
            stuck.spawn(async move { hangs.convert("e.com/v2", widgets(1, 1)).await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        good.convert("e.com/v2", widgets(1, 1)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1));
        while let Some(outcome) = stuck.join_next().await {
            let error = outcome.unwrap().unwrap_err();
            assert_eq!(error.code, 500);
            assert_eq!(
                error.message,
                "conversion webhook for e.com/v1, Kind=Widget failed: Post \"https://hang/?timeout=30s\": context deadline exceeded"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenants_webhook_that_hangs_is_left_alone_for_a_while() {
        let all = Webhooks::over(Some(Arc::new(Played::default())));
        let hangs = converter(&all, "pi-7", "hang");
        let began = Instant::now();
        hangs.convert("e.com/v2", widgets(1, 1)).await.unwrap_err();
        assert_eq!(began.elapsed(), TENANT_TIMEOUT);
        let again = hangs.convert("e.com/v2", widgets(1, 1)).await.unwrap_err();
        assert_eq!(began.elapsed(), TENANT_TIMEOUT);
        assert!(again.message.ends_with("it is asked again in some seconds"), "{}", again.message);
        tokio::time::sleep(TENANT_PAUSE).await;
        let later = hangs.convert("e.com/v2", widgets(1, 1)).await.unwrap_err();
        assert!(later.message.ends_with("context deadline exceeded"), "{}", later.message);
        tokio::time::sleep(TENANT_PAUSE).await;
        let (began, mut all) = (Instant::now(), tokio::task::JoinSet::new());
        for _ in 0..DEFINITION_CALLS_MAX {
            let hangs = hangs.clone();
            all.spawn(async move { hangs.convert("e.com/v2", widgets(1, 1)).await });
        }
        tokio::time::sleep(TENANT_TIMEOUT / 2).await;
        let waited = hangs.convert("e.com/v2", widgets(1, 1)).await.unwrap_err();
        assert_eq!(began.elapsed(), TENANT_TIMEOUT, "{}", waited.message);
    }

    #[tokio::test(start_paused = true)]
    async fn webhooks_of_some_clusters_hold_up_no_other() {
        let all = Webhooks::over(Some(Arc::new(Played::default())));
        let mut stuck = tokio::task::JoinSet::new();
        for cluster in 0..10 {
            for _ in 0..2 {
                let hangs = converter(&all, &format!("pi-{cluster}"), "hang");
                for _ in 0..DEFINITION_CALLS_MAX {
                    let hangs = hangs.clone();
                    stuck.spawn(async move { hangs.convert("e.com/v2", widgets(1, 1)).await });
                }
            }
        }
        let own = converter(&all, "pi-99", "hang");
        for _ in 0..DEFINITION_CALLS_MAX {
            let hangs = own.clone();
            stuck.spawn(async move { hangs.convert("e.com/v2", widgets(1, 1)).await });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (good, began) = (converter(&all, "pi-99", "good"), Instant::now());
        good.convert("e.com/v2", widgets(1, 1)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        // Who waited for a call of one that is silent by then does not ask it again.
        while let Some(outcome) = stuck.join_next().await {
            outcome.unwrap().unwrap_err();
        }
        assert!(began.elapsed() <= TENANT_TIMEOUT, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_not_asked_is_not_silent() {
        let all = Webhooks::over(Some(Arc::new(Played::default())));
        let (good, began) = (converter(&all, "pi-7", "good"), Instant::now());
        let calls = all.permits.of(&ClusterName::try_from("pi-7").unwrap());
        let mut held = Vec::new();
        while let Some(permit) = calls.permit(Duration::ZERO).await {
            held.push(permit);
        }
        let error = good.convert("e.com/v2", widgets(1, 1)).await.unwrap_err();
        assert_eq!((error.code, began.elapsed()), (503, CALL_WAIT), "{}", error.message);
        drop(held);
        good.convert("e.com/v2", widgets(1, 1)).await.unwrap();
    }

    #[tokio::test]
    async fn who_calls_no_webhooks_says_so() {
        let converter = converter(&Webhooks::over(None), "root", "good");
        let error = converter.convert("e.com/v2", widgets(1, 1)).await.unwrap_err();
        assert!(error.message.ends_with("this hub calls no webhooks"), "{}", error.message);
    }
}
