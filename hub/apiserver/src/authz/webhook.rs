//! What somebody else says that callers may do (`--authorization-webhook-config-file`, or the webhooks of
//! `--authorization-config`): a SubjectAccessReview is sent there, of what is asked in the root and of what its conditions
//! select. What is allowed counts for five minutes, what is not for half of one, where nobody says otherwise.
//!
//! Guarantees:
//! - it is asked in its turn, and of who does not answer it is not known whether they would have allowed it: others are
//!   asked (`who_decides_elsewhere_is_asked_once`), or nobody is
//!   (`where_that_was_said_nobody_goes_on_without_an_answer`);
//! - who denies and allows at once has decided, and nobody after it is asked
//!   (`who_denies_and_allows_at_once_ends_the_question`);
//! - it is not asked about what its conditions leave out (`what_conditions_leave_out_is_not_asked`);
//! - strangers neither flood it nor fill the memory with what it said
//!   (`questions_at_a_time_are_bounded_and_most_are_for_those_who_are_known`, `long_questions_are_not_remembered`), nor
//!   have it forgotten of those who are known (`what_strangers_ask_is_remembered_in_the_place_of_no_other_s`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::clock::Clock;
use serde_json::Value;
use tracing::warn;

use super::attributes::{Attributes, Cluster};
use super::authorizer::{Authorizer, Decision, Rules};
use super::configuration::WebhookOptions;
use super::match_conditions::Matched;
use super::subject_access_review::{review, spec};
use super::webhook_figures::WebhookFigures;
use crate::access::remembered::Remembered;
use crate::access::remote::{InTurn, NoAnswer, QUESTIONS_MAX, Remote};
use crate::authn::User;

const ANSWERS_MAX: usize = 8_192;
/// Longer questions are asked each time, as at kube-apiserver: what is remembered is bounded by bytes, too.
const KEPT_QUESTION_BYTES_MAX: usize = 10_000;
/// Questions of strangers that are asked at a time, and answers to them that are remembered.
const STRANGERS_QUESTIONS_MAX: usize = 8;
const STRANGERS_ANSWERS_MAX: usize = 1_024;

/// Asks somebody else.
#[derive(Clone)]
pub(super) struct AccessWebhook(Arc<Inner>);

struct Inner {
    options: WebhookOptions,
    of_the_known: Questions,
    of_strangers: Questions,
    clock: Arc<dyn Clock>,
    figures: Arc<WebhookFigures>,
}

/// Questions about some, in a line and a memory of their own: what strangers ask keeps nobody else from asking, nor is it
/// remembered in the place of what others asked.
struct Questions {
    remote: InTurn,
    answers: Remembered<String, Decision>,
}

impl AccessWebhook {
    /// Asks this one.
    pub(super) fn new(
        remote: Arc<dyn Remote>,
        clock: Arc<dyn Clock>,
        options: WebhookOptions,
    ) -> Self {
        let remote = InTurn::new(remote, QUESTIONS_MAX, options.timeout);
        let figures = WebhookFigures::of(&options.name, remote.figures());
        let of_strangers = Questions {
            remote: remote.beside(STRANGERS_QUESTIONS_MAX),
            answers: Remembered::new(STRANGERS_ANSWERS_MAX),
        };
        let of_the_known = Questions { remote, answers: Remembered::new(ANSWERS_MAX) };
        let figures = Arc::new(figures);
        Self(Arc::new(Inner { options, of_the_known, of_strangers, clock, figures }))
    }

    /// What has become of the questions.
    pub(super) fn figures(&self) -> &Arc<WebhookFigures> {
        &self.0.figures
    }
}

impl Inner {
    fn about(&self, user: &User) -> &Questions {
        if user.is_stranger() { &self.of_strangers } else { &self.of_the_known }
    }

    /// What comes of it where nobody has said anything.
    fn without_answer(&self, why: &NoAnswer) -> Decision {
        if self.options.fails_closed {
            return self.failed(&match why {
                NoAnswer::Crowded => why.to_string(),
                NoAnswer::Failed(why) => format!("it does not answer: {why}"),
            });
        }
        self.figures.went_on.inc();
        Decision::Unanswered(why.to_string().into())
    }

    /// Nobody goes on without it. It has not said no: a client that reads one gives up.
    fn failed(&self, why: &str) -> Decision {
        Decision::Failed(format!("webhook {:?}: {why}", self.options.name).into())
    }

