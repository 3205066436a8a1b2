//! The fleet's CA and the signer of tokens, as the controllers see them that need them.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_apiserver::{Issuer, PodToken};
use freewheel_hub_controllers::signing::{
    AgentCertificate, AgentSigner, Authority, Issued, RequestedCertificate, SigningError,
};
use freewheel_hub_controllers::token_secrets::{SecretToken, Tokens};
use freewheel_hub_gateway::{PodTokens, TokensAsked};
use freewheel_hub_pki::{
    AgentRequest, AuthorityError, Certificate, ClientRequest, ForeignRequest, certificates, encode,
};
use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::TokenKey;
use jiff::Timestamp;

/// The CA.
#[derive(Debug)]
pub struct Signer(pub Arc<freewheel_hub_pki::Authority>);

impl Authority for Signer {
    fn sign(&self, asked: &RequestedCertificate<'_>) -> Result<Vec<u8>, SigningError> {
        let request = ClientRequest { pem: asked.pem, usages: asked.usages, life: asked.life };
        let signed = self.0.sign_client(&request, asked.now.as_second());
        signed
            .map(|it| encode("CERTIFICATE", &it).into_bytes())
            .map_err(|error| signing_error(&error))
    }

    fn issue(&self, asked: &AgentCertificate<'_>) -> Result<Issued, SigningError> {
        let AgentCertificate { cluster, add_on, user, groups, units, life, .. } = *asked;
        let now = asked.now.as_second();
        let pair = match asked.signer {
            AgentSigner::Hub => {
                let AgentCertificate { uid, cluster_uid, agent_key, .. } = *asked;
                let of = AgentRequest {
                    cluster,
                    add_on,
                    uid,
                    cluster_uid,
                    agent_key,
                    user,
                    groups,
                    life,
                };
                self.0.issue_agent(&of, now).map_err(|error| signing_error(&error))?
            }
            AgentSigner::Custom { certificate, key } => {
                let asked = ForeignRequest { add_on, user, groups, units, life };
                let ca = freewheel_hub_pki::Authority::in_pem(certificate, key);
                // Whatever else is wrong is so until somebody changes the Secret.
                let pair = ca.and_then(|ca| ca.issue_foreign(&asked, now));
                pair.map_err(|error| match error {
                    AuthorityError::Clock(_) => signing_error(&error),
                    wrong => SigningError::Refused(wrong.to_string()),
                })?
            }
        };
        Ok(Issued { certificate: pair.certificate, key: pair.key })
    }

    fn holds(&self, pem: &[u8]) -> Option<(Timestamp, Timestamp)> {
        let certificates = certificates(pem)?;
        let validity = Certificate::read(certificates.first()?)?.validity();
        let at = |second| Timestamp::from_second(second).ok();
        Some((at(validity.from)?, at(validity.to)?))
    }
}

fn signing_error(error: &AuthorityError) -> SigningError {
    match error {
        AuthorityError::Request(_) | AuthorityError::Refused(_) => {
            SigningError::Refused(error.to_string())
        }
        AuthorityError::Authority(_)
        | AuthorityError::Pair
        | AuthorityError::Expired
        | AuthorityError::Clock(_) => SigningError::Failed(error.to_string()),
    }
}

/// Signs tokens of service accounts.
#[derive(Clone)]
pub struct TokenSigner(pub Issuer);

#[async_trait]
impl PodTokens for TokenSigner {
    fn sign(&self, asked: &TokensAsked, which: &TokenKey) -> Result<String, ApiError> {
        self.0.for_pod(&PodToken {
            cluster: &asked.realm,
            namespace: &asked.namespace,
            account: &asked.account,
            pod: (&asked.pod, &asked.uid),
            node: &asked.node,
            audience: &which.audience,
            seconds: which.seconds.try_into().unwrap_or(i64::MAX),
        })
    }

    async fn prepare(&self, cluster: &ClusterName) -> Result<(), ApiError> {
        self.0.prepare(cluster).await
    }
}

#[async_trait]
impl Tokens for TokenSigner {
    async fn in_secret(&self, asked: SecretToken<'_>) -> Result<String, ApiError> {
        let SecretToken { cluster, namespace, secret, account, account_uid, expect } = asked;
        self.0.in_secret(cluster, (namespace, secret), (account, account_uid), &expect).await
    }
}
