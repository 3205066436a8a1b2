//! What controllers are told of the rest of a hub, where nothing of that is there.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_controllers::Config;
use freewheel_hub_controllers::endpoints::Handlers;
use freewheel_hub_controllers::rights::{RightAsked, Rights};
use freewheel_hub_controllers::signing::{Authority, RequestedCertificate, SigningError};
use freewheel_hub_controllers::token_secrets::{SecretToken, Tokens};
use freewheel_hub_metrics::Metrics;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review};
use freewheel_hub_schema::error::ApiError;
use serde_json::Value;

use super::{PlayedUsage, Registry};

/// Stands where the CA is: signs whatever asks politely, for as long as it asks.
#[derive(Debug)]
struct Notary;

/// Every image is an HTTP handler.
#[derive(Debug)]
struct AllHandlers;

impl Handlers for AllHandlers {
    fn is_handler(&self, _: &str) -> Option<bool> {
        Some(true)
    }
}

impl Authority for Notary {
    fn sign(&self, asked: &RequestedCertificate<'_>) -> Result<Vec<u8>, SigningError> {
        if !asked.usages.iter().any(|usage| usage == "client auth") {
            return Err(SigningError::Refused("not for clients".to_owned()));
        }
        let end = asked.now + asked.life;
        Ok(end.to_string().into_bytes())
    }

    fn ends(&self, pem: &[u8]) -> Option<jiff::Timestamp> {
        std::str::from_utf8(pem).ok()?.parse().ok()
    }
}

/// Signs nothing: a token says for whom it is.
struct Names;

#[async_trait]
impl Tokens for Names {
    async fn in_secret(&self, asked: SecretToken<'_>) -> Result<String, ApiError> {
        let SecretToken { cluster, namespace, secret, account, account_uid, .. } = asked;
        Ok(format!("{cluster}/{namespace}/{secret}/{account}/{account_uid}"))
    }
}

/// An account may do everything with the resource that it is called after.
struct ByName;

#[async_trait]
impl Rights for ByName {
    async fn may(&self, asked: RightAsked<'_>) -> bool {
        let of_resource = asked.user.rsplit(':').next().unwrap_or_default();
        of_resource == "all" || (of_resource == asked.resource && asked.groups.len() == 3)
    }
}

/// Refuses roles that service accounts write, and knows no role that they bind.
pub struct NoRolesOfAccounts;

#[async_trait]
impl Plugin for NoRolesOfAccounts {
    fn name(&self) -> &'static str {
        "NoRolesOfAccounts"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let Actor::Person(person) = review.actor else { return false };
        ["roles", "rolebindings"].contains(&review.target.kind.plural())
            && person.name.starts_with("system:serviceaccount:pi:")
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let Some(role) = object.get("roleRef") else {
            return Err(Refusal::forbidden("it gives away what it does not have"));
        };
        let name = role["name"].as_str().unwrap_or_default().to_owned();
        let (group, plural) = (review.target.kind.group().to_owned(), "roles".to_owned());
        Err(Refusal::NotFound { group, plural, name })
    }
}

/// With these images, and pods that take so much.
pub fn config(registry: &Arc<Registry>, usage: &Arc<PlayedUsage>) -> Config {
    Config {
        advertise: "10.0.0.1:6443".parse().unwrap(),
        ca_pem: "-----BEGIN CERTIFICATE-----".to_owned(),
        handlers: Arc::new(AllHandlers),
        images: registry.clone(),
        authority: Arc::new(Notary),
        tokens: Arc::new(Names),
        rights: Arc::new(ByName),
        usage: usage.clone(),
        seed: 7,
        metrics: Metrics::default(),
    }
}
