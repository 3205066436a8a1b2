//! Tokens that devices join with: bootstrap Secrets in Kubernetes' form.
//!
//! ```text
//! good ─▶ used by this key, as this name (one write) ─▶ ManagedCluster ─▶ used for its UID
//! ```
//!
//! Guarantees:
//! - every failure looks the same from outside (`a_wrong_token_writes_nothing_and_says_what_to_do`);
//! - a token for one device is one device's from its first use on, and that device may use it again, but not once its
//!   ManagedCluster is removed (`a_token_for_one_device_is_one_devices`);
//! - however it is raced, one ManagedCluster comes of it (`a_token_that_is_raced_makes_one_cluster`);
//! - what broke off, the same key finishes under the same name, and nobody else
//!   (`a_join_that_broke_off_is_finished_by_its_own_device_under_its_own_name`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_objects::{ObjectRef, Objects};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::time;
use freewheel_link::digest::Digest;
use freewheel_link::join::{JoinRefusal, Token};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::joining::{Refusal, how};
use crate::object_refs::object_ref as place_of;

const SECRETS: (&str, &str, &str) = ("", "v1", "secrets");
/// A token with this is for devices that join.
const JOIN: &str = "usage-freewheel-join";
/// A token with this accepts its clusters by itself.
const AUTO_ACCEPT: &str = "freewheel-auto-accept";
/// A token with this is for one device: the key that used it first.
const SINGLE_USE: &str = "freewheel-single-use";
/// Where such a token says whose it is.
const USED_BY: &str = "freewheel-used-by";
/// And the name that it was used under.
const USED_AS: &str = "freewheel-used-as";
/// And the UID of the ManagedCluster that came of it.
const USED_FOR: &str = "freewheel-used-for";

/// A token that is good.
pub(crate) struct GoodToken {
    /// Its public half.
    pub(crate) id: String,
    place: ObjectRef,
    /// It accepts its clusters by itself.
    pub(crate) accepts: bool,
    single: bool,
}

impl GoodToken {
    /// Makes a token for one device this key's for this name, before anything comes of it. Answers the UID of the
    /// ManagedCluster that has come of it already: there will be no other.
    ///
    /// # Errors
    /// When it is another key's, or for another name.
    pub(crate) async fn claim(
        &self,
        objects: &Objects,
        mark: &Digest,
        name: &ClusterName,
    ) -> Result<Option<String>, Refusal> {
        if !self.single {
            return Ok(None);
        }
        let own = [(USED_BY, mark.to_string()), (USED_AS, name.to_string())]
            .map(|(key, text)| (key, json!(STANDARD.encode(text))));
        // Both in one write: whoever comes second finds the whole use, or makes it.
        let claim = |mut value: Value| {
            let data = &mut value["data"];
            if own.iter().all(|(key, _)| data[key].is_null()) {
                own.iter().for_each(|(key, text)| data[key] = text.clone());
            }
            let ours = own.iter().all(|(key, text)| data[key] == *text);
            if ours { Ok(value) } else { Err(taken()) }
        };
        let data = self.modify(objects, claim).await?["data"].take();
        let spent = data[USED_FOR].as_str().and_then(|text| STANDARD.decode(text).ok());
        Ok(spent.and_then(|uid| String::from_utf8(uid).ok()))
    }

    /// Its ManagedCluster is this one: what comes after it, another token is for.
    ///
    /// # Errors
    /// When it is another one, and when the store cannot write.
    pub(crate) async fn spend(&self, objects: &Objects, uid: &str) -> Result<(), Refusal> {
        if !self.single {
            return Ok(());
        }
        let own = json!(STANDARD.encode(uid));
        let spend = |mut value: Value| {
            let used = &mut value["data"][USED_FOR];
            if used.is_null() {
                *used = own.clone();
            }
            if *used == own { Ok(value) } else { Err(taken()) }
        };
        self.modify(objects, spend).await.map(drop)
    }

    async fn modify(
        &self,
        objects: &Objects,
        change: impl Fn(Value) -> Result<Value, ApiError> + Send + Sync,
    ) -> Result<Value, Refusal> {
        match objects.modify(&how(), &self.place, None, change).await {
            Ok(written) => Ok(written.stored.object.value()?),
            Err(error) if error.reason == "Taken" || error.code == 404 => Err(bad_token()),
            Err(error) => Err(error.into()),
        }
    }
}

fn taken() -> ApiError {
    ApiError::new(409, "Taken", "taken")
}

pub(crate) fn bad_token() -> Refusal {
    let text = "the token is unknown, wrong, used by another device or has expired; make a new one with \
                `hub token create`";
    Refusal(JoinRefusal::Token, text.to_owned())
}

/// Checks a token against the bootstrap Secrets. Every failure looks the same from outside.
pub(crate) fn check(objects: &Objects, raw: &str) -> Result<GoodToken, Refusal> {
    let refused = bad_token;
    let token: Token = raw.parse().map_err(|_| refused())?;
    let name = format!("bootstrap-token-{}", token.id());
    let place = place_of(SECRETS, &ClusterName::root(), "kube-system", &name)?;
    let found = objects.get(&place).ok().and_then(|stored| stored.object.value().ok());
    let data = |key: &str| {
        let text = found.as_ref()?.pointer(&format!("/data/{key}"))?.as_str()?;
        STANDARD.decode(text).ok()
    };
    // An unknown id is compared as well, so that it takes no less time.
    let secret = data("token-secret").unwrap_or_else(|| vec![0; 16]);
    let right =
        token.has_secret(&secret) && data("token-id").as_deref() == Some(token.id().as_bytes());
    let kind = found.as_ref().and_then(|value| value.get("type")).and_then(Value::as_str);
    let says = |usage: &str| data(usage).as_deref() == Some(b"true");
    let usable = kind == Some("bootstrap.kubernetes.io/token")
        && (says(JOIN) || says("usage-bootstrap-authentication"));
    let alive = match data("expiration") {
        None => true,
        Some(text) => std::str::from_utf8(&text)
            .ok()
            .and_then(time::parse_unix)
            .is_some_and(|end| objects.clock().unix_seconds() < end),
    };
    if right && usable && alive {
        let accepts = data(AUTO_ACCEPT).as_deref() == Some(b"true");
        let single = data(SINGLE_USE).as_deref() == Some(b"true");
        Ok(GoodToken { id: token.id().to_owned(), place, accepts, single })
    } else {
        Err(refused())
    }
}
