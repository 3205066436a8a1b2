//! Callers by a token of an OpenID provider (`--authentication-config`, `--oidc-issuer-url`): a JWT whose issuer, audience and claims are those
//! of the configuration.
//!
//! ```text
//! iss ─▶ the issuer of that URL ─▶ its keys (discovery ─▶ jwks_uri) ─▶ aud, exp, nbf, rules ─▶ username, groups, uid
//! ```
//!
//! Guarantees:
//! - a token is good for the issuer and the audience that are configured, as long as it says, and no other is
//!   (`a_token_of_a_provider_is_good_for_what_it_says`), nor one that is signed otherwise than it may be
//!   (`a_token_is_signed_as_flags_allow_it`);
//! - names and groups are read as kube-apiserver reads them, and nobody has an empty name, for which a prefix is enough
//!   (`names_are_those_that_kube_apiserver_reads`, `groups_that_are_null_are_none`); a token that wants extensions to be
//!   understood is refused (`a_token_with_extensions_that_have_to_be_understood_is_refused`);
//! - a provider that does not answer keeps nobody waiting whose key is known
//!   (`a_provider_that_hangs_stalls_nobody_whose_key_is_known`);
//! - keys are asked for when one is missing, and not with each token that names one that nobody has
//!   (`keys_are_fetched_when_one_is_missing_and_not_for_strangers`);
//! - what the configuration asks for is done, or it is refused (`a_configuration_is_obeyed_or_refused`).

mod configuration;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use freewheel_hub_pki::{ForeignToken, JwkSet};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::bearer::{AskedToken, Known, NotTaken, TokenAuthenticator};
use super::user::{AUTHENTICATED, User};
use crate::access::remote::NoAnswer;
use crate::tokens::Issuer;
pub use configuration::{AuthenticationConfiguration, ConfigurationError, OidcFlags, Provider};
use configuration::{Claim, Jwt, text};

/// Keys are not asked for more often than this, whoever comes with a token.
const REFRESH_SECONDS: i64 = 10;
/// Keys that have changed under their name are known after this.
const KEYS_SECONDS: i64 = 3_600;

/// A provider that does not tell its keys keeps callers waiting no longer than this.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Knows those whom one provider knows.
pub(super) struct Oidc {
    provider: Arc<Provider>,
    /// Knows the time.
    issuer: Issuer,
    keys: ArcSwap<Keys>,
    turn: Mutex<()>,
}

/// The provider's keys, and when they were asked for.
#[derive(Default)]
struct Keys {
    set: JwkSet,
    at: Option<i64>,
    /// Why there were none then.
    lacks: Option<String>,
}

impl Oidc {
    /// Of this provider.
    pub(super) fn new(provider: Arc<Provider>, issuer: Issuer) -> Self {
        Self { provider, issuer, keys: ArcSwap::default(), turn: Mutex::new(()) }
    }

    /// Keys that have the one that a token names, if the provider has it.
    async fn keys(&self, token: &ForeignToken<'_>) -> Result<Arc<Keys>, String> {
        let is_good = |keys: &Keys| {
            let age = keys.at.map(|at| self.issuer.now().saturating_sub(at));
            let is_there = token.key().is_empty() || keys.set.has(token.key());
            age.is_some_and(|age| age < REFRESH_SECONDS || is_there && age < KEYS_SECONDS)
        };
        let now = self.keys.load_full();
        if is_good(&now) {
            return Ok(now);
        }
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            // It is only old, and somebody is on the way to the new ones.
            Err(_) if now.set.has(token.key()) => return Ok(now),
            Err(_) => self.turn.lock().await,
        };
        let now = self.keys.load_full();
        if is_good(&now) {
            return Ok(now);
        }
        let fetched = timeout(FETCH_TIMEOUT, self.fetch()).await;
        let fetched = fetched.unwrap_or_else(|_| {
            let url = &self.provider.jwt.issuer.url;
            Err(format!("{url} does not tell its keys within {} s", FETCH_TIMEOUT.as_secs()))
        });
        // Who does not answer is not asked again at once.
        let at = Some(self.issuer.now());
        let set = fetched.as_ref().map_or_else(|_| now.set.clone(), Clone::clone);
        let keys = Arc::new(Keys { set, at, lacks: fetched.as_ref().err().cloned() });
        self.keys.store(keys.clone());
        // What a provider has said once is good for as long as it says nothing else.
        if keys.set.has(token.key()) { Ok(keys) } else { fetched.map(|_| keys) }
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let Provider { jwt, fetch } = &*self.provider;
        let document = fetch.get(&jwt.issuer.discovery()).await?;
        let document: Value = serde_json::from_slice(&document)
            .map_err(|_| format!("the discovery document of {} is none", jwt.issuer.url))?;
        if document["issuer"] != *jwt.issuer.url {
            return Err(format!(
                "the discovery document of {} is another issuer's",
                jwt.issuer.url
            ));
        }
        let keys = document["jwks_uri"].as_str().filter(|uri| uri.starts_with("https://"));
        let keys = keys.ok_or_else(|| format!("{} says not where its keys are", jwt.issuer.url))?;
        let keys = fetch.get(keys).await?;
        JwkSet::read(&keys).ok_or_else(|| format!("the keys of {} are none", jwt.issuer.url))
    }
}

