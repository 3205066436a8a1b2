//! What controllers are told of the rest of a hub, where nothing of that is there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_controllers::Config;
use freewheel_hub_controllers::endpoints::Handlers;
use freewheel_hub_controllers::fleet::{HubAccess, ModuleFacts, ModuleLookup};
use freewheel_hub_controllers::rights::{RightAsked, Rights};
use freewheel_hub_controllers::signing::{
    AgentCertificate, AgentSigner, Authority, Issued, RequestedCertificate, SigningError,
};
use freewheel_hub_controllers::token_secrets::{SecretToken, Tokens};
use freewheel_hub_metrics::Metrics;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::error::ApiError;
use serde_json::Value;
use tokio::time::Instant;

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

    /// Its certificates say by whom they are signed, and for whom.
    fn issue(&self, asked: &AgentCertificate<'_>) -> Result<Issued, SigningError> {
        let signer = match asked.signer {
            AgentSigner::Hub => "hub",
            AgentSigner::Custom { certificate: b"broken", .. } => {
                return Err(SigningError::Refused("it cannot sign".to_owned()));
            }
            AgentSigner::Custom { certificate, .. } => std::str::from_utf8(certificate).unwrap(),
        };
        let (now, end) = (asked.now, asked.now + asked.life);
        Ok(Issued { certificate: format!("{now} {end} {signer}"), key: asked.user.to_owned() })
    }

    fn holds(&self, pem: &[u8]) -> Option<(jiff::Timestamp, jiff::Timestamp)> {
        let mut words = std::str::from_utf8(pem).ok()?.split(' ');
        let first = words.next()?;
        Some((first.parse().ok()?, words.next().unwrap_or(first).parse().ok()?))
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
        if of_resource == "addon-manager-controller-sa" {
            let binds = asked.resource == "rolebindings" && asked.namespace != "unbound";
            return binds || (asked.name == "signing-ca" && asked.verb == "get");
        }
        of_resource == "all" || (of_resource == asked.resource && asked.groups.len() == 3)
    }
}

/// A module imports what its tag says, and has as many bytes as its image has letters.
pub struct ByTag;

#[async_trait]
impl ModuleLookup for ByTag {
    async fn facts(&self, image: &str) -> Option<ModuleFacts> {
        let (_, tag) = image.split_once(':')?;
        Some(ModuleFacts { bytes: image.len() as u64, imports: Some([tag.to_owned()].into()) })
    }
}

/// How agents of add-ons reach this hub, and who signs for them.
pub fn hub_access() -> HubAccess {
    HubAccess {
        url: "https://hub.test:6443".to_owned(),
        ca_pem: "-----BEGIN CERTIFICATE-----".to_owned(),
        authority: Arc::new(Notary),
        rights: Arc::new(ByName),
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
            && (person.name.starts_with("system:serviceaccount:pi:")
                || person.name.ends_with(":addon-manager-controller-sa"))
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let Some(role) = object.get("roleRef") else {
            return Err(Refusal::forbidden("it gives away what it does not have"));
        };
        let name = role["name"].as_str().unwrap_or_default().to_owned();
        // The manager of add-ons has all that roles give, but for one.
        let Actor::Person(person) = review.actor else { return Ok(Claims::default()) };
        if person.name.ends_with(":addon-manager-controller-sa") {
            let is_too_much = name == "too-much";
            let refused = Refusal::forbidden("it gives away what it does not have");
            return if is_too_much { Err(refused) } else { Ok(Claims::default()) };
        }
        let (group, plural) = (review.target.kind.group().to_owned(), "roles".to_owned());
        Err(Refusal::NotFound { group, plural, name })
    }
}

/// Annotation of what nobody can write the status of.
pub const UNTOLD: &str = "played/untold";

/// Refuses whatever is written to the status of those.
pub struct StatusRefused;

#[async_trait]
impl Plugin for StatusRefused {
    fn name(&self) -> &'static str {
        "StatusRefused"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.subresource == Some("status")
            && review.old.is_some_and(|old| old["metadata"]["annotations"][UNTOLD].is_string())
    }

    async fn validate(&self, _: &Review<'_>, _: &Value) -> Result<Claims, Refusal> {
        Err(Refusal::forbidden("its status is not to be told"))
    }
}

/// A cluster that refuses the namespace of agents at first, as one does whose webhook is down.
pub const STRICT: &str = "strict";
/// So long, from the hub's start on.
const STRICT_FOR: Duration = Duration::from_mins(10);

/// Refuses it.
pub struct NamespaceRefused(Instant);

impl NamespaceRefused {
    pub fn from_now_on() -> Self {
        Self(Instant::now())
    }
}

#[async_trait]
impl Plugin for NamespaceRefused {
    fn name(&self) -> &'static str {
        "NamespaceRefused"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let target = review.target;
        review.verb == Verb::Create
            && target.kind.plural() == "namespaces"
            && target.cluster.as_str() == STRICT
            && target.name == "open-cluster-management-agent-addon"
    }

    async fn validate(&self, _: &Review<'_>, _: &Value) -> Result<Claims, Refusal> {
        if STRICT_FOR <= self.0.elapsed() {
            return Ok(Claims::default());
        }
        let why = "failed calling webhook \"strict.example.com\"".to_owned();
        Err(Refusal::Denied { code: 500, reason: "InternalError", why, causes: Vec::new() })
    }
}

/// With these images, and pods that take so much.
pub fn config(registry: &Arc<Registry>, usage: &Arc<PlayedUsage>) -> Config {
    let access = hub_access();
    Config {
        advertise: "10.0.0.1:6443".parse().unwrap(),
        api_url: access.url,
        ca_pem: access.ca_pem,
        handlers: Arc::new(AllHandlers),
        images: registry.clone(),
        authority: access.authority,
        tokens: Arc::new(Names),
        rights: access.rights,
        usage: usage.clone(),
        seed: 7,
        metrics: Metrics::default(),
    }
}
