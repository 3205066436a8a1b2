//! Who signs tokens: each logical cluster has keys of its own, in the store beside its objects. They go with the cluster,
//! and are known to whoever serves it.
//!
//! ```text
//! tokensigners  current      the private key that signs; replaced by a new one when it is old or the issuer's address has changed
//! tokenkeys     KEY          the public half of each key that ever signed
//! ```

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_objects::clock::Clock;
use freewheel_hub_objects::internal;
use freewheel_hub_pki::{Jwk, ShownToken, TokenKey, jwk};
use freewheel_hub_rbac::service_account_name;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::{Header, Key, Object};
use freewheel_hub_store::{CommitError, Expect, Operation, Scope, Snapshot, Store, Txn};
use freewheel_link::names::ClusterName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::claims::{LEGACY_ISSUER, LegacyClaims};

/// After which time another key signs.
const KEY_AGE_SECONDS: i64 = 90 * 86_400;
/// How often somebody may be faster with a new key.
const TRIES_MAX: u32 = 8;
const CURRENT: &str = "current";

/// The key that signs.
#[derive(Deserialize, Serialize)]
struct Signer {
    pkcs8: String,
    issuer: String,
    since: i64,
}

/// A key that signed.
#[derive(Deserialize, Serialize)]
struct Verifier {
    public: String,
    issuer: String,
}

/// Signs tokens, and knows what it has signed.
#[derive(Clone)]
pub struct Issuer {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    base: Arc<str>,
}

/// What was signed by a cluster's own key.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    /// JSON.
    pub(crate) claims: Vec<u8>,
}

fn object<T: Serialize>(record: &T) -> Object {
    // Texts and numbers always serialise.
    let body = serde_json::to_vec(record).unwrap_or_default();
    Object { header: Header::default(), body: body.into() }
}

fn place_of(cluster: &ClusterName) -> Key {
    Key::new(&internal::token_signers(), cluster, "", CURRENT)
}

fn read<T: DeserializeOwned>(snapshot: &dyn Snapshot, key: &Key) -> Option<T> {
    serde_json::from_slice(&snapshot.get(key)?.object.body).ok()
}

