//! What somebody else says that callers may do (`--authorization-webhook-config-file`): a SubjectAccessReview is sent
//! there, of what is asked in the root. What is allowed counts for five minutes, what is not for half of one, as at
//! kube-apiserver.
//!
//! Guarantees:
//! - it is asked after all others, and who does not answer has no say (`who_decides_elsewhere_is_asked_once`);
//! - strangers neither flood it nor fill the memory with what it said
//!   (`questions_at_a_time_are_bounded_and_most_are_for_those_who_are_known`, `long_questions_are_not_remembered`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::clock::Clock;
use serde_json::{Value, json};
use tracing::warn;

use super::attributes::{Attributes, Cluster, Resource, What};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::access::remembered::Remembered;
use crate::access::remote::{InTurn, NoAnswer, QUESTIONS_MAX, Remote};
use crate::authn::User;

const ALLOWED_SECONDS: i64 = 300;
const OTHER_SECONDS: i64 = 30;
const ANSWERS_MAX: usize = 8_192;
/// Longer questions are asked each time, as at kube-apiserver: what is remembered is bounded by bytes, too.
const KEPT_QUESTION_BYTES_MAX: usize = 10_000;
/// Questions of strangers that are asked at a time.
const STRANGERS_QUESTIONS_MAX: usize = 8;

/// Asks somebody else.
#[derive(Clone)]
pub struct AccessWebhook(Arc<Inner>);

struct Inner {
    remote: InTurn,
    /// The same for strangers, who keep nobody else from asking.
    remote_of_strangers: InTurn,
    clock: Arc<dyn Clock>,
    known: Remembered<String, Decision>,
}

impl AccessWebhook {
    /// Asks this one.
    #[must_use]
    pub fn new(remote: Arc<dyn Remote>, clock: Arc<dyn Clock>) -> Self {
        let remote_of_strangers = InTurn::new(remote.clone(), STRANGERS_QUESTIONS_MAX);
        let (remote, known) = (InTurn::new(remote, QUESTIONS_MAX), Remembered::new(ANSWERS_MAX));
        Self(Arc::new(Inner { remote, remote_of_strangers, clock, known }))
    }

    async fn ask(&self, user: &User, review: &Value) -> Result<Value, NoAnswer> {
        let Inner { remote, remote_of_strangers, .. } = &*self.0;
        let remote = if user.is_stranger() { remote_of_strangers } else { remote };
        remote.ask(review).await
    }
}

#[async_trait]
impl Authorizer for AccessWebhook {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        if !asked.cluster.name.is_root() {
            return Decision::none();
        }
        let Inner { clock, known, .. } = &*self.0;
        let review = review(asked);
        let question = review["spec"].to_string();
        if let Some(decision) = known.get(&question, clock.unix_seconds()) {
            return decision;
        }
        let status = match self.ask(asked.user, &review).await {
            Ok(answer) => answer.get("status").cloned().unwrap_or_default(),
            Err(error) => {
                warn!(%error, "the webhook that decides on access does not answer");
                return Decision::none();
            }
        };
        let why = status["reason"].as_str().unwrap_or_default().to_owned().into();
        let (decision, seconds) = match (status["allowed"] == true, status["denied"] == true) {
            (true, false) => (Decision::Allow(why), ALLOWED_SECONDS),
            (false, true) => (Decision::Deny(why), OTHER_SECONDS),
            (false, false) => (Decision::NoOpinion(why), OTHER_SECONDS),
            // It says both.
            (true, true) => return Decision::none(),
        };
        if question.len() < KEPT_QUESTION_BYTES_MAX {
            let now = clock.unix_seconds();
            known.put(&question, &decision, now, now.saturating_add(seconds));
        }
        decision
    }

    fn rules(&self, _: &User, (cluster, _): (Cluster<'_>, &str), rules: &mut Rules) {
        if cluster.name.is_root() {
            rules.may_be_more("webhook authorizer does not support user rule resolution");
        }
    }
}

