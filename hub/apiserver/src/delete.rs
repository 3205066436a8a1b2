//! Delete, deletecollection and eviction.
//!
//! Guarantees:
//! - a collection that is deleted holds none of the room for large answers, however long that takes; it is answered
//!   with what went when that is not much, and else, as kube-apiserver's schema has it, with a Status that says how
//!   many (`a_large_collection_is_deleted_without_room_for_it`);
//! - who finds no room, or has waited for it for too long, has deleted nothing
//!   (`a_delete_of_a_collection_that_waits_is_not_for_the_next_cluster`), and who is refused in the middle of it is
//!   told how many went (`whose_deletion_ends_in_the_middle_is_told_how_many_went`).

use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_objects::{Action, DeleteOptions, Deleted, Propagation, Verb, WriteOptions};
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::protobuf;
use freewheel_hub_schema::types::Typed;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Stored;
use http::Response;
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::converted;
use crate::decode;
use crate::encode::{Encoder, ListMeta};
use crate::flow::large_answers::{self, AnswerRoom};
use crate::lease::Renewal;
use crate::media::Wire;
use crate::memory_account::Held;
use crate::query::{Query, check_dry_run, parse_revision};
use crate::read;
use crate::respond;

/// DELETE of one object.
pub(crate) async fn delete(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let (how, options) = options(call, body)?;
    match call.hub.server.objects.delete(&how, &call.object_ref(), &options).await? {
        Deleted::Gone(stored) if !call.view.stored.has(Trait::ShowsTheDeleted) => {
            let uid = &stored.object.header.uid;
            let success = respond::success(&call.view.served, &stored.key.name, uid);
            Ok(respond::status(200, call.status_wire(), &success))
        }
        Deleted::Gone(stored) | Deleted::Going(stored) => {
            let stored = converted::one(&call.view.served, stored).await?;
            let bytes = encoder.object(&stored)?;
            Ok(respond::whole(200, encoder.wanted.content_type(), bytes))
        }
    }
}

/// DELETE of a collection: every object that matches, side by side.
pub(crate) async fn collection(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let (how, options) = options(call, body)?;
    let filter = call.filter()?;
    read::validate(&call.query, false)?;
    let objects = &call.hub.server.objects;
    let wanted = |stored: &Stored| filter.matches(stored);
    let bytes = {
        let snapshot = objects.store().snapshot();
        let all = snapshot.range(&call.scope(), None).filter(|stored| wanted(stored));
        let bodies = all.map(|stored| stored.object.body.len());
        read::estimate(&encoder, &Renewal::default(), call.gzip().is_some(), bodies)
    };
    // Before anything goes: who finds no room has deleted nothing.
    let listed = bytes < large_answers::LARGE_ANSWER_BYTES;
    let held = call.slot.backlog.hold(if listed { bytes } else { 0 }).await?;
    // It may have taken a while.
    call.check_still()?;
    let mut went = Went { number: 0, bytes: 0, listed: listed.then(Vec::new) };
    let each = |deleted| went.add(deleted);
    let deleted = objects.delete_collection(&how, &call.object_ref(), &options, wanted, each).await;
    if let Err(mut error) = deleted {
        if went.number != 0 && !how.dry_run {
            error.message = format!("{}; {} were deleted before that", error.message, went.number);
        }
        return Err(error);
    }
    let number = went.number;
    let Some(removed) = went.listed else {
        return Ok(counted(call, &format!("{number} were deleted, too many to list them here")));
    };
    match list(call, encoder, removed, held).await {
        // What is done is done, and has to be said.
        Err(busy) if busy.code == 429 => {
            Ok(counted(call, &format!("{number} were deleted, and there was no turn to list them")))
        }
        listed => listed,
    }
}

/// What was deleted, as a list.
async fn list(
    call: &Call,
    encoder: Encoder,
    removed: Vec<Arc<Stored>>,
    held: Option<Held>,
) -> Result<Response<Body>, ApiError> {
    let revision = call.hub.server.objects.store().snapshot().revision();
    let content_type = encoder.wanted.content_type();
    let meta = ListMeta { revision, ..ListMeta::default() };
    let how = (encoder, Renewal::default());
    let (bytes, held) = read::encoded(call.worker_queue(), how, removed, meta, held).await?;
    respond::large(content_type, bytes, call.gzip(), AnswerRoom::small(held)).await
}

/// The same in a sentence.
fn counted(call: &Call, message: &str) -> Response<Body> {
    let mut success = respond::success(&call.view.served, "", "");
    success["message"] = json!(message);
    respond::status(200, call.status_wire(), &success)
}

/// What was deleted of a collection: all of it, as long as that is little.
struct Went {
    number: usize,
    bytes: usize,
    listed: Option<Vec<Arc<Stored>>>,
}

impl Went {
    fn add(&mut self, (Deleted::Gone(stored) | Deleted::Going(stored)): Deleted) {
        self.number += 1;
        self.bytes += stored.object.body.len();
        // More may have come than was counted before.
        if large_answers::LARGE_ANSWER_BYTES < self.bytes {
            self.listed = None;
        }
        if let Some(listed) = &mut self.listed {
            listed.push(stored);
        }
    }
}

/// An option of deletes that evictions do not have.
const UNREADABLE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

const EVICTION: (&str, &str, &str) = ("policy", "v1", "Eviction");
/// An older version of it, which says the same.
const OLDER: &str = "v1beta1";

