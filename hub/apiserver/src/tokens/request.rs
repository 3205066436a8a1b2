//! TokenRequest: somebody asks for a token of a service account (`kubectl create token`, and whoever gives tokens to
//! pods).

use bytes::Bytes;
use freewheel_hub_objects::{Action, Verb, WriteOptions};
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::time;
use freewheel_hub_schema::types::Typed;
use freewheel_hub_store::{Snapshot, Stored};
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;

use super::claims::{Asked, Bound, Ref};
use crate::body::Body;
use crate::call::Call;
use crate::{decode, respond};

const GROUP: &str = "authentication.k8s.io";
const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenRequest";
/// What a token is good for that says nothing.
const DEFAULT_SECONDS: i64 = 3_600;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;

/// POST to `serviceaccounts/NAME/token`.
pub(crate) async fn create(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let out = call.columnless_wire()?;
    let (wire, how) = (call.body_wire()?, call.how("CreateOptions")?);
    let typed = Typed::from((GROUP, "v1", KIND));
    let (request, warnings) = decode::object(wire, body, typed, how.field_validation)?;
    let request = admitted(call, &how, Value::clone(&request)).await?;
    let store = call.hub.server.objects.store();
    let snapshot = store.snapshot();
    let account = call.hub.server.objects.get_in(&*snapshot, &call.object_ref())?;
    let issuer = &call.hub.issuer;
    let own = issuer.audiences(&*snapshot, &call.tenant.name);
    let asked = read(&request, &own)?;
    let bound = find_bound(call, &*snapshot, &request)?;
    let now = issuer.now();
    let claims = asked.claims(
        (now, &issuer.url(&call.tenant.name)),
        (&call.namespace, &call.name, &account.object.header.uid),
        bound,
        &own,
    );
    let text = serde_json::to_vec(&claims).map_err(ApiError::internal)?;
    let token = issuer.sign(&call.tenant.name, &call.tenant.expect(), &text).await?;
    let mut spec = json!({"audiences": asked.audiences, "expirationSeconds": asked.seconds});
    if let Some(bound) = request.pointer("/spec/boundObjectRef") {
        spec["boundObjectRef"] = bound.clone();
    }
    let answer = json!({
        "kind": KIND, "apiVersion": API_VERSION,
        "metadata": {
            "name": call.name, "namespace": &*call.namespace, "uid": &*account.object.header.uid,
            "creationTimestamp": time::from_unix(now),
        },
        "spec": spec,
        "status": {
            "token": token,
            "expirationTimestamp": time::from_unix(now.saturating_add(asked.seconds)),
        },
    });
    let mut response = respond::status(201, out, &answer);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// What those who have a say in it make of a request.
async fn admitted(call: &Call, how: &WriteOptions, mut request: Value) -> Result<Value, ApiError> {
    (request["apiVersion"], request["kind"]) = (json!(API_VERSION), json!(KIND));
    if request["spec"]["expirationSeconds"].is_null() {
        request["spec"]["expirationSeconds"] = json!(DEFAULT_SECONDS);
    }
    let place = call.object_ref();
    let action = Action { verb: Verb::Create, subresource: Some("token"), object: request };
    let objects = &call.hub.server.objects;
    objects.admit(how, &place, action, |request| whole(call, request)).await
}

/// A request that is right, with all that is asked for by not saying it.
fn whole(call: &Call, mut request: Value) -> Result<Value, ApiError> {
    check_shape(&request)?;
    let objects = &call.hub.server.objects;
    let account = objects.get(&call.object_ref())?;
    check_metadata(call, &request, &account)?;
    let own = call.hub.issuer.audiences(&*objects.store().snapshot(), &call.tenant.name);
    let asked = read(&request, &own)?;
    request["spec"]["audiences"] = json!(asked.audiences);
    (request["metadata"]["name"], request["metadata"]["namespace"]) =
        (json!(call.name), json!(call.namespace.as_str()));
    Ok(request)
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn invalid(field: &str, value: &Value, why: &str) -> ApiError {
    ApiError::invalid(GROUP, KIND, "", &[FieldError::invalid(field, value, why)])
}

/// Whoever names an account in the body means the one in the path.
fn check_metadata(call: &Call, request: &Value, account: &Stored) -> Result<(), ApiError> {
    for (key, own) in [("name", &*call.name), ("namespace", &*call.namespace)] {
        let given = text(request, &format!("/metadata/{key}"));
        if !given.is_empty() && given != own {
            let why = format!("must match the service account {key} if specified");
            return Err(invalid(&format!("metadata.{key}"), &json!(given), &why));
        }
    }
    let (given, own) = (text(request, "/metadata/uid"), &*account.object.header.uid);
    if given.is_empty() || given == own {
        return Ok(());
    }
    let why = format!(
        "the UID in the token request ({given}) does not match the UID of the service account ({own})"
    );
    Err(ApiError::conflict(GROUP, KIND, &call.name, &why))
}

fn check_shape(request: &Value) -> Result<(), ApiError> {
    const TEXTS: [&str; 7] = [
        "/metadata/name",
        "/metadata/namespace",
        "/metadata/uid",
        "/spec/boundObjectRef/kind",
        "/spec/boundObjectRef/apiVersion",
        "/spec/boundObjectRef/name",
        "/spec/boundObjectRef/uid",
    ];
    // Parents of what may be there have to be objects.
    decode::check_shape(request, &TEXTS, &["/spec/audiences"])
}

/// For whom, and for how long: who names no audience means the API itself, at the address that it has now.
fn read(request: &Value, own: &[String]) -> Result<Asked, ApiError> {
    let audiences = request.pointer("/spec/audiences").and_then(Value::as_array);
    let audiences = audiences.into_iter().flatten().filter_map(Value::as_str);
    let mut audiences: Vec<String> = audiences.map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.extend(own.first().cloned());
    }
    let seconds = request.pointer("/spec/expirationSeconds").filter(|value| !value.is_null());
    let seconds = seconds.map_or(Some(DEFAULT_SECONDS), Value::as_i64).unwrap_or_default();
    let wrong = |why| Err(invalid("spec.expirationSeconds", &json!(seconds), why));
    if seconds < SECONDS_MIN {
        return wrong("may not specify a duration less than 10 minutes");
    }
    if SECONDS_MAX < seconds {
        return wrong("may not specify a duration larger than 2^32 seconds");
    }
    Ok(Asked { audiences, seconds })
}

/// With what the token ends.
fn find_bound(call: &Call, snapshot: &dyn Snapshot, request: &Value) -> Result<Bound, ApiError> {
    let asked = request.pointer("/spec/boundObjectRef").filter(|asked| !asked.is_null());
    let Some(asked) = asked else { return Ok(Bound::default()) };
    let (version, kind) = (text(asked, "/apiVersion"), text(asked, "/kind"));
    let (name, uid) = (text(asked, "/name"), text(asked, "/uid"));
    let (plural, namespace) = match kind {
        "Pod" if !version.contains('/') => ("pods", &*call.namespace),
        "Secret" if !version.contains('/') => ("secrets", &*call.namespace),
        "Node" if !version.contains('/') => ("nodes", ""),
        _ => {
            let text = format!("cannot bind token to object of type {version}, Kind={kind}");
            return Err(ApiError::bad_request(text));
        }
    };
    let found = find(call, snapshot, (plural, namespace, name));
    let found = found.ok_or_else(|| ApiError::not_found("", plural, name))?;
    let there = found.object.header.uid.to_string();
    if !uid.is_empty() && uid != there {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
             have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", kind, name, &why));
    }
    let this = Some(Ref { name: name.to_owned(), uid: there });
    Ok(match plural {
        "pods" => {
            let node = node_of(call, snapshot, &found)?;
            Bound { pod: this, node, ..Bound::default() }
        }
        "secrets" => Bound { secret: this, ..Bound::default() },
        _ => Bound { node: this, ..Bound::default() },
    })
}

fn find(
    call: &Call,
    snapshot: &dyn Snapshot,
    (plural, namespace, name): (&str, &str, &str),
) -> Option<Arc<Stored>> {
    snapshot.get(&Key::new(&Resource::new("", plural), &call.tenant.name, namespace, name))
}

/// The node of a pod that runs as the account, which its token tells.
fn node_of(call: &Call, snapshot: &dyn Snapshot, pod: &Stored) -> Result<Option<Ref>, ApiError> {
    let pod = pod.object.value()?;
    if text(&pod, "/spec/serviceAccountName") != call.name {
        let own = &call.name;
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {own:?} to pod running with different serviceaccount name."
        )));
    }
    let name = text(&pod, "/spec/nodeName");
    let node = find(call, snapshot, ("nodes", "", name));
    let uid = node.map(|node| node.object.header.uid.to_string()).unwrap_or_default();
    Ok((!name.is_empty()).then(|| Ref { name: name.to_owned(), uid }))
}