    /// What is asked about, and for how long what is decided counts.
    async fn decide(&self, user: &User, spec: Value) -> (Decision, Option<Duration>) {
        let WebhookOptions { name, allowed_ttl, other_ttl, .. } = &self.options;
        match self.options.conditions.matched(&spec) {
            Matched::Asked => {}
            Matched::Left => {
                self.figures.left_out.inc();
                return (Decision::none(), *other_ttl);
            }
            Matched::Unknown(why) => {
                self.figures.unknown.inc();
                warn!(webhook = name, %why, "a condition of a webhook has no value");
                let decision = if self.options.fails_closed {
                    self.failed(&format!("it cannot be asked: {why}"))
                } else {
                    Decision::Unanswered(why.into())
                };
                return (decision, None);
            }
        }
        let status = match self.about(user).remote.ask(&review(spec)).await {
            Ok(answer) => answer.get("status").cloned().unwrap_or_default(),
            Err(error) => {
                warn!(webhook = name, %error, "the webhook that decides on access does not answer");
                return (self.without_answer(&error), None);
            }
        };
        let why = status["reason"].as_str().unwrap_or_default().to_owned().into();
        match (status["allowed"] == true, status["denied"] == true) {
            (true, false) => (Decision::Allow(why), *allowed_ttl),
            (false, true) => (Decision::Deny(why), *other_ttl),
            (false, false) => (Decision::NoOpinion(why), *other_ttl),
            (true, true) => {
                // Whatever its policy is where it says nothing: nobody after it may allow what it denies.
                let why = "webhook subject access review returned both allow and deny response";
                (Decision::Failed(why.into()), None)
            }
        }
    }
}