#[async_trait]
impl TokenAuthenticator for Oidc {
    async fn token(&self, asked: AskedToken<'_>) -> Result<Option<Known>, NotTaken> {
        let Some(token) = ForeignToken::read(asked.token) else { return Ok(None) };
        let jwt = &self.provider.jwt;
        let claims: Value = serde_json::from_slice(token.unproven_claims()).unwrap_or_default();
        if claims["iss"] != *jwt.issuer.url {
            return Ok(None);
        }
        check_algorithm(jwt, token.algorithm())?;
        let keys = self.keys(&token).await.map_err(NoAnswer::Failed)?;
        let claims = keys.set.claims(&token);
        let claims = claims.ok_or_else(|| match &keys.lacks {
            // It may be signed with a key that could not be fetched.
            Some(why) if !keys.set.has(token.key()) => NoAnswer::Failed(why.clone()).into(),
            Some(_) | None => {
                NotTaken::from("oidc: failed to verify id token signature".to_owned())
            }
        })?;
        let claims: Value = serde_json::from_slice(&claims).map_err(|error| error.to_string())?;
        let user = user(jwt, &claims, self.issuer.now())?;
        Ok(asked.known(Arc::new(user), None))
    }
}

/// Whether a provider's tokens may be signed so.
fn check_algorithm(jwt: &Jwt, algorithm: &str) -> Result<(), String> {
    let allowed = &jwt.algorithms;
    if allowed.is_empty() || allowed.iter().any(|one| one == algorithm) {
        return Ok(());
    }
    Err(format!(
        "oidc: verify token: oidc: id token signed with unsupported algorithm, expected {allowed:?} got {algorithm:?}"
    ))
}

/// Whom the claims of a token name that was verified.
fn user(jwt: &Jwt, claims: &Value, now: i64) -> Result<User, String> {
    let audiences = Claim::list(&claims["aud"]);
    if !audiences.iter().any(|one| jwt.issuer.audiences.contains(one)) {
        let expected = &jwt.issuer.audiences;
        return Err(format!(
            "oidc: verify token: oidc: expected audience in {expected:?} got {audiences:?}"
        ));
    }
    let until = claims["exp"].as_f64().ok_or("oidc: the token has no end")?.floor();
    // As far as seconds go that are ever asked about.
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    let until = until as i64;
    if until < now {
        return Err("oidc: verify token: oidc: token is expired".to_owned());
    }
    if claims["nbf"].as_f64().is_some_and(|from| (now + 300) as f64 <= from) {
        return Err("oidc: verify token: oidc: the token is not valid yet".to_owned());
    }
    for rule in &jwt.claim_validation_rules {
        if claims[&rule.claim].as_str() != Some(&rule.required_value) {
            let (claim, value) = (&rule.claim, &rule.required_value);
            return Err(format!("oidc: required claim {claim} is not {value:?}"));
        }
    }
    let mappings = &jwt.claim_mappings;
    let name = username(jwt, claims)?;
    let mut groups = match &mappings.groups {
        None => Vec::new(),
        Some(groups) => groups
            .texts(claims)
            .map_err(|why| format!("oidc: parse groups claim {:?}: {why}", groups.claim))?,
    };
    groups.push(AUTHENTICATED.to_owned());
    let uid = match &mappings.uid {
        None => String::new(),
        Some(uid) => text(claims, &uid.claim)
            .map_err(|why| format!("oidc: parse uid claim {:?}: {why}", uid.claim))?,
    };
    Ok(User { name, uid, groups, until: Some(until), ..User::default() })
}

