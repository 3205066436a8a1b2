//! Tokens of service accounts for pods: signed when a pod is planned, and anew before they end, as kubelet has it.
//!
//! ```text
//! a look asks ─▶ in the cache? ─yes─▶ the record
//!                └──no, or due──▶ signed ─▶ the cache ─▶ due at four fifths of its life, each pod's a little earlier
//! token_renewal: due ─▶ noted at the session's signal ─▶ a look asks
//! ```
//!
//! The cache outlives sessions: a device that comes back is sent another token when it is due, and no other time.
//!
//! Guarantees:
//! - a token is signed anew before it ends, while the session is there, and at once when a device comes back late
//!   (`a_token_is_another_one_at_four_fifths_of_its_life`);
//! - tokens of many pods do not end in the same second (`tokens_of_many_pods_are_not_due_at_once`);
//! - what no pod asks for any more is dropped (`what_no_pod_asks_for_is_dropped`).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use freewheel_hub_plan::TokensAsked;
use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Record, RecordKey, TokenKey};
use parking_lot::Mutex;
use tracing::debug;

use crate::deleted_clusters::DeletedClusters;

/// A token is renewed after a day at the latest, as kubelet has it.
pub(crate) const LIFE_MAX: u64 = 86_400;
/// What is due so soon is signed along with what is due now.
const TOGETHER_SECONDS: i64 = 60;
/// When it is tried again to sign a token, at first and at last.
const RETRY_SECONDS: (i64, i64) = (1, 60);

/// Who signs tokens of service accounts.
#[async_trait]
pub trait PodTokens: Send + Sync {
    /// One of the tokens that a pod asks for. Does not wait for anything.
    ///
    /// # Errors
    /// When the account is not there, or no key is yet.
    fn sign(&self, asked: &TokensAsked, which: &TokenKey) -> Result<String, ApiError>;

    /// Sees to it that there is a key that signs for this cluster.
    ///
    /// # Errors
    /// When none can be written.
    async fn prepare(&self, cluster: &ClusterName) -> Result<(), ApiError>;
}

/// The tokens of one pod.
struct CachedTokens {
    /// None: they could not be signed yet.
    record: Option<Record>,
    /// In Unix seconds.
    due: i64,
    /// How often in a row they could not be signed.
    failed: u32,
    /// A look was asked to ask for them.
    noted: bool,
}

/// Tokens of the pods of all spokes, by the UID of their ManagedCluster.
#[derive(Default)]
pub(crate) struct TokenCache {
    signer: OnceLock<Arc<dyn PodTokens>>,
    spokes: Mutex<BTreeMap<String, BTreeMap<RecordKey, CachedTokens>>>,
}

impl TokenCache {
    /// Who signs is told once.
    pub(crate) fn signed_by(&self, signer: Arc<dyn PodTokens>) {
        // Who tells twice means the same.
        let _ = self.signer.set(signer);
    }

