//! Webhooks that admit what is written, and those that convert it, are called over HTTPS, each call on a connection of its
//! own.
//!
//! Guarantees:
//! - an answer is bounded, and whom no authority vouches for that the configuration names is told nothing
//!   (`webhooks_are_asked_over_tls`);
//! - one behind a Service is reached in a pod of its, and has to be who the Service's name says
//!   (`a_webhook_behind_a_service_is_reached_in_its_pod`,
//!   `a_conversion_webhook_behind_a_service_is_reached_in_its_pod`);
//! - a webhook of a spoke's cluster reaches nothing that is not everybody's to reach, by its address
//!   (`a_tenants_webhook_reaches_nothing_of_the_host_and_its_networks`), and its owner does not learn what the hub's network
//!   knows of a name (`a_stranger_is_not_told_what_a_name_resolves_to`).

use std::sync::OnceLock;

use async_trait::async_trait;
use freewheel_hub_admission::{Address, CallError, Caller, ServicePort, Unsuccessful};
use freewheel_hub_apiserver::ServiceDialer;
use freewheel_link::transport::Stream;

use super::webhook::Https;
use crate::client::ClientError;

/// Largest answer that is read: an object's worth of patches.
const ANSWER_BYTES_MAX: usize = 3 << 20;

/// Calls them.
#[derive(Default)]
pub(super) struct AdmissionWebhooks(OnceLock<ServiceDialer>);

impl AdmissionWebhooks {
    /// From here on those behind Services are reached, too, in this way.
    pub(super) fn reach_services(&self, dialer: ServiceDialer) {
        // There is one way to pods in a process.
        let _ = self.0.set(dialer);
    }

    async fn dial(&self, service: &ServicePort) -> Result<Stream, CallError> {
        let lost = |why: String| CallError::Unreachable(why);
        let Some(dialer) = self.0.get() else {
            return Err(lost("the hub has just started and reaches no pods yet".to_owned()));
        };
        let ServicePort { cluster, namespace, name, port } = service;
        let dialled = dialer.dial(cluster, (namespace, name), *port).await;
        dialled.map_err(|error| lost(error.message))
    }
}

#[async_trait]
impl Caller for AdmissionWebhooks {
    async fn call(&self, address: &Address, review: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let lost = |why: String| CallError::Unreachable(why);
        let https =
            Https::trusting(&address.authorities).map_err(|error| lost(error.to_string()))?;
        let client = https.client(&address.url).map_err(lost)?.reading(ANSWER_BYTES_MAX);
        let client = if address.of_tenant { client.kept_out() } else { client };
        let answer = match &address.service {
            Some(service) => client.post_over(self.dial(service).await?, review).await,
            None => client.post(review).await,
        };
        let answer = answer.map_err(|error| lost(reason(&error)))?;
        if answer.status.is_success() {
            return Ok(answer.body.to_vec());
        }
        let code = answer.status.as_u16();
        Err(CallError::Answered(Unsuccessful::of(code, &answer.content_type, &answer.body)))
    }
}

fn reason(error: &ClientError) -> String {
    match error {
        ClientError::Connect { source, .. } => format!("dial tcp: {source}"),
        other => crate::chain(other),
    }
}

#[cfg(test)]
mod tests;