impl Issuer {
    /// Keeps its keys in this store. Tokens name it as `base` (`https://HOST:PORT`), with the path of their cluster.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, base: &str) -> Self {
        Self { store, clock, base: base.into() }
    }

    /// Who a cluster's tokens are from.
    #[must_use]
    pub fn url(&self, cluster: &ClusterName) -> String {
        if cluster.is_root() {
            self.base.to_string()
        } else {
            format!("{}/clusters/{cluster}", self.base)
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.unix_seconds()
    }

    /// The token with these claims, of this cluster, as long as `expect` holds.
    ///
    /// # Errors
    /// 410 when it does not, 503 when there is no key and none can be written.
    pub(crate) async fn sign(
        &self,
        cluster: &ClusterName,
        expect: &[Expect],
        claims: &[u8],
    ) -> Result<String, ApiError> {
        for _ in 0..TRIES_MAX {
            let snapshot = self.store.snapshot();
            if let Some(key) = self.current(&*snapshot, cluster)? {
                return key.sign(claims).map_err(ApiError::internal);
            }
            self.renew(&*snapshot, (cluster, place_of(cluster)), expect).await?;
        }
        Err(ApiError::new(503, "ServiceUnavailable", "others make keys of tokens all the time"))
    }

    /// The key that signs for a cluster; `None` where a new one is to be made.
    pub(super) fn current(
        &self,
        snapshot: &dyn Snapshot,
        cluster: &ClusterName,
    ) -> Result<Option<TokenKey>, ApiError> {
        let signer = read::<Signer>(snapshot, &place_of(cluster)).filter(|signer| {
            signer.issuer == self.url(cluster)
                && self.now() < signer.since.saturating_add(KEY_AGE_SECONDS)
        });
        let Some(signer) = signer else { return Ok(None) };
        let pkcs8 = STANDARD.decode(&signer.pkcs8).map_err(ApiError::internal)?;
        TokenKey::read(&pkcs8).map(Some).map_err(ApiError::internal)
    }

    /// The newest state.
    pub(super) fn state(&self) -> Arc<dyn Snapshot> {
        self.store.snapshot()
    }

    /// Makes another key, unless somebody was faster.
    async fn renew(
        &self,
        snapshot: &dyn Snapshot,
        (cluster, place): (&ClusterName, Key),
        expect: &[Expect],
    ) -> Result<(), ApiError> {
        let pkcs8 = TokenKey::generate().map_err(ApiError::internal)?;
        let key = TokenKey::read(&pkcs8).map_err(ApiError::internal)?;
        let (issuer, since) = (self.url(cluster), self.now());
        let verifier = Verifier { public: STANDARD.encode(key.public()), issuer: issuer.clone() };
        let signer = Signer { pkcs8: STANDARD.encode(pkcs8), issuer, since };
        let first = match snapshot.get(&place) {
            Some(there) => Expect::Revision(place.clone(), there.revision),
            None => Expect::Absent(place.clone()),
        };
        let known = Key::new(&internal::token_keys(), cluster, "", key.id());
        let mut txn = Txn {
            expect: vec![first],
            operations: vec![
                Operation::Put(place, object(&signer)),
                Operation::Put(known, object(&verifier)),
            ],
        };
        txn.expect.extend(expect.iter().cloned());
        match self.store.commit(txn).await {
            Ok(_) | Err(CommitError::Unmet { index: 0, .. }) => Ok(()),
            Err(CommitError::Unmet { .. }) => {
                Err(ApiError::expired("the cluster that the token was asked in is gone"))
            }
            Err(error) => Err(ApiError::new(503, "ServiceUnavailable", error.to_string())),
        }
    }

    /// The token for a Secret: without an end, and good as long as the Secret holds it.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub async fn in_secret(
        &self,
        cluster: &ClusterName,
        (namespace, secret): (&str, &str),
        (account, account_uid): (&str, &str),
        expect: &[Expect],
    ) -> Result<String, ApiError> {
        let claims = LegacyClaims {
            iss: LEGACY_ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            account_uid: account_uid.to_owned(),
            sub: service_account_name(namespace, account),
        };
        let claims = serde_json::to_vec(&claims).map_err(ApiError::internal)?;
        self.sign(cluster, expect, &claims).await
    }

    /// What a token says, when it was signed by this cluster; `None` when it is somebody else's.
    pub(crate) fn signed(
        &self,
        snapshot: &dyn Snapshot,
        cluster: &ClusterName,
        token: &str,
    ) -> Option<Signed> {
        let shown = ShownToken::read(token)?;
        let place = Key::new(&internal::token_keys(), cluster, "", shown.key());
        let verifier: Verifier = read(snapshot, &place)?;
        let public = STANDARD.decode(verifier.public).ok()?;
        Some(Signed { claims: shown.claims(&public)? })
    }

    /// For whom tokens are that are meant for the API of this cluster: itself, and itself under addresses that it had.
    pub(crate) fn audiences(&self, snapshot: &dyn Snapshot, cluster: &ClusterName) -> Vec<String> {
        let mut all = vec![self.url(cluster)];
        for (_, verifier) in verifiers(snapshot, cluster) {
            if !all.contains(&verifier.issuer) {
                all.push(verifier.issuer);
            }
        }
        all
    }

    /// All keys by which tokens of a cluster are verified.
    pub(crate) fn keys(&self, cluster: &ClusterName) -> Vec<Jwk> {
        let snapshot = self.store.snapshot();
        let public = |(id, verifier): (Arc<str>, Verifier)| {
            jwk(&id, &STANDARD.decode(verifier.public).ok()?)
        };
        verifiers(&*snapshot, cluster).filter_map(public).collect()
    }
}