    /// The spokes with tokens, for who forgets them.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.spokes.lock());
    }

    /// Who signs, once that is told.
    pub(crate) fn signer(&self) -> Option<&Arc<dyn PodTokens>> {
        self.signer.get()
    }

    fn get(&self, spoke: &str, now: i64, asked: &TokensAsked) -> Option<Record> {
        let signer = self.signer.get()?;
        let key = asked.key();
        let before = {
            let mut spokes = self.spokes.lock();
            let cache = spokes.entry(spoke.to_owned()).or_default();
            match cache.remove(&key) {
                Some(cached) if now < cached.due && !cached.noted => {
                    let record = cached.record.clone();
                    cache.insert(key, cached);
                    return record;
                }
                before => before,
            }
        };
        // A session looks at one thing after the other, and others do not wait for its signatures.
        let cached = sign(&**signer, now, asked, before);
        let record = cached.record.clone();
        self.spokes.lock().entry(spoke.to_owned()).or_default().insert(key, cached);
        record
    }

    /// Drops what no pod of the spoke asks for, where there is such.
    pub(crate) fn retain(&self, spoke: &str, asked: &BTreeMap<RecordKey, TokensAsked>) {
        let mut spokes = self.spokes.lock();
        let Some(cache) = spokes.get_mut(spoke) else { return };
        if asked.len() < cache.len() {
            cache.retain(|key, _| asked.contains_key(key));
        }
        if cache.is_empty() {
            spokes.remove(spoke);
        }
    }

    /// What is due, each told once until somebody asks for it; and clusters where something could not be signed.
    pub(crate) fn take_due(&self, spoke: &str, now: i64) -> (Vec<RecordKey>, Vec<ClusterName>) {
        let mut spokes = self.spokes.lock();
        let cache = spokes.get_mut(spoke).into_iter().flatten();
        let mut due: Vec<_> = cache.filter(|(_, cached)| !cached.noted).collect();
        if due.iter().all(|(_, cached)| now < cached.due) {
            return Default::default();
        }
        due.retain(|(_, cached)| cached.due <= now.saturating_add(TOGETHER_SECONDS));
        let mut stuck: Vec<ClusterName> = Vec::new();
        for (key, cached) in &mut due {
            (cached.due, cached.noted) = (cached.due.min(now), true);
            if 0 < cached.failed && !stuck.contains(&key.realm) {
                stuck.push(key.realm.clone());
            }
        }
        (due.into_iter().map(|(key, _)| key.clone()).collect(), stuck)
    }

    /// When something is due next, in Unix seconds.
    pub(crate) fn next_due(&self, spoke: &str) -> Option<i64> {
        let spokes = self.spokes.lock();
        let cache = spokes.get(spoke)?.values();
        cache.filter(|cached| !cached.noted).map(|cached| cached.due).min()
    }
}

/// The tokens of one spoke's pods, for a look.
pub(crate) struct SpokeTokens<'a> {
    pub(crate) cache: &'a TokenCache,
    /// UID of its ManagedCluster.
    pub(crate) spoke: &'a str,
    /// In Unix seconds.
    pub(crate) now: i64,
}

impl SpokeTokens<'_> {
    pub(crate) fn get(&self, asked: &TokensAsked) -> Option<Record> {
        self.cache.get(self.spoke, self.now, asked)
    }
}

/// Signs a pod's tokens. What cannot be signed leaves those that there are.
fn sign(
    signer: &dyn PodTokens,
    now: i64,
    asked: &TokensAsked,
    before: Option<CachedTokens>,
) -> CachedTokens {
    let signed = asked.tokens.iter().map(|which| signer.sign(asked, which));
    let record = signed.collect::<Result<Vec<_>, ApiError>>().map_err(|error| error.to_string());
    match record.and_then(|texts| asked.record(&texts).map_err(|error| error.to_string())) {
        Ok(record) => {
            CachedTokens { record: Some(record), due: now + lasts(asked), failed: 0, noted: false }
        }
        Err(error) => {
            debug!(cluster = %asked.realm, pod = asked.uid, error, "a pod gets no token yet");
            let (record, failed) = before.map_or((None, 0), |was| (was.record, was.failed));
            let (first, last) = RETRY_SECONDS;
            // At first there may be no key yet, which is made at once.
            let wait = failed.checked_sub(1).map_or(0, |n| (first << n.min(16)).min(last));
            CachedTokens { record, due: now + wait, failed: failed.saturating_add(1), noted: false }
        }
    }
}

