//! Callers by a token that somebody else knows (`--authentication-token-webhook-config-file`): a TokenReview is sent
//! there. What is said of a token counts for two minutes where nobody says otherwise, as at kube-apiserver.
//!
//! Guarantees:
//! - an answer is asked for once, yes or no, and counts for as long as it is said to
//!   (`who_is_known_elsewhere_is_asked_about_once`, `who_is_refused_is_asked_about_once`), and those who come with the
//!   same token at the same time wait for one answer (`those_who_ask_the_same_wait_for_one_answer`);
//! - of a question nothing is kept that grows with it (`what_is_remembered_holds_nothing_of_the_question`);
//! - few questions are asked at a time, and who finds no turn is told to ask again (`few_questions_are_asked_at_a_time`);
//!   strangers' tokens keep nobody waiting whose token was good before, nor from asking
//!   (`tokens_that_were_good_wait_for_no_stranger_s`, `tokens_that_were_good_do_not_pause_where_stranger_s_hang`);
//! - that nobody answers is in the log, once (`few_questions_are_asked_at_a_time`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_metrics::Metrics;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use tokio::time::timeout;
use tracing::{info, warn};

use super::bearer::{AskedToken, Known, NotTaken, TokenAuthenticator};
use super::user::{AUTHENTICATED, User};
use crate::access::question_figures::QuestionFigures;
use crate::access::remembered::Remembered;
use crate::access::remote::{
    ANSWER_TIMEOUT, InTurn, NoAnswer, QUESTIONS_MAX, Remote, TURN_TIMEOUT,
};
use crate::tokens::Issuer;

const ANSWERS_MAX: usize = 4_096;
/// A token that is good for more than these many bytes of audiences is asked about each time.
const KEPT_AUDIENCES_BYTES_MAX: usize = 2 << 10;
/// How long it is known of a token that it was good: an hour is what most of them live.
const GOOD_SECONDS: i64 = 3_600;
/// Questions at a time about tokens that were good, beside those about others.
const GOOD_QUESTIONS_MAX: usize = 16;
/// So many questions are kept before those are looked for that nobody asks any more.
const ASKED_KEPT_MIN: usize = 64;

/// A token and for whom it is asked about, by their digest: who asks says as much as a body may have.
type Question = [u8; 32];

