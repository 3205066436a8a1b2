//! Tokens that devices join with: bootstrap Secrets in Kubernetes' form.
//!
//! Guarantees: every failure looks the same from outside; a token for one device is one device's from its first use
//! on, and that device may use it again, but not once its ManagedCluster is removed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::time;
use freewheel_hub_store::objects::{Objects, Place};
use freewheel_link::digest::Digest;
use freewheel_link::join::{JoinRefusal, Token};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::enrol::{Refusal, how};
use crate::node::CLUSTERS;
use crate::reports::place as place_of;

const SECRETS: (&str, &str, &str) = ("", "v1", "secrets");
/// A token with this accepts its clusters by itself.
const AUTO_ACCEPT: &str = "freewheel-auto-accept";
/// A token with this is for one device: the key that used it first.
const SINGLE_USE: &str = "freewheel-single-use";
/// Where such a token says whose it is.
const USED_BY: &str = "freewheel-used-by";
/// And the UID of the ManagedCluster that came of it.
const USED_FOR: &str = "freewheel-used-for";

/// A token that is good.
pub(crate) struct Good {
    /// Its public half.
    pub(crate) id: String,
    place: Place,
    /// It accepts its clusters by itself.
    pub(crate) accepts: bool,
    single: bool,
}

impl Good {
    /// Makes a token for one device this one's, which asks for this name.
    pub(crate) async fn claim(
        &self,
        objects: &Objects,
        mark: &Digest,
        name: &ClusterName,
    ) -> Result<(), Refusal> {
        let cluster = place_of(CLUSTERS, &ClusterName::root(), "", name.as_str())?;
        let uid = objects.get(&cluster).ok().map(|stored| stored.object.header.uid.clone());
        let uid = uid.map(|uid| json!(STANDARD.encode(uid)));
        self.mark(objects, USED_BY, &json!(STANDARD.encode(mark.to_string())), |data| {
            data[USED_FOR].is_null() || Some(&data[USED_FOR]) == uid.as_ref()
        })
        .await
    }

    /// Its ManagedCluster is this one: what comes after it, another token is for.
    pub(crate) async fn spend(&self, objects: &Objects, uid: &str) -> Result<(), Refusal> {
        self.mark(objects, USED_FOR, &json!(STANDARD.encode(uid)), |_| true).await
    }

    /// Writes something into a token for one device, unless it says something else already.
    async fn mark(
        &self,
        objects: &Objects,
        key: &str,
        own: &Value,
        fits: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Result<(), Refusal> {
        if !self.single {
            return Ok(());
        }
        let claim = |mut value: Value| match &value["data"][key] {
            _ if !fits(&value["data"]) => Err(ApiError::new(409, "Taken", "taken")),
            Value::Null => {
                value["data"][key] = own.clone();
                Ok(value)
            }
            used if used == own => Ok(value),
            _ => Err(ApiError::new(409, "Taken", "taken")),
        };
        match objects.modify(&how(), &self.place, None, claim).await {
            Ok(_) => Ok(()),
            Err(error) if error.reason == "Taken" || error.code == 404 => Err(bad_token()),
            Err(error) => Err(error.into()),
        }
    }
}

fn bad_token() -> Refusal {
    let text = "the token is unknown, wrong, used by another device or has expired; make a new one with \
                `hub token create`";
    Refusal(JoinRefusal::Token, text.to_owned())
}

/// Checks a token against the bootstrap Secrets. Every failure looks the same from outside.
pub(crate) fn check(objects: &Objects, raw: &str) -> Result<Good, Refusal> {
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
    let usable = kind == Some("bootstrap.kubernetes.io/token")
        && data("usage-bootstrap-authentication").as_deref() == Some(b"true");
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
        Ok(Good { id: token.id().to_owned(), place, accepts, single })
    } else {
        Err(refused())
    }
}