fn review(asked: &Attributes<'_>) -> Value {
    let User { name, uid, groups, extra, .. } = asked.user;
    let mut spec = json!({"user": name, "groups": groups});
    if !uid.is_empty() {
        spec["uid"] = json!(uid);
    }
    if !extra.is_empty() {
        spec["extra"] = json!(extra);
    }
    let verb = asked.verb;
    match asked.what {
        What::Path(path) => spec["nonResourceAttributes"] = json!({"path": path, "verb": verb}),
        What::Resource(Resource { group, plural, subresource, namespace, name, .. }) => {
            let mut what = json!({"verb": verb});
            for (key, text) in [
                ("namespace", namespace),
                ("group", group),
                ("resource", plural),
                ("subresource", subresource),
                ("name", name),
            ] {
                if !text.is_empty() {
                    what[key] = json!(text);
                }
            }
            spec["resourceAttributes"] = what;
        }
    }
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "metadata": {}, "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
    use std::time::Duration;

    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::authn::AUTHENTICATED;

    #[derive(Default)]
    struct Elsewhere(AtomicUsize);

    #[async_trait]
    impl Remote for Elsewhere {
        async fn ask(&self, review: &Value) -> Result<Value, String> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let spec = &review["spec"];
            match spec["resourceAttributes"]["resource"].as_str() {
                Some("pods") => Ok(json!({"status": {"allowed": spec["user"] == "jane"}})),
                Some("secrets") => Ok(json!({"status": {"denied": true, "reason": "never"}})),
                Some("odd") => Ok(json!(["no", "review"])),
                Some("both") => Ok(json!({"status": {"allowed": true, "denied": true}})),
                _ => Err("away".to_owned()),
            }
        }
    }

    #[derive(Default)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn unix_nanos(&self) -> i128 {
            i128::from(self.0.load(Ordering::SeqCst)) * 1_000_000_000
        }
    }

    #[tokio::test]
    async fn who_decides_elsewhere_is_asked_once() {
        let (remote, clock) = (Arc::new(Elsewhere::default()), Arc::new(Hands::default()));
        let webhook = AccessWebhook::new(remote.clone(), clock.clone());
        let decide = |cluster: &'static str, user: &'static str, plural: &'static str| {
            let webhook = webhook.clone();
            async move {
                let name = ClusterName::try_from(cluster).unwrap();
                let user = User { name: user.to_owned(), ..User::default() };
                let what = What::Resource(Resource { plural, ..Resource::default() });
                let cluster = Cluster { name: &name, uid: None };
                webhook.decide(&Attributes { user: &user, verb: "get", cluster, what }).await
            }
        };
        let count = || remote.0.load(Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(decide("root", "jane", "pods").await, Decision::Allow("".into()));
            assert_eq!(decide("root", "bob", "pods").await, Decision::none());
            assert_eq!(decide("root", "jane", "secrets").await, Decision::Deny("never".into()));
        }
        assert_eq!(count(), 3);
        assert_eq!(decide("pi-7", "jane", "pods").await, Decision::none(), "it counts in the root");
        assert_eq!(decide("root", "jane", "both").await, Decision::none());
        assert_eq!(decide("root", "jane", "nodes").await, Decision::none());
        assert_eq!(decide("root", "jane", "odd").await, Decision::NoOpinion("".into()));
        assert_eq!(count(), 6);
        clock.0.store(OTHER_SECONDS + 1, Ordering::SeqCst);
        decide("root", "bob", "pods").await;
        decide("root", "jane", "pods").await;
        assert_eq!(count(), 7, "what is allowed counts for longer");
    }

    /// Never has more than some questions at a time.
    #[derive(Default)]
    struct Slow {
        now: AtomicUsize,
        most: AtomicUsize,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Remote for Slow {
        async fn ask(&self, _: &Value) -> Result<Value, String> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            Ok(json!({"status": {"allowed": true}}))
        }
    }

    async fn asks(webhook: &AccessWebhook, user: &User, name: &str) -> Decision {
        let root = ClusterName::root();
        let what = What::Resource(Resource { plural: "pods", name, ..Resource::default() });
        let cluster = Cluster { name: &root, uid: None };
        webhook.decide(&Attributes { user, verb: "get", cluster, what }).await
    }

    #[tokio::test]
    async fn questions_at_a_time_are_bounded_and_most_are_for_those_who_are_known() {
        let remote = Arc::new(Slow::default());
        let webhook = AccessWebhook::new(remote.clone(), Arc::new(Hands::default()));
        let groups = vec![AUTHENTICATED.to_owned()];
        let jane = User { name: "jane".to_owned(), groups, ..User::default() };
        for (user, most) in [(User::anonymous(), STRANGERS_QUESTIONS_MAX), (jane, QUESTIONS_MAX)] {
            let names: Vec<String> = (0..3 * QUESTIONS_MAX).map(|n| n.to_string()).collect();
            let all = names.iter().map(|name| asks(&webhook, &user, name));
            let answers = futures::future::join_all(all).await;
            assert!(answers.iter().all(|it| matches!(it, Decision::Allow(_))));
            assert_eq!(remote.most.load(Ordering::SeqCst), most);
        }
    }

    #[tokio::test]
    async fn long_questions_are_not_remembered() {
        let remote = Arc::new(Slow::default());
        let webhook = AccessWebhook::new(remote.clone(), Arc::new(Hands::default()));
        let long = "n".repeat(KEPT_QUESTION_BYTES_MAX);
        for (name, times) in [("short", 1), (&*long, 3)] {
            let before = remote.asked.load(Ordering::SeqCst);
            asks(&webhook, &User::default(), name).await;
            asks(&webhook, &User::default(), name).await;
            asks(&webhook, &User::default(), name).await;
            assert_eq!(remote.asked.load(Ordering::SeqCst) - before, times);
        }
    }
}
