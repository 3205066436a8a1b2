//! Tokens of service accounts for pods: signed when a pod is planned, and anew before they end, as kubelet has it.
//!
//! ```text
//! a look asks ─▶ on the shelf? ─yes─▶ the record
//!                └──no, or due──▶ signed ─▶ the shelf ─▶ due at four fifths of its life, each pod's a little earlier
//! keep_tokens: due ─▶ noted at the session's signal ─▶ a look asks
//! ```
//!
//! The shelf outlives sessions: a device that comes back is sent another token when it is due, and no other time.
//!
//! Guarantees:
//! - a token is signed anew before it ends, while the session is there, and at once when a device comes back late
//!   (`a_token_is_another_one_at_four_fifths_of_its_life`);
//! - tokens of many pods do not end in the same second (`tokens_of_many_pods_are_not_due_at_once`);
//! - what no pod asks for any more is dropped (`what_no_pod_asks_for_is_dropped`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_plan::{Changes, SpokePlan, TokensAsked};
use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Record, RecordKey, TokenKey};
use parking_lot::Mutex;
use tokio::select;
use tokio::time::sleep;
use tracing::debug;

use crate::deleted_clusters::DeletedClusters;
use crate::live_session::Session;
use crate::sync_signal::SyncSignal;

/// A token is renewed after a day at the latest, as kubelet has it.
const LIFE_MAX: u64 = 86_400;
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
struct Shelved {
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
pub(crate) struct TokenShelf {
    signer: OnceLock<Arc<dyn PodTokens>>,
    spokes: Mutex<BTreeMap<String, BTreeMap<RecordKey, Shelved>>>,
}

impl TokenShelf {
    /// Who signs is told once.
    pub(crate) fn signed_by(&self, signer: Arc<dyn PodTokens>) {
        // Who tells twice means the same.
        let _ = self.signer.set(signer);
    }

    /// The spokes with tokens, for who forgets them.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.spokes.lock());
    }

    fn get(&self, spoke: &str, now: i64, asked: &TokensAsked) -> Option<Record> {
        let signer = self.signer.get()?;
        let key = asked.key();
        let before = {
            let mut spokes = self.spokes.lock();
            let shelf = spokes.entry(spoke.to_owned()).or_default();
            match shelf.remove(&key) {
                Some(shelved) if now < shelved.due && !shelved.noted => {
                    let record = shelved.record.clone();
                    shelf.insert(key, shelved);
                    return record;
                }
                before => before,
            }
        };
        // A session looks at one thing after the other, and others do not wait for its signatures.
        let shelved = sign(&**signer, now, asked, before);
        let record = shelved.record.clone();
        self.spokes.lock().entry(spoke.to_owned()).or_default().insert(key, shelved);
        record
    }

    /// Drops what no pod of the spoke asks for, where there is such.
    fn retain(&self, spoke: &str, asked: &BTreeMap<RecordKey, TokensAsked>) {
        let mut spokes = self.spokes.lock();
        let Some(shelf) = spokes.get_mut(spoke) else { return };
        if asked.len() < shelf.len() {
            shelf.retain(|key, _| asked.contains_key(key));
        }
        if shelf.is_empty() {
            spokes.remove(spoke);
        }
    }

    /// What is due, each told once until somebody asks for it; and clusters where something could not be signed.
    fn take_due(&self, spoke: &str, now: i64) -> (Vec<RecordKey>, Vec<ClusterName>) {
        let mut spokes = self.spokes.lock();
        let shelf = spokes.get_mut(spoke).into_iter().flatten();
        let mut due: Vec<_> = shelf.filter(|(_, shelved)| !shelved.noted).collect();
        if due.iter().all(|(_, shelved)| now < shelved.due) {
            return Default::default();
        }
        due.retain(|(_, shelved)| shelved.due <= now.saturating_add(TOGETHER_SECONDS));
        let mut stuck: Vec<ClusterName> = Vec::new();
        for (key, shelved) in &mut due {
            (shelved.due, shelved.noted) = (shelved.due.min(now), true);
            if 0 < shelved.failed && !stuck.contains(&key.realm) {
                stuck.push(key.realm.clone());
            }
        }
        (due.into_iter().map(|(key, _)| key.clone()).collect(), stuck)
    }

    /// When something is due next, in Unix seconds.
    fn next_due(&self, spoke: &str) -> Option<i64> {
        let spokes = self.spokes.lock();
        let shelf = spokes.get(spoke)?.values();
        shelf.filter(|shelved| !shelved.noted).map(|shelved| shelved.due).min()
    }
}

/// The tokens of one spoke's pods, for a look.
pub(crate) struct SpokeTokens<'a> {
    pub(crate) shelf: &'a TokenShelf,
    /// UID of its ManagedCluster.
    pub(crate) spoke: &'a str,
    /// In Unix seconds.
    pub(crate) now: i64,
}

impl SpokeTokens<'_> {
    pub(crate) fn get(&self, asked: &TokensAsked) -> Option<Record> {
        self.shelf.get(self.spoke, self.now, asked)
    }
}