fn verifiers<'a>(
    snapshot: &'a dyn Snapshot,
    cluster: &ClusterName,
) -> impl Iterator<Item = (Arc<str>, Verifier)> + 'a {
    let (resource, cluster) = (internal::token_keys(), Some(cluster.clone()));
    let scope = Scope { resource, cluster, namespace: None };
    snapshot.range(&scope, None).filter_map(|stored| {
        let verifier = serde_json::from_slice(&stored.object.body).ok()?;
        Some((stored.key.name.clone(), verifier))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use freewheel_hub_store::memory::MemoryStore;

    use super::*;

    #[derive(Default)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn unix_nanos(&self) -> i128 {
            i128::from(self.0.load(Ordering::SeqCst)) * 1_000_000_000
        }
    }

    fn key_of(token: &str) -> String {
        ShownToken::read(token).unwrap().key().to_owned()
    }

    #[tokio::test]
    async fn old_keys_verify_and_new_ones_sign() {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(Hands::default()));
        let issuer = Issuer::new(store.clone(), clock.clone(), "https://hub:6443");
        let root = ClusterName::root();
        let first = issuer.sign(&root, &[], b"{}").await.unwrap();
        let again = issuer.sign(&root, &[], b"{}").await.unwrap();
        assert_eq!(key_of(&first), key_of(&again));
        clock.0.store(KEY_AGE_SECONDS, Ordering::SeqCst);
        let second = issuer.sign(&root, &[], b"{}").await.unwrap();
        assert_ne!(key_of(&first), key_of(&second));
        let moved = Issuer::new(store.clone(), clock, "https://moved:6443");
        let third = moved.sign(&root, &[], b"{}").await.unwrap();
        assert_ne!(key_of(&second), key_of(&third));
        let snapshot = store.snapshot();
        for token in [&first, &second, &third] {
            assert_eq!(moved.signed(&*snapshot, &root, token).unwrap().claims, b"{}");
        }
        assert_eq!(moved.keys(&root).len(), 3);
        let both = ["https://moved:6443", "https://hub:6443"];
        assert_eq!(moved.audiences(&*snapshot, &root), both);
        let signers = Scope { resource: internal::token_signers(), cluster: None, namespace: None };
        assert_eq!(snapshot.count(&signers), 1, "what signs no more is not kept");
    }

    #[tokio::test]
    async fn another_cluster_has_other_keys() {
        let store = Arc::new(MemoryStore::new());
        let issuer = Issuer::new(store.clone(), Arc::new(Hands::default()), "https://hub");
        let [a, b] = ["pi-7", "pi-8"].map(|name| ClusterName::try_from(name).unwrap());
        let token = issuer.sign(&a, &[], b"{}").await.unwrap();
        issuer.sign(&b, &[], b"{}").await.unwrap();
        let snapshot = store.snapshot();
        assert!(issuer.signed(&*snapshot, &a, &token).is_some());
        assert!(issuer.signed(&*snapshot, &b, &token).is_none());
        assert_eq!(issuer.url(&a), "https://hub/clusters/pi-7");
        let gone = Key::new(&internal::sessions(), &ClusterName::root(), "", "x");
        let c = ClusterName::try_from("pi-9").unwrap();
        let refused = issuer.sign(&c, &[Expect::Present(gone)], b"{}").await.unwrap_err();
        assert_eq!(refused.code, 410);
        assert!(issuer.keys(&c).is_empty());
    }

    #[tokio::test]
    async fn those_who_come_at_once_sign_with_one_key() {
        let store = Arc::new(MemoryStore::new());
        let issuer = Issuer::new(store, Arc::new(Hands::default()), "https://hub");
        let root = ClusterName::root();
        let all = futures::future::join_all((0..16).map(|_| issuer.sign(&root, &[], b"{}"))).await;
        let keys: std::collections::BTreeSet<_> =
            all.into_iter().map(|token| key_of(&token.unwrap())).collect();
        assert_eq!((keys.len(), issuer.keys(&root).len()), (1, 1));
    }
}
