//! What a service account's token says, and whether that still holds: the account and what the token is bound to have to
//! be there, the very same by UID.
//!
//! ```text
//! of a request   iss, sub, aud, exp, iat, nbf, jti, kubernetes.io { namespace, serviceaccount, pod, secret, node, warnafter }
//! of a Secret    iss, sub, kubernetes.io/serviceaccount/…; without an end, as long as the Secret holds it
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_rbac::service_account_name;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::time;
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::authn::{AUTHENTICATED, User};

/// Who tokens in Secrets are from.
pub(crate) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// Clocks differ: so much is left to a token that has ended, and to what it is bound to.
const LEEWAY_SECONDS: i64 = 60;
/// What pods' tokens are asked for by who renews them in time: programs that read theirs once are let be for longer.
const RENEWED_SECONDS: i64 = 3_607;
const EXTENDED_SECONDS: i64 = 365 * 86_400;
/// At a Secret whose token nobody has used for long.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// An object, and which of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Ref {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

/// What is Kubernetes' own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Bound {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Ref>,
    pub(crate) serviceaccount: Ref,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warnafter: Option<i64>,
}

/// What a token says that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Claims {
    #[serde(deserialize_with = "one_or_more")]
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    #[serde(default)]
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Bound,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// What a token is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) audiences: Vec<String>,
    pub(crate) seconds: i64,
}

impl Asked {
    /// What the token says. `own` are the names of the API itself.
    pub(crate) fn claims(
        &self,
        (now, issuer): (i64, &str),
        (namespace, account, uid): (&str, &str, &str),
        bound: Bound,
        own: &[String],
    ) -> Claims {
        let extends = bound.pod.is_some() && self.is_for_a_while_longer(own);
        let lasts = if extends { EXTENDED_SECONDS } else { self.seconds };
        Claims {
            aud: self.audiences.clone(),
            exp: now.saturating_add(lasts),
            iat: now,
            iss: issuer.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes: Bound {
                namespace: namespace.to_owned(),
                serviceaccount: Ref { name: account.to_owned(), uid: uid.to_owned() },
                warnafter: extends.then(|| now.saturating_add(self.seconds)),
                ..bound
            },
            nbf: now,
            sub: service_account_name(namespace, account),
        }
    }

    /// Whether it is what is asked for to renew a pod's token for the API in time.
    fn is_for_a_while_longer(&self, own: &[String]) -> bool {
        self.seconds == RENEWED_SECONDS && self.audiences.iter().all(|one| own.contains(one))
    }
}

/// What a token in a Secret says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct LegacyClaims {
    pub(crate) iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub(crate) namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub(crate) secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub(crate) account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub(crate) account_uid: String,
    pub(crate) sub: String,
}

/// One audience may stand for itself.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audiences {
        One(String),
        More(Vec<String>),
    }
    Ok(match Audiences::deserialize(from)? {
        Audiences::One(one) => vec![one],
        Audiences::More(more) => more,
    })
}

/// Why a token that was ours is good no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    Early,
    #[error("service account token has been invalidated")]
    Invalidated,
    #[error("serviceaccounts {0:?} not found")]
    NoAccount(String),
    #[error(
        "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. \
         Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
         'kubernetes.io/legacy-token-invalid-since' label from the secret to temporarily allow use of this token"
    )]
    MarkedInvalid {
        /// Of both.
        namespace: String,
        /// What it lies in.
        secret: String,
        /// Whose it is.
        account: String,
    },
    #[error("service account UID ({there}) does not match claim ({claimed})")]
    OtherAccount {
        /// Of the account that is there.
        there: String,
        /// Of the one that the token is of.
        claimed: String,
    },
}

/// A token that its cluster has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccountToken {
    Requested(Box<Claims>),
    /// With the token itself, which the Secret has to hold.
    InSecret(LegacyClaims, String),
}

impl AccountToken {
    /// What was signed; `None` for what is no token of an account.
    pub(crate) fn read(claims: &[u8], token: &str) -> Option<Self> {
        if let Ok(legacy) = serde_json::from_slice::<LegacyClaims>(claims) {
            return (legacy.iss == LEGACY_ISSUER).then(|| Self::InSecret(legacy, token.to_owned()));
        }
        Some(Self::Requested(Box::new(serde_json::from_slice(claims).ok()?)))
    }

    /// For whom it is; none for everybody.
    pub(crate) fn audiences(&self) -> &[String] {
        match self {
            Self::Requested(claims) => &claims.aud,
            Self::InSecret(..) => &[],
        }
    }

