//! Callers by a bootstrap token: a Secret in kube-system of the cluster that they ask, as kubeadm makes them. Nothing is
//! given to them but what somebody gives to their groups.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::time;
use freewheel_hub_store::Store;
use freewheel_link::join::Token;
use serde_json::Value;

use super::bearer::{AskedToken, Known, NotTaken, TokenAuthenticator};
use super::user::{AUTHENTICATED, Home, User};
use crate::tokens::Issuer;

const GROUP: &str = "system:bootstrappers";
const KIND: &str = "bootstrap.kubernetes.io/token";

/// Knows those who have a bootstrap token.
pub(super) struct BootstrapTokens {
    pub(super) store: Arc<dyn Store>,
    /// Knows the time.
    pub(super) issuer: Issuer,
}

#[async_trait]
impl TokenAuthenticator for BootstrapTokens {
    async fn token(&self, asked: AskedToken<'_>) -> Result<Option<Known>, NotTaken> {
        let Ok(token) = asked.token.parse::<Token>() else { return Ok(None) };
        let name = format!("bootstrap-token-{}", token.id());
        let secrets = Resource::new("", "secrets");
        let key = Key::new(&secrets, asked.cluster.name, "kube-system", &name);
        let found = self.store.snapshot().get(&key);
        let found = found.filter(|found| !found.object.header.deleting);
        let secret = found.and_then(|found| found.object.value().ok()).unwrap_or_default();
        let user = user(&secret, &token, self.issuer.now());
        let home = Home::Cluster(asked.cluster.name.clone());
        let user = user.map(|user| Arc::new(User { home, ..user }));
        Ok(user.and_then(|user| asked.known(user, None)))
    }
}

fn user(secret: &Value, token: &Token, now: i64) -> Option<User> {
    let data = |key: &str| STANDARD.decode(secret.get("data")?.get(key)?.as_str()?).ok();
    let says = |key: &str, text: &str| data(key).as_deref() == Some(text.as_bytes());
    // An unknown id is compared as well, so that it takes no less time.
    let expected = data("token-secret").unwrap_or_else(|| vec![0; 16]);
    let is_right = token.has_secret(&expected) && says("token-id", token.id());
    let is_for_this = secret.get("type").is_some_and(|kind| kind == KIND)
        && says("usage-bootstrap-authentication", "true");
    if !is_right || !is_for_this {
        return None;
    }
    let until = match data("expiration") {
        None => None,
        Some(text) => Some(time::parse_unix(std::str::from_utf8(&text).ok()?)?),
    };
    if until.is_some_and(|until| until <= now) {
        return None;
    }
    let extra = String::from_utf8(data("auth-extra-groups").unwrap_or_default()).ok()?;
    let extra: Vec<&str> = extra.split(',').filter(|group| !group.is_empty()).collect();
    if !extra.iter().all(|group| is_group(group)) {
        return None;
    }
    let groups = [GROUP].into_iter().chain(extra).chain([AUTHENTICATED]).map(str::to_owned);
    let name = format!("system:bootstrap:{}", token.id());
    Some(User { name, groups: groups.collect(), until, ..User::default() })
}

/// Whether a group is below that of those who bootstrap: a Secret makes nobody a member of another.
fn is_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    let is_clean = rest.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b':' | b'-'));
    let ends = rest.bytes().last().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    is_clean && ends && rest.len() <= 256
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn secret(more: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        let base = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (key, text) in base.iter().chain(more) {
            data[*key] = json!(STANDARD.encode(text));
        }
        json!({"type": KIND, "data": data})
    }

    fn known(secret: &Value) -> Option<Vec<String>> {
        user(secret, &TOKEN.parse().unwrap(), 1_000).map(|user| user.groups)
    }

    #[test]
    fn a_token_is_good_as_its_secret_says() {
        assert_eq!(known(&secret(&[])).unwrap(), [GROUP, AUTHENTICATED]);
        for (key, text) in [
            ("token-secret", "0123456789abcdeg"),
            ("token-id", "abcdeg"),
            ("usage-bootstrap-authentication", "false"),
            ("expiration", "1970-01-01T00:16:40Z"),
            ("expiration", "tomorrow"),
            ("expiration", "2026-11-20T14:41Z"),
            ("expiration", "2026-11-20 14:41:14Z"),
            ("auth-extra-groups", "system:masters"),
            ("auth-extra-groups", "system:bootstrappers:a,system:bootstrappers:"),
        ] {
            assert_eq!(known(&secret(&[(key, text)])), None, "{key} {text}");
        }
        for good in ["1970-01-01T00:16:41Z", "9999-12-31T23:59:59Z"] {
            assert!(known(&secret(&[("expiration", good)])).is_some(), "{good}");
        }
        let groups = known(&secret(&[("auth-extra-groups", "system:bootstrappers:ci:a-1")]));
        assert_eq!(groups.unwrap(), [GROUP, "system:bootstrappers:ci:a-1", AUTHENTICATED]);
        let mut other = secret(&[]);
        other["type"] = json!("Opaque");
        assert_eq!(known(&other), None);
        assert_eq!(known(&json!(null)), None);
    }
}