fn username(jwt: &Jwt, claims: &Value) -> Result<String, String> {
    let from = &jwt.claim_mappings.username;
    let name = from.text(claims);
    let name =
        name.map_err(|why| format!("oidc: parse username claims {:?}: {why}", from.claim))?;
    // Who has no name is nobody here, whatever kube-apiserver takes them for.
    if name.is_empty() {
        return Err("oidc: empty username is not allowed".to_owned());
    }
    if from.claim == "email" {
        match claims.get("email_verified") {
            None | Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err("oidc: email not verified".to_owned()),
            Some(_) => {
                return Err("oidc: parse 'email_verified' claim: it is no boolean".to_owned());
            }
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

    use freewheel_hub_objects::clock::Clock;
    use freewheel_hub_pki::{TokenKey, jwk};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::names::ClusterName;
    use serde_json::json;

    use super::*;
    use crate::access::remote::Fetch;
    use crate::authz::Cluster;

    #[derive(Default)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn unix_nanos(&self) -> i128 {
            i128::from(self.0.load(Ordering::SeqCst)) * 1_000_000_000
        }
    }

    /// A provider with one key, which counts who asks for it, and may hang.
    struct Elsewhere {
        key: TokenKey,
        asked: AtomicUsize,
        hangs: AtomicBool,
    }

    #[async_trait]
    impl Fetch for Elsewhere {
        async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let document = match url {
                "https://issuer/.well-known/openid-configuration" => {
                    json!({"issuer": "https://issuer", "jwks_uri": "https://keys/all"})
                }
                "https://keys/all" => {
                    self.asked.fetch_add(1, Ordering::SeqCst);
                    json!({"keys": [jwk(self.key.id(), self.key.public()).unwrap()]})
                }
                other => return Err(format!("nothing at {other}")),
            };
            Ok(document.to_string().into_bytes())
        }
    }

    const CONFIGURATION: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: 'https://issuer', audiences: [hub]}
  claimValidationRules: [{claim: hd, requiredValue: example.com}]
  claimMappings:
    username: {claim: sub, prefix: 'oidc:'}
    groups: {claim: groups, prefix: ''}
    uid: {claim: id}