/// How long a pod's tokens are left alone: four fifths of the shortest life, less up to a tenth by whose they are.
fn lasts(asked: &TokensAsked) -> i64 {
    let life = asked.tokens.iter().map(|which| which.seconds).min().unwrap_or(LIFE_MAX);
    let life = life.min(LIFE_MAX);
    let mut hasher = DefaultHasher::new();
    asked.uid.hash(&mut hasher);
    let early = hasher.finish() % (life / 10).max(1);
    i64::try_from((life * 4 / 5).saturating_sub(early)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use freewheel_link::plan::ConfigV1;

    use super::*;

    /// Signs once it is ready: which, and how many it has signed.
    #[derive(Default)]
    struct Numbers(Mutex<(bool, u32)>);

    #[async_trait]
    impl PodTokens for Numbers {
        fn sign(&self, _: &TokensAsked, which: &TokenKey) -> Result<String, ApiError> {
            let (ready, signed) = &mut *self.0.lock();
            if !*ready {
                return Err(ApiError::internal("no key"));
            }
            *signed += 1;
            Ok(format!("{which} {signed}"))
        }

        async fn prepare(&self, _: &ClusterName) -> Result<(), ApiError> {
            self.0.lock().0 = true;
            Ok(())
        }
    }

    fn asked(uid: &str) -> TokensAsked {
        TokensAsked {
            realm: ClusterName::root(),
            namespace: "default".into(),
            account: "default".into(),
            pod: "p".into(),
            uid: uid.into(),
            node: "pi-7".into(),
            tokens: vec![TokenKey { seconds: 3_607, audience: String::new() }],
        }
    }

    fn cache(ready: bool) -> TokenCache {
        let cache = TokenCache::default();
        cache.signed_by(Arc::new(Numbers(Mutex::new((ready, 0)))));
        cache
    }

    fn shown(record: &Record) -> String {
        let body: ConfigV1 = record.body().unwrap();
        String::from_utf8(body.data[0].1.clone()).unwrap()
    }

    #[test]
    fn a_token_is_another_one_at_four_fifths_of_its_life() {
        let (cache, pod) = (cache(true), asked("a"));
        let at = |now| shown(&cache.get("spoke", now, &pod).unwrap());
        assert_eq!(at(0), "3607/ 1");
        let due = cache.next_due("spoke").unwrap();
        assert!((2_525..=2_885).contains(&due), "{due}");
        assert_eq!(at(due - 1), "3607/ 1");
        assert_eq!(cache.take_due("spoke", due - 1).0, []);
        assert_eq!(cache.take_due("spoke", due).0, [pod.key()]);
        assert_eq!(cache.take_due("spoke", due + 9).0, [], "it is told once");
        assert_eq!(at(due), "3607/ 2");
        assert_eq!(at(9_000), "3607/ 3", "a device was away for long");
    }

    #[test]
    fn tokens_of_many_pods_are_not_due_at_once() {
        let due: std::collections::BTreeSet<i64> =
            (0..1_000).map(|pod| lasts(&asked(&pod.to_string()))).collect();
        assert!(250 < due.len(), "{}", due.len());
    }

    #[test]
    fn what_no_pod_asks_for_is_dropped() {
        let cache = cache(true);
        let [a, b] = ["a", "b"].map(asked);
        for pod in [&a, &b] {
            assert!(cache.get("spoke", 0, pod).is_some());
        }
        let left = BTreeMap::from([(b.key(), b.clone())]);
        cache.retain("spoke", &left);
        assert_eq!(cache.spokes.lock()["spoke"].keys().collect::<Vec<_>>(), [&b.key()]);
        cache.retain("spoke", &BTreeMap::new());
        assert!(cache.spokes.lock().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_signed_is_tried_again() {
        let (cache, pod) = (cache(false), asked("a"));
        assert_eq!(cache.get("spoke", 0, &pod), None);
        assert_eq!(cache.next_due("spoke"), Some(0));
        for (now, next) in [(0, 1), (1, 3), (3, 7)] {
            let due = (vec![pod.key()], vec![ClusterName::root()]);
            assert_eq!(cache.take_due("spoke", now), due);
            assert_eq!(cache.get("spoke", now, &pod), None);
            assert_eq!(cache.next_due("spoke"), Some(next), "it waits longer each time");
        }
        cache.signer.get().unwrap().prepare(&pod.realm).await.unwrap();
        assert!(cache.get("spoke", 7, &pod).is_some());
    }
}
