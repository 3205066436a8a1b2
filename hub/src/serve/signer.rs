//! The fleet's CA and the signer of tokens, as the controllers see them that need them.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_apiserver::{Issuer, PodToken};
use freewheel_hub_controllers::signing::{Authority, RequestedCertificate, SigningError};
use freewheel_hub_controllers::token_secrets::{SecretToken, Tokens};
use freewheel_hub_gateway::{PodTokens, TokensAsked};
use freewheel_hub_pki::{AuthorityError, Certificate, ClientRequest, certificates, encode};
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
        match self.0.sign_client(&request, asked.now.as_second()) {
            Ok(certificate) => Ok(encode("CERTIFICATE", &certificate).into_bytes()),
            Err(error @ (AuthorityError::Request(_) | AuthorityError::Refused(_))) => {
                Err(SigningError::Refused(error.to_string()))
            }
            Err(error) => Err(SigningError::Failed(error.to_string())),
        }
    }

    fn ends(&self, pem: &[u8]) -> Option<Timestamp> {
        let certificates = certificates(pem)?;
        Timestamp::from_second(Certificate::read(certificates.first()?)?.validity().to).ok()
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
