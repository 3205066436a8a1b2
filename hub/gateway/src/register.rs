//! Which ManagedCluster a device that joins becomes.
//!
//! Guarantees:
//! - a name belongs to the first key that asked for it
//!   (`two_yeses_make_a_spoke_and_a_second_device_cannot_have_its_name`), until its ManagedCluster is deleted and all
//!   that it left behind is gone (`the_same_key_joins_again_as_another_cluster_and_its_old_certificate_is_no_answer`);
//! - what the hub's owner has taken back, no token gives again
//!   (`what_the_owner_has_taken_back_no_token_gives_again`);
//! - a board that comes while its name becomes free waits for that, with its token unused
//!   (`a_new_board_that_comes_right_after_the_old_one_was_removed_has_its_name`).

use freewheel_hub_api::conditions::CLUSTER_ACCEPTED;
use freewheel_hub_api::kinds::managed_cluster::{AGENT_KEY_ANNOTATION, CLUSTER_NAME_LABEL};
use freewheel_hub_objects::Objects;
use freewheel_hub_schema::error::ApiError;
use freewheel_link::digest::Digest;
use freewheel_link::join::{JoinRefusal, JoinRequestV1};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::device_labels;
use crate::inner::Inner;
use crate::joining::{Refusal, how};
use crate::object_refs::{CLUSTERS, object_ref};
use crate::tokens::{self, GoodToken};

const NAMESPACES: (&str, &str, &str) = ("", "v1", "namespaces");

/// Which token has accepted a cluster by itself.
const ACCEPTED_BY: &str = "freewheel.dev/accepted-by-token";

/// A name that is plainly another device's, or about to be nobody's, is told before it uses a token up.
pub(crate) fn check_name(
    objects: &Objects,
    name: &ClusterName,
    mark: &Digest,
) -> Result<(), Refusal> {
    let place = object_ref(CLUSTERS, &ClusterName::root(), "", name.as_str())?;
    let Ok(stored) = objects.get(&place) else { return check_namespace(objects, name) };
    if stored.object.header.deleting {
        return Err(not_ours(name, going()));
    }
    if owner(&stored.object.value()?).is_some_and(|owner| owner != mark.to_string()) {
        return Err(not_ours(name, ApiError::new(409, "Taken", "taken")));
    }
    Ok(())
}

/// The namespace of a cluster at the hub has its name, and what is there is within reach of the cluster's add-ons. Who
/// makes a ManagedCluster decides what is; a device that chooses its own name does not.
fn check_namespace(objects: &Objects, name: &ClusterName) -> Result<(), Refusal> {
    let place = object_ref(NAMESPACES, &ClusterName::root(), "", name.as_str())?;
    let Ok(stored) = objects.get(&place) else { return Ok(()) };
    if stored
        .object
        .header
        .labels
        .get(CLUSTER_NAME_LABEL)
        .is_some_and(|own| **own == *name.as_str())
    {
        return Ok(());
    }
    let text = format!(
        "the hub has a namespace {name} that is no cluster's; choose another --name, or let somebody make the \
         ManagedCluster {name} first"
    );
    Err(Refusal(JoinRefusal::NameTaken, text))
}

/// The key that a ManagedCluster belongs to.
fn owner(cluster: &Value) -> Option<&str> {
    cluster["metadata"]["annotations"][AGENT_KEY_ANNOTATION].as_str()
}

/// Makes the ManagedCluster, or finds that this key has made it before. Answers its UID, and whether the token
/// has accepted it.
pub(crate) async fn register(
    hub: &Inner,
    name: &ClusterName,
    mark: &Digest,
    request: &JoinRequestV1,
    token: &GoodToken,
) -> Result<(String, bool), Refusal> {
    let objects = &hub.objects;
    let place = object_ref(CLUSTERS, &ClusterName::root(), "", name.as_str())?;
    if objects.get(&place).is_err() {
        let mut value = new_cluster(name, mark, request, token);
        set_api_url(hub, name, &mut value);
        match objects.create(&how(), &place, value).await {
            Err(error) if error.reason == "AlreadyExists" => {}
            Err(error) => return Err(error.into()),
            Ok(made) => return Ok((made.stored.object.header.uid.to_string(), token.accepts)),
        }
    }
    claim(hub, name, mark, token, None).await
}