";

    fn oidc() -> (Oidc, Arc<Elsewhere>, Arc<Hands>) {
        oidc_of(AuthenticationConfiguration::read(CONFIGURATION).unwrap())
    }

    fn oidc_of(read: AuthenticationConfiguration) -> (Oidc, Arc<Elsewhere>, Arc<Hands>) {
        let key = TokenKey::read(&TokenKey::generate().unwrap()).unwrap();
        let elsewhere = Arc::new(Elsewhere {
            key,
            asked: AtomicUsize::default(),
            hangs: AtomicBool::default(),
        });
        let clock = Arc::new(Hands(AtomicI64::new(1_000)));
        let issuer = Issuer::new(Arc::new(MemoryStore::new()), clock.clone(), "https://hub");
        let mut providers = read.providers(|_| Ok::<_, String>(elsewhere.clone())).unwrap();
        (Oidc::new(providers.remove(0), issuer), elsewhere, clock)
    }

    async fn ask(oidc: &Oidc, token: &str) -> Result<Option<Arc<User>>, NotTaken> {
        let own = ["api".to_owned()];
        let cluster = Cluster { name: &ClusterName::root(), uid: None };
        let asked = AskedToken { token, cluster, audiences: &own, own: &own };
        Ok(oidc.token(asked).await?.map(|known| known.user))
    }

    fn claims(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut claims = json!({"iss": "https://issuer", "sub": "ada", "aud": ["other", "hub"],
            "exp": 1_100, "hd": "example.com", "groups": ["dev", "ops"], "id": "7"});
        change(&mut claims);
        claims.to_string().into_bytes()
    }

    #[tokio::test]
    async fn a_token_of_a_provider_is_good_for_what_it_says() {
        let (oidc, elsewhere, clock) = oidc();
        let sign = |claims: Vec<u8>| elsewhere.key.sign(&claims).unwrap();
        let good = sign(claims(|_| {}));
        let ada = ask(&oidc, &good).await.unwrap().unwrap();
        assert_eq!((&*ada.name, &*ada.uid, ada.until), ("oidc:ada", "7", Some(1_100)));
        assert_eq!(ada.groups, ["dev", "ops", AUTHENTICATED]);
        let one = sign(claims(|claims| {
            claims["aud"] = json!("hub");
            claims["groups"] = json!("dev");
        }));
        assert_eq!(ask(&oidc, &one).await.unwrap().unwrap().groups, ["dev", AUTHENTICATED]);
        let wrong: [fn(&mut Value); 9] = [
            |claims| claims["aud"] = json!(["other"]),
            |claims| claims["exp"] = json!(999),
            |claims| claims["exp"] = json!("never"),
            |claims| claims["nbf"] = json!(2_000),
            |claims| claims["hd"] = json!("example.org"),
            |claims| claims["sub"] = json!(7),
            |claims| drop(claims.as_object_mut().unwrap().remove("sub")),
            |claims| drop(claims.as_object_mut().unwrap().remove("id")),
            |claims| claims["groups"] = json!(["dev", 7]),
        ];
        for change in wrong {
            assert!(ask(&oidc, &sign(claims(change))).await.is_err());
        }
        let other = sign(claims(|claims| claims["iss"] = json!("https://another")));
        assert!(ask(&oidc, &other).await.unwrap().is_none(), "somebody else may know it");
        let stranger = TokenKey::read(&TokenKey::generate().unwrap()).unwrap();
        assert!(ask(&oidc, &stranger.sign(&claims(|_| {})).unwrap()).await.is_err());
        clock.0.store(1_101, Ordering::SeqCst);
        assert!(ask(&oidc, &good).await.is_err());
    }

    #[tokio::test]
    async fn names_are_those_that_kube_apiserver_reads() {
        let (oidc, elsewhere, _clock) = oidc();
        // A prefix tells even those apart who have no name, and a name may have anything in it.
        for (sub, name) in [
            (json!(""), "oidc:"),
            (json!(null), "oidc:"),
            (json!("a\u{0}\nb\u{1b}[2J"), "oidc:a\u{0}\nb\u{1b}[2J"),
        ] {
            let token = elsewhere.key.sign(&claims(|claims| claims["sub"] = sub.clone())).unwrap();
            assert_eq!(ask(&oidc, &token).await.unwrap().unwrap().name, name);
        }
        let plain = CONFIGURATION.replace("prefix: 'oidc:'", "prefix: ''");
        let (oidc, elsewhere, _clock) = oidc_of(AuthenticationConfiguration::read(&plain).unwrap());
        let token = elsewhere.key.sign(&claims(|claims| claims["sub"] = json!(""))).unwrap();
        let why = ask(&oidc, &token).await.unwrap_err();
        assert!(why.to_string().contains("empty username"), "{why}");
    }

    #[tokio::test]
    async fn groups_that_are_null_are_none() {
        let (oidc, elsewhere, _clock) = oidc();
        let null = claims(|claims| claims["groups"] = Value::Null);
        let ada = ask(&oidc, &elsewhere.key.sign(&null).unwrap()).await.unwrap().unwrap();
        assert_eq!(ada.groups, [AUTHENTICATED]);
    }

    #[tokio::test]
    async fn a_token_is_signed_as_flags_allow_it() {
        let flags = |algorithms: &[&str]| {
            let flags = OidcFlags {
                issuer_url: "https://issuer".to_owned(),
                client_id: "hub".to_owned(),
                groups_claim: Some("groups".to_owned()),
                groups_prefix: Some("oidc:".to_owned()),
                signing_algorithms: algorithms.iter().map(|one| (*one).to_owned()).collect(),
                ..OidcFlags::default()
            };
            oidc_of(AuthenticationConfiguration::of_flags(flags).unwrap())
        };
        let (oidc, elsewhere, _clock) = flags(&["RS256", "ES256"]);
        let ada = ask(&oidc, &elsewhere.key.sign(&claims(|_| {})).unwrap()).await.unwrap().unwrap();
        assert_eq!(ada.name, "https://issuer#ada");
        assert_eq!(ada.groups, ["oidc:dev", "oidc:ops", AUTHENTICATED]);
        // Theirs are ES256, and by default they are to be RS256.
        let (oidc, elsewhere, _clock) = flags(&[]);
        let why = ask(&oidc, &elsewhere.key.sign(&claims(|_| {})).unwrap()).await.unwrap_err();
        let told =
            "oidc: id token signed with unsupported algorithm, expected [\"RS256\"] got \"ES256\"";
        assert!(why.to_string().ends_with(told), "{why}");
        assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0, "no key is needed for that");
    }

    #[test]
    fn an_address_that_is_not_verified_names_nobody() {
        let text =
            CONFIGURATION.replace("{claim: sub, prefix: 'oidc:'}", "{claim: email, prefix: ''}");
        let read = AuthenticationConfiguration::read(&text).unwrap();
        let key = TokenKey::read(&TokenKey::generate().unwrap()).unwrap();
        let elsewhere = Arc::new(Elsewhere {
            key,
            asked: AtomicUsize::default(),
            hangs: AtomicBool::default(),
        });
        let provider = read.providers(|_| Ok::<_, String>(elsewhere.clone())).unwrap().remove(0);
        for (verified, good) in [
            (None, true),
            (Some(json!(true)), true),
            (Some(json!(false)), false),
            (Some(json!("false")), false),
            (Some(json!("true")), false),
            (Some(json!(0)), false),
            (Some(json!(null)), false),
        ] {
            let said = claims(|claims| {
                claims["email"] = json!("ada@example.com");
                if let Some(verified) = &verified {
                    claims["email_verified"] = verified.clone();
                }
            });
            let said: Value = serde_json::from_slice(&said).unwrap();
            assert_eq!(user(&provider.jwt, &said, 1_000).is_ok(), good, "{verified:?}");
        }
    }

    #[tokio::test]
    async fn keys_are_fetched_when_one_is_missing_and_not_for_strangers() {
        let (oidc, elsewhere, clock) = oidc();
        let good = elsewhere.key.sign(&claims(|claims| claims["exp"] = json!(1_000_000))).unwrap();
        let stranger = TokenKey::read(&TokenKey::generate().unwrap()).unwrap();
        let strange = stranger.sign(&claims(|_| {})).unwrap();
        let count = || elsewhere.asked.load(Ordering::SeqCst);
        for _ in 0..5 {
            assert!(ask(&oidc, &good).await.unwrap().is_some());
            assert!(ask(&oidc, &strange).await.is_err());
        }
        assert_eq!(count(), 1);
        clock.0.fetch_add(REFRESH_SECONDS, Ordering::SeqCst);
        assert!(ask(&oidc, &good).await.unwrap().is_some());
        assert_eq!(count(), 1);
        assert!(ask(&oidc, &strange).await.is_err());
        assert_eq!(count(), 2, "it may be new");
        clock.0.fetch_add(KEYS_SECONDS, Ordering::SeqCst);
        assert!(ask(&oidc, &good).await.unwrap().is_some());
        assert_eq!(count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_hangs_stalls_nobody_whose_key_is_known() {
        let (oidc, elsewhere, clock) = oidc();
        let good = elsewhere.key.sign(&claims(|claims| claims["exp"] = json!(1_000_000))).unwrap();
        assert!(ask(&oidc, &good).await.unwrap().is_some());
        elsewhere.hangs.store(true, Ordering::SeqCst);
        clock.0.fetch_add(KEYS_SECONDS, Ordering::SeqCst);
        let start = tokio::time::Instant::now();
        let (first, second) = tokio::join!(ask(&oidc, &good), async {
            let known = ask(&oidc, &good).await;
            (known, start.elapsed())
        });
        assert!(first.unwrap().is_some() && second.0.unwrap().is_some(), "the old key is good");
        assert!(second.1 < FETCH_TIMEOUT, "one of them asks");
        let stranger = TokenKey::read(&TokenKey::generate().unwrap()).unwrap();
        let strange = stranger.sign(&claims(|_| {})).unwrap();
        for _ in 0..2 {
            let why = ask(&oidc, &strange).await.unwrap_err();
            assert!(matches!(why, NotTaken::Unanswered(_)), "it may be new: {why}");
        }
        assert!(start.elapsed() <= FETCH_TIMEOUT * 2);
    }
}