/// The digest of both, each with its length.
fn question(token: &str, audiences: &[String]) -> Question {
    let mut digest = Sha256::new();
    for text in [token].into_iter().chain(audiences.iter().map(String::as_str)) {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

/// Who is asked whose a token is, and for how long what is said counts (`--authentication-token-webhook-cache-ttl`).
#[derive(Clone)]
pub struct TokenWebhookOptions {
    /// Who.
    pub remote: Arc<dyn Remote>,
    /// For how long.
    pub ttl: Duration,
}

/// Knows whom somebody else knows.
pub(super) struct TokenWebhook {
    seconds: i64,
    remote: InTurn,
    /// The same about tokens that were good.
    remote_of_good: InTurn,
    /// Knows the time.
    issuer: Issuer,
    known: Remembered<Question, Known>,
    /// Whose they are not.
    refused: Remembered<Question, ()>,
    /// Tokens that were somebody's.
    good: Remembered<[u8; 32], ()>,
    asked: Mutex<Asked>,
    /// There is no answer, and that was told.
    is_failing: AtomicBool,
}

/// What is being asked.
#[derive(Default)]
struct Asked {
    all: HashMap<Question, Weak<Turn<()>>>,
    /// How many were left when those that nobody asks were looked for.
    used: usize,
}

impl Asked {
    /// The turn of those who ask this.
    fn turn(&mut self, question: &Question) -> Arc<Turn<()>> {
        if let Some(turn) = self.all.get(question).and_then(Weak::upgrade) {
            return turn;
        }
        if ASKED_KEPT_MIN.max(2 * self.used) <= self.all.len() {
            self.all.retain(|_, turn| turn.strong_count() != 0);
            self.used = self.all.len();
        }
        let turn = Arc::default();
        self.all.insert(*question, Arc::downgrade(&turn));
        turn
    }
}

impl TokenWebhook {
    /// Asks this one.
    pub(super) fn new(options: TokenWebhookOptions, issuer: Issuer) -> Self {
        let remote = InTurn::new(options.remote, QUESTIONS_MAX, ANSWER_TIMEOUT);
        Self {
            seconds: i64::try_from(options.ttl.as_secs()).unwrap_or(i64::MAX),
            remote_of_good: remote.beside(GOOD_QUESTIONS_MAX),
            remote,
            issuer,
            known: Remembered::new(ANSWERS_MAX),
            refused: Remembered::new(ANSWERS_MAX),
            good: Remembered::new(ANSWERS_MAX),
            asked: Mutex::default(),
            is_failing: AtomicBool::default(),
        }
    }

    /// Shows what has become of questions.
    pub(super) fn show(&self, metrics: &Metrics) {
        let all = || vec![(Vec::new(), self.remote.figures().clone())];
        let help = "Questions to the webhook whose a token is, by what became of them";
        let named = ("authentication_token_webhook_request", help);
        metrics.show(QuestionFigures::counted(named, all()));
        let help = "Time in seconds of questions to the webhook whose a token is";
        let named = ("authentication_token_webhook_request_duration_seconds", help);
        metrics.show(QuestionFigures::timed(named, all()));
    }

    /// What was said of it, if that counts yet.
    fn remembered(&self, question: &Question) -> Option<Option<Known>> {
        let now = self.issuer.now();
        let known = self.known.get(question, now).map(Some);
        known.or_else(|| self.refused.get(question, now).map(|()| None))
    }

    /// Until those who ask the same have their answer.
    async fn turn(&self, question: &Question) -> Result<OwnedMutexGuard<()>, NoAnswer> {
        let turn = self.asked.lock().turn(question);
        timeout(TURN_TIMEOUT, turn.lock_owned()).await.map_err(|_| NoAnswer::Crowded)
    }

    async fn ask(&self, token: &[u8; 32], review: &Value) -> Result<Value, NoAnswer> {
        let was_good = self.good.get(token, self.issuer.now()).is_some();
        let remote = if was_good { &self.remote_of_good } else { &self.remote };
        let answer = remote.ask(review).await;
        match &answer {
            Err(error @ NoAnswer::Failed(_)) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    warn!(%error, "the webhook that knows tokens does not answer");
                }
            }
            Err(NoAnswer::Crowded) => {}
            Ok(_) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    info!("the webhook that knows tokens answers again");
                }
            }
        }
        answer
    }

    fn remember(&self, (token, question): (&[u8; 32], &Question), known: Option<&Known>) {
        let now = self.issuer.now();
        let until = now.saturating_add(self.seconds);
        match known {
            Some(known) => {
                let audiences: usize = known.audiences.iter().map(String::len).sum();
                if audiences <= KEPT_AUDIENCES_BYTES_MAX {
                    self.known.put(question, known, now, until);
                }
                self.good.put(token, &(), now, now.saturating_add(GOOD_SECONDS));
            }
            None => self.refused.put(question, &(), now, until),
        }
    }
}

#[async_trait]
impl TokenAuthenticator for TokenWebhook {
    async fn token(&self, asked: AskedToken<'_>) -> Result<Option<Known>, NotTaken> {
        let (token, audiences) = (asked.token, asked.audiences);
        let question = question(token, audiences);
        if let Some(answer) = self.remembered(&question) {
            return Ok(answer);
        }
        let _turn = self.turn(&question).await?;
        if let Some(answer) = self.remembered(&question) {
            return Ok(answer);
        }
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        });
        let digest = Sha256::digest(token).into();
        let answer = self.ask(&digest, &review).await?;
        let status = &answer["status"];
        let known = if status["authenticated"] == true {
            let says = status["audiences"].as_array().filter(|all| !all.is_empty());
            let says = says.map(|all| list(all));
            user(&status["user"]).and_then(|user| asked.known(Arc::new(user), says.as_deref()))
        } else if let Some(error) = status["error"].as_str().filter(|error| !error.is_empty()) {
            return Err(error.to_owned().into());
        } else {
            None
        };
        self.remember((&digest, &question), known.as_ref());
        Ok(known)
    }
}

