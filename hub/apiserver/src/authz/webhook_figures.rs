//! What has become of questions to the webhooks that say what callers may do.
//!
//! Guarantees:
//! - it is counted of each of them, and all are shown together: a name is there once in the text
//!   (`questions_are_counted_by_what_became_of_them`).

use std::sync::Arc;

use freewheel_hub_metrics::{Counter, MetricFamily, MetricKind, Metrics, Sample, Value};

use crate::access::question_figures::QuestionFigures;

/// Of one webhook.
pub(super) struct WebhookFigures {
    name: String,
    questions: Arc<QuestionFigures>,
    /// How often it did not answer and others went on without it.
    pub(super) went_on: Counter,
    /// How often conditions left something out, and had no value.
    pub(super) left_out: Counter,
    pub(super) unknown: Counter,
}

impl WebhookFigures {
    /// Of the one of this name.
    pub(super) fn of(name: &str, questions: &Arc<QuestionFigures>) -> Self {
        Self {
            name: name.to_owned(),
            questions: questions.clone(),
            went_on: Counter::default(),
            left_out: Counter::default(),
            unknown: Counter::default(),
        }
    }

    /// Shows those of all of them.
    pub(super) fn show(all: &[Arc<Self>], metrics: &Metrics) {
        if all.is_empty() {
            return;
        }
        let named = || {
            let of = |one: &Arc<Self>| (vec![("name", one.name.clone())], one.questions.clone());
            all.iter().map(of).collect()
        };
        let help = "Questions to webhooks about what callers may do, by what became of them";
        let evaluations = ("apiserver_authorization_webhook_evaluations", help);
        metrics.show(QuestionFigures::counted(evaluations, named()));
        let help = "Time in seconds of questions to webhooks about what callers may do";
        let duration = ("apiserver_authorization_webhook_duration_seconds", help);
        metrics.show(QuestionFigures::timed(duration, named()));
        let help = "Questions to webhooks without an answer, after which others decided";
        let name = "apiserver_authorization_webhook_evaluations_fail_open";
        metrics.show(counted((name, help), all, &[], |it| &it.went_on));
        let typed = &[("type", "Webhook")];
        let help = "Questions that the conditions of a webhook left out";
        let name = "apiserver_authorization_match_condition_exclusions";
        metrics.show(counted((name, help), all, typed, |it| &it.left_out));
        let help = "Questions for which the conditions of a webhook had no value";
        let name = "apiserver_authorization_match_condition_evaluation_errors";
        metrics.show(counted((name, help), all, typed, |it| &it.unknown));
    }
}

/// One figure of each, with these labels after its name.
fn counted(
    named: (&'static str, &'static str),
    all: &[Arc<WebhookFigures>],
    more: &'static [(&'static str, &'static str)],
    of: fn(&WebhookFigures) -> &Counter,
) -> MetricFamily {
    let all = all.to_vec();
    MetricFamily::new(named, MetricKind::Counter, move || {
        let sample = |one: &Arc<WebhookFigures>| {
            let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
            let labels = [("name", one.name.clone())].into_iter().chain(more).collect();
            Sample { labels, value: Value::Whole(of(one).get()) }
        };
        all.iter().map(sample).collect()
    })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use freewheel_hub_metrics::Format;
    use freewheel_hub_rbac::Index;
    use freewheel_hub_store::Store;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::names::ClusterName;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::access::remote::Remote;
    use crate::authn::User;
    use crate::authz::attributes::{Attributes, Cluster, Resource, What};
    use crate::authz::authorizer::Authorizer as _;
    use crate::authz::authorizers::{AuthorizerOptions, Authorizers};
    use crate::authz::configuration::WebhookOptions;

    struct Elsewhere;

    #[async_trait]
    impl Remote for Elsewhere {
        async fn ask(&self, review: &Json) -> Result<Json, String> {
            match review["spec"]["resourceAttributes"]["resource"].as_str() {
                Some("nodes") => Err("away".to_owned()),
                _ => Ok(json!({"status": {"allowed": false}})),
            }
        }
    }

    #[tokio::test]
    async fn questions_are_counted_by_what_became_of_them() {
        let named = |name: &str| {
            let options = WebhookOptions { name: name.to_owned(), ..WebhookOptions::default() };
            AuthorizerOptions::Webhook(options, Arc::new(Elsewhere))
        };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (rights, _) = Index::over(store.clone());
        let webhooks = Authorizers::over(&store, &rights, vec![named("default"), named("other")]);
        let metrics = Metrics::default();
        webhooks.show(&metrics);
        let name = ClusterName::root();
        for plural in ["pods", "secrets", "nodes"] {
            let user = User { name: "jane".to_owned(), ..User::default() };
            let what = What::Resource(Resource { plural, ..Resource::default() });
            let cluster = Cluster { name: &name, uid: None };
            webhooks.decide(&Attributes { user: &user, verb: "get", cluster, what }).await;
        }
        let text = metrics.text(Format::Prometheus).unwrap();
        let mut types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!((types.len(), all), (5, 5), "{text}");
        for line in [
            "apiserver_authorization_webhook_evaluations_total{name=\"default\",result=\"success\"} 2",
            "apiserver_authorization_webhook_evaluations_total{name=\"default\",result=\"error\"} 1",
            "apiserver_authorization_webhook_evaluations_fail_open_total{name=\"default\"} 1",
            "apiserver_authorization_webhook_evaluations_total{name=\"other\",result=\"error\"} 1",
            "apiserver_authorization_webhook_evaluations_fail_open_total{name=\"other\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