/// Signs a pod's tokens. What cannot be signed leaves those that there are.
fn sign(signer: &dyn PodTokens, now: i64, asked: &TokensAsked, before: Option<Shelved>) -> Shelved {
    let signed = asked.tokens.iter().map(|which| signer.sign(asked, which));
    let record = signed.collect::<Result<Vec<_>, ApiError>>().map_err(|error| error.to_string());
    match record.and_then(|texts| asked.record(&texts).map_err(|error| error.to_string())) {
        Ok(record) => {
            Shelved { record: Some(record), due: now + lasts(asked), failed: 0, noted: false }
        }
        Err(error) => {
            debug!(cluster = %asked.realm, pod = asked.uid, error, "a pod gets no token yet");
            let (record, failed) = before.map_or((None, 0), |was| (was.record, was.failed));
            let (first, last) = RETRY_SECONDS;
            // At first there may be no key yet, which is made at once.
            let wait = failed.checked_sub(1).map_or(0, |n| (first << n.min(16)).min(last));
            Shelved { record, due: now + wait, failed: failed.saturating_add(1), noted: false }
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

impl Session<'_> {
    fn tokens(&self) -> (&TokenShelf, &str, i64) {
        (&self.inner.tokens, &self.identity.uid, self.inner.objects.clock().unix_seconds())
    }

    /// After a look: drops what was for pods that are gone.
    pub(crate) fn tidy_tokens(&self, plan: &SpokePlan) {
        let (shelf, spoke, _) = self.tokens();
        shelf.retain(spoke, plan.tokens());
        if !plan.tokens().is_empty() {
            self.tokens_looked_at.notify_one();
        }
    }

    /// Has the next look ask for what is due.
    pub(crate) async fn keep_tokens(&self, signal: &SyncSignal) -> Infallible {
        loop {
            let (shelf, spoke, now) = self.tokens();
            let (due, stuck) = shelf.take_due(spoke, now);
            for cluster in &stuck {
                let Some(signer) = shelf.signer.get() else { continue };
                if let Err(error) = signer.prepare(cluster).await {
                    debug!(%cluster, %error, "there is no key for tokens");
                }
            }
            if !due.is_empty() {
                signal.note(Changes { config: due.into_iter().collect(), ..Changes::default() });
                signal.raise();
            }
            let wait = shelf.next_due(spoke).map(|due| due.saturating_sub(now).max(1));
            let wait = wait.map_or(LIFE_MAX, i64::unsigned_abs);
            select! {
                () = self.tokens_looked_at.notified() => {}
                () = sleep(Duration::from_secs(wait)) => {}
            }
        }
    }
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

    fn shelf(ready: bool) -> TokenShelf {
        let shelf = TokenShelf::default();
        shelf.signed_by(Arc::new(Numbers(Mutex::new((ready, 0)))));
        shelf
    }

    fn shown(record: &Record) -> String {
        let body: ConfigV1 = record.body().unwrap();
        String::from_utf8(body.data[0].1.clone()).unwrap()
    }

    #[test]
    fn a_token_is_another_one_at_four_fifths_of_its_life() {
        let (shelf, pod) = (shelf(true), asked("a"));
        let at = |now| shown(&shelf.get("spoke", now, &pod).unwrap());
        assert_eq!(at(0), "3607/ 1");
        let due = shelf.next_due("spoke").unwrap();
        assert!((2_525..=2_885).contains(&due), "{due}");
        assert_eq!(at(due - 1), "3607/ 1");
        assert_eq!(shelf.take_due("spoke", due - 1).0, []);
        assert_eq!(shelf.take_due("spoke", due).0, [pod.key()]);
        assert_eq!(shelf.take_due("spoke", due + 9).0, [], "it is told once");
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
        let shelf = shelf(true);
        let [a, b] = ["a", "b"].map(asked);
        for pod in [&a, &b] {
            assert!(shelf.get("spoke", 0, pod).is_some());
        }
        let left = BTreeMap::from([(b.key(), b.clone())]);
        shelf.retain("spoke", &left);
        assert_eq!(shelf.spokes.lock()["spoke"].keys().collect::<Vec<_>>(), [&b.key()]);
        shelf.retain("spoke", &BTreeMap::new());
        assert!(shelf.spokes.lock().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_signed_is_tried_again() {
        let (shelf, pod) = (shelf(false), asked("a"));
        assert_eq!(shelf.get("spoke", 0, &pod), None);
        assert_eq!(shelf.next_due("spoke"), Some(0));
        for (now, next) in [(0, 1), (1, 3), (3, 7)] {
            let due = (vec![pod.key()], vec![ClusterName::root()]);
            assert_eq!(shelf.take_due("spoke", now), due);
            assert_eq!(shelf.get("spoke", now, &pod), None);
            assert_eq!(shelf.next_due("spoke"), Some(next), "it waits longer each time");
        }
        shelf.signer.get().unwrap().prepare(&pod.realm).await.unwrap();
        assert!(shelf.get("spoke", 7, &pod).is_some());
    }
}