fn list(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A user as reviews show them; `None` for who has no name.
fn user(user: &Value) -> Option<User> {
    let text = |key: &str| user[key].as_str().unwrap_or_default().to_owned();
    let name = Some(text("username")).filter(|name| !name.is_empty())?;
    let mut groups = user["groups"].as_array().map(|all| list(all)).unwrap_or_default();
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    let extra = user["extra"].as_object().into_iter().flatten();
    let extra = extra.filter_map(|(key, values)| Some((key.clone(), list(values.as_array()?))));
    Some(User { name, uid: text("uid"), groups, extra: extra.collect(), ..User::default() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize};

    use freewheel_hub_objects::clock::Clock;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::authz::Cluster;

    const ANSWER_SECONDS: i64 = 120;

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
                slow if slow.starts_with("slow") => std::future::pending().await,
                "away" => return Err("it is away".to_owned()),
                _ => json!({}),
            }}))
        }
    }

    fn options(remote: &Arc<Elsewhere>) -> TokenWebhookOptions {
        let ttl = Duration::from_secs(ANSWER_SECONDS.unsigned_abs());
        TokenWebhookOptions { remote: remote.clone(), ttl }
    }

    #[derive(Default)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn unix_nanos(&self) -> i128 {
            i128::from(self.0.load(Ordering::SeqCst)) * 1_000_000_000
        }
    }

    async fn ask(webhook: &TokenWebhook, token: &str) -> Result<Option<Known>, NotTaken> {
        let own = ["api".to_owned()];
        let cluster = Cluster { name: &ClusterName::root(), uid: None };
        webhook.token(AskedToken { token, cluster, audiences: &own, own: &own }).await
    }

    #[tokio::test]
    async fn who_is_known_elsewhere_is_asked_about_once() {
        let (remote, clock) = (Arc::new(Elsewhere::default()), Arc::new(Hands::default()));
        let issuer = Issuer::new(Arc::new(MemoryStore::new()), clock.clone(), "https://hub");
        let webhook = TokenWebhook::new(options(&remote), issuer);
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
        let why = ask(&webhook, "old").await.unwrap_err();
        assert_eq!(why, NotTaken::Refused("it is old".to_owned()));
    }

    #[tokio::test]
    async fn who_is_refused_is_asked_about_once() {
        let (remote, clock) = (Arc::new(Elsewhere::default()), Arc::new(Hands::default()));
        let issuer = Issuer::new(Arc::new(MemoryStore::new()), clock.clone(), "https://hub");
        let webhook = TokenWebhook::new(options(&remote), issuer);
        for _ in 0..3 {
            assert!(ask(&webhook, "unknown").await.unwrap().is_none());
        }
        assert_eq!(remote.0.load(Ordering::SeqCst), 1);
        clock.0.store(ANSWER_SECONDS + 1, Ordering::SeqCst);
        assert!(ask(&webhook, "unknown").await.unwrap().is_none());
        assert_eq!(remote.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_is_remembered_holds_nothing_of_the_question() {
        let remote = Arc::new(Elsewhere::default());
        let issuer =
            Issuer::new(Arc::new(MemoryStore::new()), Arc::new(Hands::default()), "https://hub");
        let webhook = TokenWebhook::new(options(&remote), issuer);
        assert!(!std::mem::needs_drop::<Question>(), "it is as large as it looks");
        let ask = async |token: &'static str, audiences: &[&str]| {
            let audiences: Vec<_> = audiences.iter().map(|&one| one.to_owned()).collect();
            let (own, root) = (["api".to_owned()], ClusterName::root());
            let cluster = Cluster { name: &root, uid: None };
            let asked = AskedToken { token, cluster, audiences: &audiences, own: &own };
            webhook.token(asked).await.unwrap()
        };
        // Where one ends and the next begins makes another question.
        let questions: [(&str, &[&str]); 5] = [
            ("t", &["a", "b"]),
            ("t", &["ab"]),
            ("t", &["", "ab"]),
            ("ta", &["b"]),
            ("t", &["b", "a"]),
        ];
        for (number, (token, audiences)) in questions.into_iter().enumerate() {
            for _ in 0..2 {
                assert!(ask(token, audiences).await.is_none());
            }
            assert_eq!(remote.0.load(Ordering::SeqCst), number + 1, "{token} {audiences:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_questions_are_asked_at_a_time() {
        let remote = Arc::new(Elsewhere::default());
        let clock = Arc::new(Hands::default());
        let issuer = Issuer::new(Arc::new(MemoryStore::new()), clock, "https://hub");
        let webhook = Arc::new(TokenWebhook::new(options(&remote), issuer));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..QUESTIONS_MAX {
            let webhook = webhook.clone();
            waiting.spawn(async move { drop(ask(&webhook, &format!("slow-{number}")).await) });
        }
        tokio::task::yield_now().await;
        let why = ask(&webhook, "good").await.unwrap_err();
        assert_eq!(why, NotTaken::Unanswered(NoAnswer::Crowded));
        assert_eq!(remote.0.load(Ordering::SeqCst), QUESTIONS_MAX);
        waiting.shutdown().await;
        let why = ask(&webhook, "away").await.unwrap_err();
        assert_eq!(why, NotTaken::Unanswered(NoAnswer::Failed("it is away".to_owned())));
        assert!(webhook.is_failing.load(Ordering::SeqCst));
        assert!(ask(&webhook, "good").await.unwrap().is_some());
        assert!(!webhook.is_failing.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_were_good_wait_for_no_stranger_s() {
        let (remote, clock) = (Arc::new(Elsewhere::default()), Arc::new(Hands::default()));
        let issuer = Issuer::new(Arc::new(MemoryStore::new()), clock.clone(), "https://hub");
        let webhook = Arc::new(TokenWebhook::new(options(&remote), issuer));
        assert!(ask(&webhook, "good").await.unwrap().is_some());
        clock.0.store(ANSWER_SECONDS + 1, Ordering::SeqCst);
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..2 * QUESTIONS_MAX {
            let webhook = webhook.clone();
            waiting.spawn(async move { drop(ask(&webhook, &format!("slow-{number}")).await) });
        }
        tokio::task::yield_now().await;
        let start = tokio::time::Instant::now();
        assert!(ask(&webhook, "good").await.unwrap().is_some());
        assert!(start.elapsed().is_zero());
        waiting.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_were_good_do_not_pause_where_stranger_s_hang() {
        let (remote, clock) = (Arc::new(Elsewhere::default()), Arc::new(Hands::default()));
        let issuer = Issuer::new(Arc::new(MemoryStore::new()), clock.clone(), "https://hub");
        let webhook = TokenWebhook::new(options(&remote), issuer);
        assert!(ask(&webhook, "good").await.unwrap().is_some());
        clock.0.store(ANSWER_SECONDS + 1, Ordering::SeqCst);
        assert!(ask(&webhook, "slow").await.is_err());
        assert!(ask(&webhook, "unknown").await.is_err(), "strangers' pause");
        assert!(ask(&webhook, "good").await.unwrap().is_some());
        assert!(ask(&webhook, "unknown").await.unwrap().is_none(), "it answers again");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_the_same_wait_for_one_answer() {
        let (remote, clock) = (Arc::new(Elsewhere::default()), Arc::new(Hands::default()));
        let issuer = Issuer::new(Arc::new(MemoryStore::new()), clock, "https://hub");
        let webhook = TokenWebhook::new(options(&remote), issuer);
        let all = (0..100).map(|_| ask(&webhook, "good"));
        let all = futures::future::join_all(all).await;
        assert!(all.into_iter().all(|said| said.unwrap().is_some()));
        let same = (0..100).map(|_| ask(&webhook, "slow"));
        let same = futures::future::join_all(same);
        assert!(timeout(TURN_TIMEOUT / 2, same).await.is_err());
        assert_eq!(remote.0.load(Ordering::SeqCst), 2);
        for number in 0..1_000 {
            drop(ask(&webhook, &format!("none-{number}")).await);
        }
        assert!(webhook.asked.lock().all.len() <= ASKED_KEPT_MIN);
    }
}