    /// Whose it is, as long as all that it names is there.
    pub(crate) fn user(
        &self,
        snapshot: &dyn Snapshot,
        cluster: &ClusterName,
        now: i64,
    ) -> Result<User, Broken> {
        let there = There { snapshot, cluster, now };
        match self {
            Self::Requested(claims) => there.requested(claims),
            Self::InSecret(claims, token) => there.in_secret(claims, token),
        }
    }
}

/// What is there in a cluster at a moment.
struct There<'a> {
    snapshot: &'a dyn Snapshot,
    cluster: &'a ClusterName,
    now: i64,
}

impl There<'_> {
    fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<std::sync::Arc<Stored>> {
        let found = self.snapshot.get(&Key::new(
            &Resource::new("", plural),
            self.cluster,
            namespace,
            name,
        ))?;
        (!self.has_gone(&found)).then_some(found)
    }

    /// Whether it only waits for somebody's finalizer: it has been let go for a while.
    fn has_gone(&self, stored: &Stored) -> bool {
        if !stored.object.header.deleting {
            return false;
        }
        let value = stored.object.value().unwrap_or_default();
        let end = value.pointer("/metadata/deletionTimestamp").and_then(Value::as_str);
        end.and_then(time::parse_unix).is_none_or(|end| end < self.now - LEEWAY_SECONDS)
    }

    fn account(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Broken> {
        let found = self.find("serviceaccounts", namespace, name);
        let found = found.ok_or_else(|| Broken::NoAccount(name.to_owned()))?;
        let there = &found.object.header.uid;
        if &**there == uid {
            return Ok(());
        }
        Err(Broken::OtherAccount { there: there.to_string(), claimed: uid.to_owned() })
    }

    fn requested(&self, claims: &Claims) -> Result<User, Broken> {
        let Claims { exp, nbf, jti, kubernetes, .. } = claims;
        let Bound { namespace, node, pod, secret, serviceaccount: account, .. } = kubernetes;
        if exp.saturating_add(LEEWAY_SECONDS) < self.now {
            return Err(Broken::Expired);
        }
        if self.now.saturating_add(LEEWAY_SECONDS) < *nbf {
            return Err(Broken::Early);
        }
        self.account(namespace, &account.name, &account.uid)?;
        let holds = |plural: &str, namespace: &str, bound: &Option<Ref>| {
            bound.as_ref().is_none_or(|bound| {
                let found = self.find(plural, namespace, &bound.name);
                found.is_some_and(|found| *found.object.header.uid == *bound.uid)
            })
        };
        // Of a pod's token the node is only told.
        let is_there = holds("secrets", namespace, secret)
            && holds("pods", namespace, pod)
            && (pod.is_some() || holds("nodes", "", node));
        if !is_there {
            return Err(Broken::Invalidated);
        }
        let mut user = account_user(namespace, &account.name, &account.uid);
        user.until = Some(exp.saturating_add(LEEWAY_SECONDS));
        let mut tell = |key: &str, value: &str| {
            if !value.is_empty() {
                let key = format!("authentication.kubernetes.io/{key}");
                user.extra.insert(key, vec![value.to_owned()]);
            }
        };
        if !jti.is_empty() {
            tell("credential-id", &format!("JTI={jti}"));
        }
        for (what, bound) in [("pod", pod), ("node", node)] {
            if let Some(Ref { name, uid }) = bound {
                tell(&format!("{what}-name"), name);
                tell(&format!("{what}-uid"), uid);
            }
        }
        Ok(user)
    }

    fn in_secret(&self, claims: &LegacyClaims, token: &str) -> Result<User, Broken> {
        let LegacyClaims { namespace, secret, account, account_uid, .. } = claims;
        let found = self.find("secrets", namespace, secret).ok_or(Broken::Invalidated)?;
        let value = found.object.value().map_err(|_| Broken::Invalidated)?;
        let held = value.pointer("/data/token").and_then(Value::as_str).unwrap_or_default();
        if STANDARD.decode(held).ok().as_deref() != Some(token.as_bytes()) {
            return Err(Broken::Invalidated);
        }
        self.account(namespace, account, account_uid)?;
        let labels = value.pointer("/metadata/labels");
        if labels.and_then(|labels| labels.get(INVALID_SINCE)).is_some_and(|since| since != "") {
            let (namespace, secret, account) = (namespace.clone(), secret.clone(), account.clone());
            return Err(Broken::MarkedInvalid { namespace, secret, account });
        }
        Ok(account_user(namespace, account, account_uid))
    }
}

fn account_user(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: service_account_name(namespace, name),
        uid: uid.to_owned(),
        groups: vec![
            SERVICE_ACCOUNTS.to_owned(),
            format!("{SERVICE_ACCOUNTS}:{namespace}"),
            AUTHENTICATED.to_owned(),
        ],
        ..User::default()
    }
}