/// POST to `pods/NAME/eviction`: a delete that a disruption budget may refuse.
pub(crate) async fn evict(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    // What cannot be answered is not done.
    let out = call.columnless_wire()?;
    let wire = call.body_wire()?;
    let mut how = call.how("CreateOptions")?;
    let mut typed = Typed::from(EVICTION);
    if decode::said_version(wire, &body).is_some_and(|said| said == format!("policy/{OLDER}")) {
        typed.version = OLDER;
    }
    let (eviction, warnings) = decode::object(wire, body, typed, how.field_validation)?;
    let eviction = admitted(call, &how, Value::clone(&eviction)).await?;
    let given = eviction.get("deleteOptions").cloned().unwrap_or_else(|| json!({}));
    if given.get(UNREADABLE) == Some(&json!(true)) {
        let why = "can not be set for pod eviction, try after removing the option";
        let error = FieldError::invalid(format!("deleteOptions.{UNREADABLE}"), &json!(true), why);
        return Err(ApiError::invalid("policy", "Eviction", &call.name, &[error]));
    }
    let (dry_run, options) = read_options(&given, &Query::default())?;
    how.dry_run |= dry_run;
    call.hub.server.objects.evict(&how, &call.object_ref(), &options).await?;
    let mut response = respond::created_status(out);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// What those who have a say in it make of an eviction.
async fn admitted(call: &Call, how: &WriteOptions, mut eviction: Value) -> Result<Value, ApiError> {
    let about = (&*call.namespace, &*call.name);
    decode::check_about(about, &eviction, "Eviction")?;
    // As it is known here, whatever version it was posted in.
    (eviction["apiVersion"], eviction["kind"]) = (json!("policy/v1"), json!("Eviction"));
    let action = Action { verb: Verb::Create, subresource: Some("eviction"), object: eviction };
    let check = |eviction: Value| {
        decode::check_about(about, &eviction, "Eviction")?;
        Ok(eviction)
    };
    call.hub.server.objects.admit(how, &call.object_ref(), action, check).await
}

/// Options from the body and the query; the body wins where both speak.
fn options(call: &Call, body: Bytes) -> Result<(WriteOptions, DeleteOptions), ApiError> {
    let mut how = call.how("DeleteOptions")?;
    let given: Value = match call.body_wire()? {
        _ if body.is_empty() => json!({}),
        Wire::Protobuf => protobuf::decode(&body)?,
        wire => parse(&decode::json_bytes(wire, body)?)?,
    };
    let kind = given.get("kind").and_then(Value::as_str).unwrap_or("DeleteOptions");
    if kind != "DeleteOptions" {
        return Err(ApiError::bad_request(format!("the body is a {kind} and no DeleteOptions")));
    }
    let (dry_run, options) = read_options(&given, &call.query)?;
    how.dry_run |= dry_run;
    Ok((how, options))
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
    })
}

fn read_options(given: &Value, query: &Query) -> Result<(bool, DeleteOptions), ApiError> {
    let dry_run: Vec<String> = given
        .get("dryRun")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect();
    let precondition = |key: &str| given.get("preconditions")?.get(key)?.as_str();
    let orphan = given.get("orphanDependents").and_then(Value::as_bool);
    let policy = given.get("propagationPolicy").and_then(Value::as_str).unwrap_or_default();
    let propagation = if orphan.is_none() && policy.is_empty() {
        propagation(query.orphan_dependents, &query.propagation_policy)?
    } else {
        propagation(orphan, policy)?
    };
    let grace_period_seconds = given.get("gracePeriodSeconds").and_then(Value::as_i64);
    let options = DeleteOptions {
        grace_period_seconds: grace_period_seconds.or(query.grace_period_seconds),
        uid: precondition("uid").map(Uid::from),
        revision: precondition("resourceVersion").map(parse_revision).transpose()?,
        propagation,
    };
    Ok((check_dry_run(&dry_run, "DeleteOptions")?, options))
}

/// What becomes of the dependents: the policy, or the flag that there was before it, but not both.
fn propagation(orphan: Option<bool>, policy: &str) -> Result<Option<Propagation>, ApiError> {
    let known = match policy {
        "" => return Ok((orphan == Some(true)).then_some(Propagation::Orphan)),
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        _ => None,
    };
    let field = "propagationPolicy";
    let mut errors = Vec::new();
    if orphan.is_some() {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(FieldError::invalid(field, &json!(policy), why));
    }
    if known.is_none() {
        let supported = ["Foreground", "Background", "Orphan", "nil"];
        errors.push(FieldError::not_supported(field, &json!(policy), &supported));
    }
    if errors.is_empty() {
        return Ok(known);
    }
    Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delete_options_are_read() {
        let given = json!({
            "gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "dryRun": ["All"],
            "preconditions": {"uid": "u", "resourceVersion": "7"},
        });
        let query = Query::parse("gracePeriodSeconds=5&propagationPolicy=Orphan").unwrap();
        let (dry_run, options) = read_options(&given, &query).unwrap();
        assert!(dry_run);
        assert_eq!(
            options,
            DeleteOptions {
                grace_period_seconds: Some(0),
                uid: Some("u".into()),
                revision: Some(7),
                propagation: Some(Propagation::Foreground),
            }
        );
        let (_, options) = read_options(&json!({}), &query).unwrap();
        assert_eq!(options.grace_period_seconds, Some(5));
        assert_eq!(options.propagation, Some(Propagation::Orphan));
    }

    #[test]
    fn what_becomes_of_dependents_is_said_once() {
        assert_eq!(propagation(Some(true), ""), Ok(Some(Propagation::Orphan)));
        assert_eq!(propagation(Some(false), ""), Ok(None));
        assert_eq!(propagation(None, "Maybe").unwrap_err().code, 422);
        assert_eq!(propagation(Some(false), "Orphan").unwrap_err().code, 422);
    }
}