fn set_api_url(hub: &Inner, name: &ClusterName, value: &mut Value) {
    if let Some(own) = hub.own_api.get() {
        own.put(name, value);
    }
}

/// Takes a ManagedCluster that is there for this key: the one with this UID, if one is given.
pub(crate) async fn claim(
    hub: &Inner,
    name: &ClusterName,
    mark: &Digest,
    token: &GoodToken,
    uid: Option<&str>,
) -> Result<(String, bool), Refusal> {
    let place = object_ref(CLUSTERS, &ClusterName::root(), "", name.as_str())?;
    let claim = |mut value: Value| {
        if uid.is_some_and(|uid| value["metadata"]["uid"] != uid) {
            return Err(ApiError::new(409, "Spent", "spent"));
        }
        if value.pointer("/metadata/deletionTimestamp").is_some() {
            return Err(going());
        }
        let new = !was_accepted(&value);
        match owner(&value) {
            Some(owner) if owner == mark.to_string() => {}
            Some(_) => return Err(ApiError::new(409, "Taken", "taken")),
            // Made beforehand by its owner: the first key that comes with a valid token has it.
            None => {
                value["metadata"]["annotations"][AGENT_KEY_ANNOTATION] = json!(mark.to_string());
            }
        }
        // Who was accepted once and is not any more, was taken back by somebody: that stands.
        if token.accepts && new {
            value["spec"]["hubAcceptsClient"] = json!(true);
            value["metadata"]["annotations"][ACCEPTED_BY] = json!(token.id);
        }
        set_api_url(hub, name, &mut value);
        Ok(value)
    };
    match hub.objects.modify(&how(), &place, None, claim).await {
        Ok(written) => {
            let value = written.stored.object.value()?;
            let accepted = value.pointer("/spec/hubAcceptsClient") == Some(&Value::Bool(true));
            Ok((written.stored.object.header.uid.to_string(), token.accepts && accepted))
        }
        Err(error) if error.reason == "Spent" || (uid.is_some() && error.code == 404) => {
            Err(tokens::bad_token())
        }
        Err(error) => Err(not_ours(name, error)),
    }
}

fn new_cluster(
    name: &ClusterName,
    mark: &Digest,
    request: &JoinRequestV1,
    token: &GoodToken,
) -> Value {
    let mut value = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {
            "name": name.as_str(), "annotations": {AGENT_KEY_ANNOTATION: mark.to_string()},
        },
        "spec": {"hubAcceptsClient": token.accepts, "leaseDurationSeconds": 60},
    });
    device_labels::put_first(&mut value, &request.labels);
    if token.accepts {
        value["metadata"]["annotations"][ACCEPTED_BY] = json!(token.id);
    }
    value
}

fn going() -> ApiError {
    ApiError::new(409, "Going", "going")
}

/// Why a name is not this device's.
fn not_ours(name: &ClusterName, error: ApiError) -> Refusal {
    match error.reason {
        "Taken" => Refusal(
            JoinRefusal::NameTaken,
            format!(
                "the name {0:?} belongs to another device; choose another --name. Where this board is to take the place of \
                 that device, join as another and say `hub replace {0} OTHER` on the hub: whoever deletes the ManagedCluster \
                 instead deletes all that its cluster holds",
                name.as_str()
            ),
        ),
        "Going" => Refusal(
            JoinRefusal::Busy,
            format!(
                "what the former {name} has left behind is being removed: this device asks again until the name is free"
            ),
        ),
        _ => error.into(),
    }
}

/// Whether somebody, or a token, has ever let this cluster in.
fn was_accepted(cluster: &Value) -> bool {
    let by_condition = CLUSTER_ACCEPTED.find(cluster).is_some();
    let by_token = &cluster["metadata"]["annotations"][ACCEPTED_BY];
    by_condition
        || by_token.is_string()
        || cluster.pointer("/spec/hubAcceptsClient") == Some(&json!(true))
}
