//! What stands in a played hub where its binary brings something: who signs, who knows images, tokens and rights.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_controllers::endpoints::Handlers;
use freewheel_hub_controllers::fleet::HubAccess;
use freewheel_hub_controllers::rights::{RightAsked, Rights};
use freewheel_hub_controllers::signing::{
    AgentCertificate, AgentSigner, Authority, Issued, RequestedCertificate, SigningError,
};
use freewheel_hub_controllers::token_secrets::{SecretToken, Tokens};
use freewheel_hub_schema::error::ApiError;

/// Stands where the CA is: signs whatever asks politely, for as long as it asks.
#[derive(Debug)]
struct Notary;

/// Every image is an HTTP handler.
#[derive(Debug)]
pub struct AllHandlers;

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
pub struct Names;

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
            return asked.name == "signing-ca" && asked.verb == "get";
        }
        of_resource == "all" || (of_resource == asked.resource && asked.groups.len() == 3)
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