#[async_trait]
impl Authorizer for AccessWebhook {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        if !asked.cluster.name.is_root() {
            return Decision::none();
        }
        let (clock, answers) = (&self.0.clock, &self.0.about(asked.user).answers);
        let spec = spec(asked);
        let question = spec.to_string();
        if let Some(decision) = answers.get(&question, clock.unix_seconds()) {
            return decision;
        }
        let (decision, ttl) = self.0.decide(asked.user, spec).await;
        if let Some(ttl) = ttl.filter(|_| question.len() < KEPT_QUESTION_BYTES_MAX) {
            let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
            let now = clock.unix_seconds();
            answers.put(&question, &decision, now, now.saturating_add(seconds));
        }
        decision
    }

    fn rules(&self, _: &User, (cluster, _): (Cluster<'_>, &str), rules: &mut Rules) {
        if cluster.name.is_root() {
            rules.may_be_more("webhook authorizer does not support user rule resolution");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
    use std::time::Duration;

    use freewheel_link::names::ClusterName;
    use serde_json::json;

    use super::*;
    use crate::authn::AUTHENTICATED;
    use crate::authz::always::Always;
    use crate::authz::attributes::{Resource, What};
    use crate::authz::authorizers::Authorizers;
    use crate::authz::match_conditions::MatchConditions;

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
        let webhook = AccessWebhook::new(remote.clone(), clock.clone(), WebhookOptions::default());
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
        let both = "webhook subject access review returned both allow and deny response";
        assert_eq!(decide("root", "jane", "both").await, Decision::Failed(both.into()));
        assert_eq!(decide("root", "jane", "nodes").await, Decision::Unanswered("away".into()));
        assert_eq!(decide("root", "jane", "odd").await, Decision::NoOpinion("".into()));
        assert_eq!(count(), 6);
        clock.0.store(31, Ordering::SeqCst);
        decide("root", "bob", "pods").await;
        decide("root", "jane", "pods").await;
        assert_eq!(count(), 7, "what is allowed counts for longer");
    }

    #[tokio::test]
    async fn who_denies_and_allows_at_once_ends_the_question() {
        for fails_closed in [false, true] {
            let options = WebhookOptions { fails_closed, ..WebhookOptions::default() };
            let hands = Arc::new(Hands::default());
            let webhook = AccessWebhook::new(Arc::new(Elsewhere::default()), hands, options);
            let all = Authorizers::of(vec![Box::new(webhook.clone()), Box::new(Always(true))]);
            let what = What::Resource(Resource { plural: "both", ..Resource::default() });
            let cluster = Cluster { name: &ClusterName::root(), uid: None };
            let groups = vec![AUTHENTICATED.to_owned()];
            let user = User { name: "jane".to_owned(), groups, ..User::default() };
            let asked = Attributes { user: &user, verb: "get", cluster, what };
            assert_eq!(all.check(&asked).await.map_err(|error| error.code), Err(500));
            assert_eq!(webhook.0.figures.went_on.get(), 0, "nobody went on");
        }
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
        let webhook = AccessWebhook::new(
            remote.clone(),
            Arc::new(Hands::default()),
            WebhookOptions::default(),
        );
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
    async fn what_strangers_ask_is_remembered_in_the_place_of_no_other_s() {
        let remote = Arc::new(Elsewhere::default());
        let hands = Arc::new(Hands::default());
        let webhook = AccessWebhook::new(remote.clone(), hands, WebhookOptions::default());
        let groups = vec![AUTHENTICATED.to_owned()];
        let jane = User { name: "jane".to_owned(), groups, ..User::default() };
        asks(&webhook, &jane, "mine").await;
        for name in 0..ANSWERS_MAX {
            asks(&webhook, &User::anonymous(), &name.to_string()).await;
        }
        let before = remote.0.load(Ordering::SeqCst);
        assert_eq!(before, 1 + ANSWERS_MAX);
        assert_eq!(asks(&webhook, &jane, "mine").await, Decision::Allow("".into()));
        assert_eq!(remote.0.load(Ordering::SeqCst), before, "it is known yet");
    }

    #[tokio::test]
    async fn long_questions_are_not_remembered() {
        let remote = Arc::new(Slow::default());
        let webhook = AccessWebhook::new(
            remote.clone(),
            Arc::new(Hands::default()),
            WebhookOptions::default(),
        );
        let long = "n".repeat(KEPT_QUESTION_BYTES_MAX);
        for (name, times) in [("short", 1), (&*long, 3)] {
            let before = remote.asked.load(Ordering::SeqCst);
            asks(&webhook, &User::default(), name).await;
            asks(&webhook, &User::default(), name).await;
            asks(&webhook, &User::default(), name).await;
            assert_eq!(remote.asked.load(Ordering::SeqCst) - before, times);
        }
    }

    #[tokio::test]
    async fn where_that_was_said_nobody_goes_on_without_an_answer() {
        let conditions = MatchConditions::read(vec![
            "request.user == request.nonResourceAttributes.path".to_owned(),
        ]);
        for (conditions, why) in [
            (MatchConditions::default(), "webhook \"default\": it does not answer: away"),
            (conditions.unwrap(), "webhook \"default\": it cannot be asked: "),
        ] {
            let options =
                WebhookOptions { fails_closed: true, conditions, ..WebhookOptions::default() };
            let hands = Arc::new(Hands::default());
            let webhook = AccessWebhook::new(Arc::new(Elsewhere::default()), hands, options);
            let all = Authorizers::of(vec![Box::new(webhook.clone()), Box::new(Always(true))]);
            let groups = vec![AUTHENTICATED.to_owned()];
            let user = User { name: "jane".to_owned(), groups, ..User::default() };
            let what = What::Resource(Resource { plural: "nodes", ..Resource::default() });
            let cluster = Cluster { name: &ClusterName::root(), uid: None };
            let asked = Attributes { user: &user, verb: "get", cluster, what };
            let error = all.check(&asked).await.unwrap_err();
            assert_eq!(error.code, 500, "no 403, after which clients give up");
            assert!(error.message.contains(why), "{}", error.message);
            assert_eq!(webhook.0.figures.went_on.get(), 0, "nobody went on");
        }
    }

    #[tokio::test]
    async fn what_conditions_leave_out_is_not_asked() {
        let remote = Arc::new(Elsewhere::default());
        let conditions = MatchConditions::read(vec![
            "has(request.resourceAttributes.fieldSelector) || request.user != 'jane'".to_owned(),
            "request.resourceAttributes.version in ['v1', '*']".to_owned(),
            "!has(request.resourceAttributes.labelSelector) || \
                request.resourceAttributes.labelSelector.requirements.all(r, r.values == ['x'])"
                .to_owned(),
        ]);
        let options =
            WebhookOptions { conditions: conditions.unwrap(), ..WebhookOptions::default() };
        let webhook = AccessWebhook::new(remote.clone(), Arc::new(Hands::default()), options);
        let name = ClusterName::root();
        for (who, (version, fields, labels), decided, asked) in [
            ("jane", ("v1", "", ""), Decision::none(), 0),
            ("jane", ("v1", "", ""), Decision::none(), 0),
            ("jane", ("v1", "a=b,c!=d", ""), Decision::Allow("".into()), 1),
            ("jane", ("v2", "a=b,c!=d", ""), Decision::none(), 1),
            ("jane", ("v1", "a=b,c!=d", "a=x"), Decision::Allow("".into()), 2),
            ("jane", ("v1", "a=b,c!=d", "a=y"), Decision::none(), 2),
            ("bob", ("", "", ""), Decision::none(), 3),
        ] {
            let user = User { name: who.to_owned(), ..User::default() };
            let what = Resource { plural: "pods", version, fields, labels, ..Resource::default() };
            let (cluster, what) = (Cluster { name: &name, uid: None }, What::Resource(what));
            let asks = Attributes { user: &user, verb: "list", cluster, what };
            assert_eq!(webhook.decide(&asks).await, decided, "{who} {what:?}");
            assert_eq!(remote.0.load(Ordering::SeqCst), asked, "{who} {what:?}");
        }
        assert_eq!(webhook.0.figures.left_out.get(), 3, "and it is remembered");
    }
}
