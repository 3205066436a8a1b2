//! Fills Secrets of the type `kubernetes.io/service-account-token`: a token of the account that they name, which is good
//! as long as the Secret holds it.
//!
//! Guarantees:
//! - such a Secret gets a token, the CA and its namespace, and goes with its account, by UID
//!   (`a_secret_for_a_token_is_filled_and_goes_with_its_account`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Expect, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::engine::client::{everywhere, in_namespace, key as key_of, kind};
use crate::engine::{Client, Controller, Error};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// What a token in a Secret is asked for.
#[derive(Clone, Debug)]
pub struct SecretToken<'a> {
    /// The logical cluster.
    pub cluster: &'a ClusterName,
    /// The Secret's namespace and the account's.
    pub namespace: &'a str,
    /// The Secret.
    pub secret: &'a str,
    /// The account.
    pub account: &'a str,
    /// Which of that name.
    pub account_uid: &'a str,
    /// What has to hold meanwhile.
    pub expect: Vec<Expect>,
}

/// Who signs tokens; the hub's binary brings it.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// The token for a Secret.
    ///
    /// # Errors
    /// When it cannot be signed.
    async fn in_secret(&self, asked: SecretToken<'_>) -> Result<String, ApiError>;
}

/// The controller.
pub struct TokenSecrets {
    client: Client,
    secrets: Arc<Kind>,
    accounts: Arc<Kind>,
    tokens: Arc<dyn Tokens>,
    ca_pem: String,
}

/// What a Secret is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Leave,
    Delete,
    Fill { token: bool },
}

fn annotation<'a>(secret: &'a Value, key: &str) -> &'a str {
    secret["metadata"]["annotations"][key].as_str().unwrap_or_default()
}

/// `account` is the UID of the account that it names, when there is one that stays.
fn decide(secret: &Value, account: Option<&str>, ca: &str) -> Verdict {
    let said = annotation(secret, ACCOUNT_UID);
    let Some(uid) = account.filter(|uid| said.is_empty() || said == *uid) else {
        return Verdict::Delete;
    };
    let data = |key: &str| secret["data"][key].as_str().unwrap_or_default();
    let token = data("token").is_empty();
    let is_whole = data("ca.crt") == ca && !data("namespace").is_empty() && said == uid;
    if token || !is_whole { Verdict::Fill { token } } else { Verdict::Leave }
}

fn is_one(stored: &Stored) -> bool {
    stored.object.header.fields.get("type").is_some_and(|kind| kind == TYPE)
}

impl TokenSecrets {
    /// Fills them with tokens from there, beside this CA.
    pub fn new(client: Client, tokens: Arc<dyn Tokens>, ca_pem: &str) -> Result<Self, Error> {
        Ok(Self {
            client,
            secrets: kind("", "v1", "secrets")?,
            accounts: kind("", "v1", "serviceaccounts")?,
            tokens,
            ca_pem: STANDARD.encode(ca_pem),
        })
    }

    async fn fill(
        &self,
        secret: &Stored,
        account: &Stored,
        needs_token: bool,
    ) -> Result<(), ApiError> {
        let Key { cluster, namespace, name, .. } = &secret.key;
        let uid = &*account.object.header.uid;
        let token = if needs_token {
            let asked = SecretToken {
                cluster,
                namespace,
                secret: name,
                account: &account.key.name,
                account_uid: uid,
                expect: vec![Expect::still(account)],
            };
            Some(STANDARD.encode(self.tokens.in_secret(asked).await?))
        } else {
            None
        };
        let fill = |mut value: Value| {
            value["metadata"]["annotations"][ACCOUNT_UID] = json!(uid);
            value["data"]["ca.crt"] = json!(self.ca_pem);
            value["data"]["namespace"] = json!(STANDARD.encode(&**namespace));
            if let Some(token) = &token {
                value["data"]["token"] = json!(token);
            }
            Ok(value)
        };
        match self.client.modify_at(&self.secrets, secret, None, fill).await {
            // Another look comes with the change that was faster.
            Err(error) if matches!(error.code, 404 | 409) => Ok(()),
            written => written.map(drop),
        }
    }
}

#[async_trait]
impl Controller for TokenSecrets {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.secrets), everywhere(&self.accounts)]
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.secrets.storage() {
            let there = event.now.iter().filter(|secret| is_one(secret));
            return there.map(|secret| secret.key.clone()).collect();
        }
        let uid = |stored: &Option<Arc<Stored>>| {
            stored.as_ref().map(|it| (it.object.header.uid.clone(), it.object.header.deleting))
        };
        if uid(&event.before) == uid(&event.now) {
            return Vec::new();
        }
        let all = in_namespace(&self.secrets, &key.cluster, &key.namespace);
        let all = now.range(&all, None).filter(|secret| is_one(secret));
        all.map(|secret| secret.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let found = snapshot.get(key);
        let Some(secret) = found.filter(|it| is_one(it) && !it.object.header.deleting) else {
            return Ok(None);
        };
        let value = secret.object.value().map_err(Error::api("read a Secret"))?;
        let name = annotation(&value, ACCOUNT_NAME);
        let account = snapshot.get(&key_of(&self.accounts, &key.cluster, &key.namespace, name));
        let account = account.filter(|account| !account.object.header.deleting);
        let uid = account.as_ref().map(|account| &*account.object.header.uid);
        match (decide(&value, uid, &self.ca_pem), &account) {
            (Verdict::Delete, _) => {
                let uid = &secret.object.header.uid;
                let gone = self.client.delete(&self.secrets, key, uid, Propagation::Background);
                gone.await.map_err(Error::api("delete the token of an account that is gone"))?;
            }
            (Verdict::Fill { token }, Some(account)) => {
                let filled = self.fill(&secret, account, token).await;
                filled.map_err(Error::api("fill the Secret of a token"))?;
            }
            (Verdict::Fill { .. }, None) | (Verdict::Leave, _) => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_filled_once_and_goes_with_its_account() {
        let secret = |uid: &str, data: Value| json!({"metadata": {"annotations": {ACCOUNT_NAME: "a", ACCOUNT_UID: uid}}, "data": data});
        let whole = json!({"token": "t", "ca.crt": "ca", "namespace": "n"});
        for (uid, data, account, verdict) in [
            ("", json!({}), Some("1"), Verdict::Fill { token: true }),
            ("1", whole.clone(), Some("1"), Verdict::Leave),
            ("", whole.clone(), Some("1"), Verdict::Fill { token: false }),
            (
                "1",
                json!({"token": "t", "namespace": "n"}),
                Some("1"),
                Verdict::Fill { token: false },
            ),
            ("1", whole.clone(), Some("2"), Verdict::Delete),
            ("1", whole, None, Verdict::Delete),
        ] {
            assert_eq!(decide(&secret(uid, data), account, "ca"), verdict);
        }
    }
}
