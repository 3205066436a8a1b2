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
//!   (`questions_at_a_time_are_bounded_and_most_are_for_those_who_are_known`, `long_questions_are_not_remembered`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::clock::Clock;
use freewheel_hub_schema::selector::FieldSelector;
use serde_json::{Value, json};
use tracing::warn;

use super::attributes::{Attributes, Cluster, Resource, What};
use super::authorizer::{Authorizer, Decision, Rules};
use super::configuration::WebhookOptions;
use super::match_conditions::Matched;
use super::webhook_figures::WebhookFigures;
use crate::access::remembered::Remembered;
use crate::access::remote::{InTurn, NoAnswer, QUESTIONS_MAX, Remote};
use crate::authn::User;

const ANSWERS_MAX: usize = 8_192;
/// Longer questions are asked each time, as at kube-apiserver: what is remembered is bounded by bytes, too.
const KEPT_QUESTION_BYTES_MAX: usize = 10_000;
/// Questions of strangers that are asked at a time.
const STRANGERS_QUESTIONS_MAX: usize = 8;

/// Asks somebody else.
#[derive(Clone)]
pub(super) struct AccessWebhook(Arc<Inner>);

struct Inner {
    options: WebhookOptions,
    remote: InTurn,
    /// The same for strangers, who keep nobody else from asking.
    remote_of_strangers: InTurn,
    clock: Arc<dyn Clock>,
    known: Remembered<String, Decision>,
    figures: Arc<WebhookFigures>,
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
        Self(Arc::new(Inner {
            figures: Arc::new(figures),
            remote_of_strangers: remote.beside(STRANGERS_QUESTIONS_MAX),
            remote,
            options,
            clock,
            known: Remembered::new(ANSWERS_MAX),
        }))
    }

    /// What has become of the questions.
    pub(super) fn figures(&self) -> &Arc<WebhookFigures> {
        &self.0.figures
    }
}

impl Inner {
    async fn ask(&self, user: &User, review: &Value) -> Result<Value, NoAnswer> {
        let lines = (&self.remote_of_strangers, &self.remote);
        let line = if user.is_stranger() { lines.0 } else { lines.1 };
        line.ask(review).await
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
        let status = match self.ask(user, &review(spec)).await {
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
        let Inner { clock, known, .. } = &*self.0;
        let spec = spec(asked);
        let question = spec.to_string();
        if let Some(decision) = known.get(&question, clock.unix_seconds()) {
            return decision;
        }
        let (decision, ttl) = self.0.decide(asked.user, spec).await;
        if let Some(ttl) = ttl.filter(|_| question.len() < KEPT_QUESTION_BYTES_MAX) {
            let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
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

/// What is asked, with all texts, as conditions see it.
fn spec(asked: &Attributes<'_>) -> Value {
    let User { name, uid, groups, extra, .. } = asked.user;
    let mut spec = json!({"user": name, "groups": groups, "uid": uid, "extra": extra});
    let verb = asked.verb;
    match asked.what {
        What::Path(path) => spec["nonResourceAttributes"] = json!({"path": path, "verb": verb}),
        What::Resource(Resource { group, plural, subresource, namespace, name, fields }) => {
            spec["resourceAttributes"] = json!({"namespace": namespace, "verb": verb, "group": group,
                "resource": plural, "subresource": subresource, "name": name});
            let selector = FieldSelector::read(fields).unwrap_or_default();
            let requirements: Vec<Value> = selector
                .terms()
                .map(|(key, is, value)| {
                    let operator = if is { "In" } else { "NotIn" };
                    json!({"key": key, "operator": operator, "values": [value]})
                })
                .collect();
            if !requirements.is_empty() {
                let selector = json!({"requirements": requirements});
                spec["resourceAttributes"]["fieldSelector"] = selector;
            }
        }
    }
    spec
}

/// The same as it is sent: without what is empty.
fn review(mut spec: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    };
    for path in ["", "/resourceAttributes"] {
        if let Some(all) = spec.pointer_mut(path).and_then(Value::as_object_mut) {
            all.retain(|_, value| !is_empty(value));
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
    use crate::authz::always::Always;
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
        let conditions = MatchConditions::read(["request.user == request.none".to_owned()]);
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
        let text = "has(request.resourceAttributes.fieldSelector) || request.user != 'jane'";
        let conditions = MatchConditions::read([text.to_owned()]).unwrap();
        let options = WebhookOptions { conditions, ..WebhookOptions::default() };
        let webhook = AccessWebhook::new(remote.clone(), Arc::new(Hands::default()), options);
        let name = ClusterName::root();
        for (who, fields, decided, asked) in [
            ("jane", "", Decision::none(), 0),
            ("jane", "", Decision::none(), 0),
            ("jane", "a=b,c!=d", Decision::Allow("".into()), 1),
            ("bob", "", Decision::none(), 2),
        ] {
            let user = User { name: who.to_owned(), ..User::default() };
            let what = What::Resource(Resource { plural: "pods", fields, ..Resource::default() });
            let cluster = Cluster { name: &name, uid: None };
            let asks = Attributes { user: &user, verb: "list", cluster, what };
            assert_eq!(webhook.decide(&asks).await, decided, "{who} {fields}");
            assert_eq!(remote.0.load(Ordering::SeqCst), asked, "{who} {fields}");
        }
        assert_eq!(webhook.0.figures.left_out.get(), 1, "and it is remembered");
    }
}
