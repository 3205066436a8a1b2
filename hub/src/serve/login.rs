//! Logins to the registry, for tools that know names and passwords and no client certificates: `docker`,
//! `oras`, `wkg`, `wash`.
//!
//! `hub token create --registry` writes a Secret into kube-system; what it holds of the password is a
//! digest.
//!
//! Guarantees:
//! - a login ends when its Secret goes or its time is over
//!   (`a_login_is_good_until_its_time_is_over_or_its_secret_gone`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_api::kinds;
use freewheel_hub_objects::{ObjectRef, Objects};
use freewheel_hub_schema::time;
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use http::HeaderValue;
use serde_json::{Value, json};

/// Type of such a Secret.
pub const SECRET_TYPE: &str = "freewheel.dev/registry-login";
/// Longest name or password that is looked at.
const LOGIN_BYTES_MAX: usize = 256;

/// The Secret of a login that ends at `expiration`.
pub fn secret(name: &str, password: &str, expiration: &str) -> Value {
    let encode = |text: &str| json!(STANDARD.encode(text));
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
        "metadata": {"name": secret_name(name), "namespace": "kube-system"},
        "data": {
            "password-digest": encode(&Digest::of(password.as_bytes()).to_string()),
            "expiration": encode(expiration),
            "description": encode("made by hub token create --registry"),
        },
    })
}

fn secret_name(name: &str) -> String {
    format!("registry-login-{name}")
}

/// Whether an `Authorization` header holds a login that is good now.
pub fn is_good(objects: &Objects, header: &HeaderValue) -> bool {
    let Some((name, password)) = basic(header) else { return false };
    let Some(kind) = kinds::find("", "v1", "secrets") else { return false };
    let cluster = ClusterName::root();
    let namespace = "kube-system".into();
    let (kind, name) = (kind.clone(), secret_name(&name));
    let place = ObjectRef { kind, cluster, namespace, name };
    let Ok(value) = objects.get(&place).and_then(|stored| stored.object.value()) else {
        return false;
    };
    let data = |key: &str| {
        let text = value["data"][key].as_str()?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    };
    let end = data("expiration").and_then(|text| time::parse_unix(&text));
    // Digests are compared, so that the time it takes says nothing about the password.
    value["type"] == SECRET_TYPE
        && end.is_some_and(|end| objects.clock().unix_seconds() < end)
        && data("password-digest") == Some(Digest::of(password.as_bytes()).to_string())
}

/// Name and password of a `Basic` header.
fn basic(header: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || 4 * LOGIN_BYTES_MAX < encoded.len() {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good = !name.is_empty() && name.len() <= 63 && name.bytes().all(is_name);
    good.then(|| (name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freewheel_hub_objects::{DeleteOptions, WriteOptions};
    use freewheel_hub_store::memory::MemoryStore;

    use super::*;

    fn header(login: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(login))).unwrap()
    }

    #[tokio::test]
    async fn a_login_is_good_until_its_time_is_over_or_its_secret_gone() {
        let objects = Objects::new(Arc::new(MemoryStore::new()));
        let place = |plural: &str, namespace: &str, name: &str| ObjectRef {
            kind: kinds::find("", "v1", plural).unwrap().clone(),
            cluster: ClusterName::root(),
            namespace: namespace.into(),
            name: name.to_owned(),
        };
        let namespace = place("namespaces", "", "kube-system");
        objects.create(&WriteOptions::default(), &namespace, json!({})).await.unwrap();
        for (name, end) in [("abc", "2099-01-01T00:00:00Z"), ("old", "2020-01-01T00:00:00Z")] {
            let place = place("secrets", "kube-system", "");
            objects
                .create(&WriteOptions::default(), &place, secret(name, "pa:ss", end))
                .await
                .unwrap();
        }
        assert!(is_good(&objects, &header("abc:pa:ss")));
        let digest = Digest::of(b"pa:ss");
        for wrong in ["abc:pa", "abc", "old:pa:ss", ":pa:ss", "../x:y", &format!("abc:{digest}")] {
            assert!(!is_good(&objects, &header(wrong)), "{wrong}");
        }
        assert!(!is_good(&objects, &HeaderValue::from_static("Bearer abc")));
        let gone = place("secrets", "kube-system", "registry-login-abc");
        objects.delete(&WriteOptions::default(), &gone, &DeleteOptions::default()).await.unwrap();
        assert!(!is_good(&objects, &header("abc:pa:ss")));
    }
}
