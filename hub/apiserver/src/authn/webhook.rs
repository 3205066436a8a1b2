//! Callers by a token that somebody else knows (`--authentication-token-webhook-config-file`): a TokenReview is sent
//! there. What is said of a token counts for two minutes, as at kube-apiserver.
//!
//! Guarantees:
//! - an answer is asked for once, and counts for as long as it is said to (`who_is_known_elsewhere_is_asked_about_once`);
//! - strangers make few questions at a time: who comes with more is told to wait (`few_questions_are_asked_at_a_time`).

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::bearer::{AskedToken, Known, TokenAuthenticator};
use super::user::{AUTHENTICATED, User};
use crate::access::remembered::Remembered;
use crate::access::remote::{InTurn, QUESTIONS_MAX, Remote};
use crate::tokens::Issuer;

/// How long an answer counts (`--authentication-token-webhook-cache-ttl`).
const ANSWER_SECONDS: i64 = 120;
const ANSWERS_MAX: usize = 4_096;

/// A token, and for whom it is asked about.
type Question = ([u8; 32], Vec<String>);

/// Knows whom somebody else knows.
pub(super) struct TokenWebhook {
    remote: InTurn,
    /// Knows the time.
    issuer: Issuer,
    known: Remembered<Question, Known>,
}

impl TokenWebhook {
    /// Asks this one.
    pub(super) fn new(remote: Arc<dyn Remote>, issuer: Issuer) -> Self {
        let remote = InTurn::new(remote, QUESTIONS_MAX);
        Self { remote, issuer, known: Remembered::new(ANSWERS_MAX) }
    }
}

#[async_trait]
impl TokenAuthenticator for TokenWebhook {
    async fn token(&self, asked: AskedToken<'_>) -> Result<Option<Known>, String> {
        let (token, audiences) = (asked.token, asked.audiences);
        let question = (Sha256::digest(token).into(), audiences.to_vec());
        if let Some(known) = self.known.get(&question, self.issuer.now()) {
            return Ok(Some(known));
        }
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        });
        let answer = self.remote.ask(&review).await?;
        let status = &answer["status"];
        if status["authenticated"] != true {
            return match status["error"].as_str().filter(|error| !error.is_empty()) {
                Some(error) => Err(error.to_owned()),
                None => Ok(None),
            };
        }
        let says = status["audiences"].as_array().filter(|all| !all.is_empty());
        let says = says.map(|all| list(all));
        let known =
            user(&status["user"]).and_then(|user| asked.known(Arc::new(user), says.as_deref()));
        if let Some(known) = &known {
            let until = self.issuer.now().saturating_add(ANSWER_SECONDS);
            self.known.put(&question, known, until);
        }
        Ok(known)
    }
}

fn list(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A user as reviews show them; `None` for who has no name.
fn user(said: &Value) -> Option<User> {
    let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    let name = Some(text("username")).filter(|name| !name.is_empty())?;
    let mut groups = said["groups"].as_array().map(|all| list(all)).unwrap_or_default();
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    let extra = said["extra"].as_object().into_iter().flatten();
    let extra = extra.filter_map(|(key, values)| Some((key.clone(), list(values.as_array()?))));
    Some(User { name, uid: text("uid"), groups, extra: extra.collect(), until: None })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use freewheel_hub_objects::clock::Clock;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::authz::Cluster;

    /// Knows `good`, and counts.
    #[derive(Default)]
    struct Elsewhere(AtomicUsize);

    #[async_trait]
    impl Remote for Elsewhere {
        async fn ask(&self, review: &Value) -> Result<Value, String> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let token = review["spec"]["token"].as_str().unwrap_or_default();
            Ok(json!({"status": match token {
                "good" => json!({"authenticated": true, "user": {"username": "jane", "uid": "7",
                    "groups": ["dev"], "extra": {"a": ["b"]}}}),
                "old" => json!({"error": "it is old"}),
                "slow" => std::future::pending().await,
                _ => json!({}),
            }}))
        }
    }

    #[derive(Default)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn unix_nanos(&self) -> i128 {
            i128::from(self.0.load(Ordering::SeqCst)) * 1_000_000_000
        }
    }

    async fn ask(webhook: &TokenWebhook, token: &str) -> Result<Option<Known>, String> {
        let own = ["api".to_owned()];
        let cluster = Cluster { name: &ClusterName::root(), uid: None };
        webhook.token(AskedToken { token, cluster, audiences: &own, own: &own }).await
    }

    #[tokio::test]
    async fn who_is_known_elsewhere_is_asked_about_once() {
        let (remote, clock) = (Arc::new(Elsewhere::default()), Arc::new(Hands::default()));
        let issuer = Issuer::new(Arc::new(MemoryStore::new()), clock.clone(), "https://hub");
        let webhook = TokenWebhook::new(remote.clone(), issuer);
        for _ in 0..3 {
            let user = ask(&webhook, "good").await.unwrap().unwrap().user;
            assert_eq!((&*user.name, &*user.uid), ("jane", "7"));
            assert_eq!(user.groups, ["dev", AUTHENTICATED]);
            assert_eq!(user.extra["a"], ["b"]);
        }
        assert_eq!(remote.0.load(Ordering::SeqCst), 1);
        clock.0.store(ANSWER_SECONDS + 1, Ordering::SeqCst);
        assert!(ask(&webhook, "good").await.unwrap().is_some());
        assert_eq!(remote.0.load(Ordering::SeqCst), 2);
        assert!(ask(&webhook, "unknown").await.unwrap().is_none());
        assert_eq!(ask(&webhook, "old").await.unwrap_err(), "it is old");
    }

    #[tokio::test(start_paused = true)]
    async fn few_questions_are_asked_at_a_time() {
        let remote = Arc::new(Elsewhere::default());
        let clock = Arc::new(Hands::default());
        let issuer = Issuer::new(Arc::new(MemoryStore::new()), clock, "https://hub");
        let webhook = Arc::new(TokenWebhook::new(remote.clone(), issuer));
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..QUESTIONS_MAX {
            let webhook = webhook.clone();
            waiting.spawn(async move { drop(ask(&webhook, "slow").await) });
        }
        tokio::task::yield_now().await;
        assert_eq!(ask(&webhook, "good").await.unwrap_err(), "too many questions are asked");
        assert_eq!(remote.0.load(Ordering::SeqCst), QUESTIONS_MAX);
        waiting.abort_all();
    }
}
