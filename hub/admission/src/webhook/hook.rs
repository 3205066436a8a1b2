//! One webhook, as a configuration says it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::client_config::ClientConfig;
use super::failures::Failures;
use crate::conditions::Conditions;
use crate::selection::Selection;

/// Calls of one webhook at a time.
const WEBHOOK_CALLS_MAX: usize = 16;
/// How long one is waited for that does not say.
const TIMEOUT_SECONDS: u64 = 10;

/// A webhook.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(super) configuration: String,
    pub(super) name: String,
    pub(crate) selection: Selection,
    pub(super) conditions: Arc<Conditions>,
    /// Who cannot be asked refuses.
    pub(super) fails: bool,
    pub(super) timeout: Duration,
    /// Of AdmissionReview, the first that is known here.
    pub(super) version: Option<&'static str>,
    /// It wants to be asked again when others change what it saw.
    pub(super) reinvoked: bool,
    /// Where it is.
    pub(super) client: ClientConfig,
    /// Calls at a time.
    pub(super) turns: Arc<Semaphore>,
    /// Those in vain.
    pub(super) failures: Failures,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Webhook {
    /// Those of a configuration.
    pub(crate) fn list(body: &Value) -> Vec<Arc<Self>> {
        let configuration = text(&body["metadata"]["name"]);
        let hooks = body["webhooks"].as_array().into_iter().flatten();
        hooks.map(|hook| Arc::new(Self::read(&configuration, hook))).collect()
    }

    fn read(configuration: &str, hook: &Value) -> Self {
        const KNOWN: [&str; 2] = ["v1", "v1beta1"];
        let versions = hook["admissionReviewVersions"].as_array().into_iter().flatten();
        let mut known =
            versions.filter_map(|version| KNOWN.iter().find(|known| version == **known));
        Self {
            configuration: configuration.to_owned(),
            name: text(&hook["name"]),
            selection: Selection::of_webhook(hook),
            conditions: Arc::new(Conditions::read(hook, false)),
            fails: hook["failurePolicy"] != "Ignore",
            timeout: Duration::from_secs(
                hook["timeoutSeconds"].as_u64().unwrap_or(TIMEOUT_SECONDS),
            ),
            version: known.next().copied(),
            reinvoked: hook["reinvocationPolicy"] == "IfNeeded",
            client: ClientConfig::read(&hook["clientConfig"]),
            turns: Arc::new(Semaphore::new(WEBHOOK_CALLS_MAX)),
            failures: Failures::default(),
        }
    }

    /// By what it is known from one round to the next.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.configuration, self.name)
    }

    /// It cannot be asked.
    pub(super) fn failed(&self, why: &str) -> String {
        format!("failed calling webhook {:?}: {why}", self.name)
    }
}
