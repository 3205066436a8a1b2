//! One webhook, as a configuration says it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::conditions::Conditions;
use crate::selection::Selection;

/// Calls of one webhook at a time.
const CALLS_OF_WEBHOOK: usize = 16;
/// The port of a Service that is meant where none is named.
const HTTPS_PORT: u16 = 443;
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
    pub(super) target: Target,
    /// Who vouches for it, as PEM.
    pub(super) authorities: String,
    /// Calls at a time.
    pub(super) turns: Arc<Semaphore>,
}

/// Where it is.
#[derive(Debug)]
pub(super) enum Target {
    Url(String),
    Service { namespace: String, name: String, port: u16, path: String },
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
        let client = &hook["clientConfig"];
        let service = &client["service"];
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
            authorities: pem(&text(&client["caBundle"])),
            target: if service.is_null() {
                Target::Url(text(&client["url"]))
            } else {
                let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok());
                Target::Service {
                    namespace: text(&service["namespace"]),
                    name: text(&service["name"]),
                    port: port.unwrap_or(HTTPS_PORT),
                    path: text(&service["path"]),
                }
            },
            turns: Arc::new(Semaphore::new(CALLS_OF_WEBHOOK)),
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

/// A `caBundle`, which is PEM in base64.
fn pem(bundle: &str) -> String {
    STANDARD.decode(bundle).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}
