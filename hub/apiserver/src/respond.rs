//! Answers: content types, warnings, compression, Status objects.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::encode::to_wire;
use crate::heavy::Room;
use crate::media::{JSON, Shape, Wanted, Wire};

/// Bodies from here on are compressed when the client takes gzip, as kube-apiserver does.
pub const COMPRESS_FROM: usize = 128 * 1024;
/// More text than this in Warning headers helps nobody and breaks header limits of clients.
const MAX_WARNING_BYTES: usize = 4 * 1024;

/// An answer with a body in one piece.
#[must_use]
pub fn whole(code: u16, content_type: &'static str, bytes: Bytes) -> Response<Body> {
    with_body(code, content_type, Body::whole(bytes))
}

fn with_body(code: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// An answer in JSON.
#[must_use]
pub fn json(code: u16, value: &Value) -> Response<Body> {
    // A Value has string keys and finite numbers, so it always serialises.
    whole(code, JSON, serde_json::to_vec(value).unwrap_or_default().into())
}

/// An answer in plain text.
#[must_use]
pub fn text(code: u16, text: String) -> Response<Body> {
    whole(code, "text/plain; charset=utf-8", text.into())
}

/// A Failure, in JSON.
#[must_use]
pub fn failure(error: &ApiError) -> Response<Body> {
    failure_in(Wire::Json, error)
}

/// A Failure in the client's format.
#[must_use]
pub fn failure_in(wire: Wire, error: &ApiError) -> Response<Body> {
    let mut response = status(error.code, wire, &error.to_status());
    let seconds = error.details.as_ref().and_then(|details| details.retry_after_seconds);
    if let Some(seconds) = seconds {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A Status object in the client's format, or in JSON when it has no such form.
#[must_use]
pub fn status(code: u16, wire: Wire, status: &Value) -> Response<Body> {
    let wanted = Wanted { wire, shape: Shape::Object };
    match to_wire(wire, status) {
        Ok(bytes) => whole(code, wanted.content_type(), bytes),
        Err(_) => json(code, status),
    }
}

/// A Success about one object.
#[must_use]
pub fn success(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut details = serde_json::Map::new();
    details.insert("name".to_owned(), json!(name));
    if !kind.group().is_empty() {
        details.insert("group".to_owned(), json!(kind.group()));
    }
    details.insert("kind".to_owned(), json!(kind.plural()));
    if !uid.is_empty() {
        details.insert("uid".to_owned(), json!(uid));
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// A Success about nothing in particular.
#[must_use]
pub fn created_status(wire: Wire) -> Response<Body> {
    let value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    status(201, wire, &value)
}

/// 404: there is no such path.
#[must_use]
pub fn no_such_path() -> ApiError {
    generic(404, "NotFound", "the server could not find the requested resource")
}

/// 405: not on this path.
#[must_use]
pub fn method_not_allowed() -> ApiError {
    generic(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    )
}

/// A Failure with kube-apiserver's empty `details`.
#[must_use]
pub fn generic(code: u16, reason: &'static str, message: &str) -> ApiError {
    let mut error = ApiError::new(code, reason, message);
    error.details = Some(Box::default());
    error
}

/// Adds `Warning: 299 - "…"` headers.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut left = MAX_WARNING_BYTES;
    for warning in warnings {
        let clean: String = warning.chars().filter(|c| !c.is_control()).collect();
        let quoted = format!("299 - \"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""));
        let Some(rest) = left.checked_sub(quoted.len()) else { return };
        left = rest;
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// Whether the client takes gzip.
#[must_use]
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|list| {
        list.split(',').any(|part| {
            let (coding, params) = part.trim().split_once(';').unwrap_or((part.trim(), ""));
            coding == "gzip" && !matches!(params.trim(), "q=0" | "q=0.0")
        })
    })
}

/// An answer in one piece, compressed when that is worth it and wanted.
pub async fn compressed(
    code: u16,
    content_type: &'static str,
    bytes: Bytes,
    gzip: bool,
) -> Response<Body> {
    if !gzip || bytes.len() < COMPRESS_FROM {
        return whole(code, content_type, bytes);
    }
    let plain = bytes.clone();
    // Megabytes take tens of milliseconds: not on a thread that serves everybody.
    let packed = tokio::task::spawn_blocking(move || pack(&plain)).await;
    let Ok(Ok(packed)) = packed else { return whole(code, content_type, bytes) };
    gzipped(whole(code, content_type, packed.into()))
}

/// The same of an answer that may take room: what goes out takes it along.
pub(crate) async fn large(
    content_type: &'static str,
    bytes: Bytes,
    gzip: bool,
    room: Room,
) -> Result<Response<Body>, ApiError> {
    if !gzip || bytes.len() < COMPRESS_FROM {
        return Ok(with_body(200, content_type, room.body(bytes)));
    }
    // Also when nobody waits for it any more, the room is held until both are gone.
    let packing = tokio::task::spawn_blocking(move || {
        let packed = pack(&bytes);
        drop(bytes);
        (packed, room)
    });
    let (packed, room) = packing.await.map_err(ApiError::internal)?;
    let packed = packed.map_err(ApiError::internal)?;
    Ok(gzipped(with_body(200, content_type, room.body(packed.into()))))
}

fn gzipped(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write as _;
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(1));
    encoder.write_all(bytes)?;
    let mut packed = encoder.finish()?;
    packed.shrink_to_fit();
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted() {
        let mut response = Response::new(Body::whole(Bytes::new()));
        warn(&mut response, &[r#"unknown field "spec.x""#.to_owned()]);
        let value = response.headers().get(WARNING).unwrap();
        assert_eq!(value.as_bytes(), br#"299 - "unknown field \"spec.x\"""#);
    }

    #[tokio::test]
    async fn large_answers_are_compressed_when_asked() {
        let large = Bytes::from(vec![b'a'; COMPRESS_FROM]);
        let packed = compressed(200, JSON, large.clone(), true).await;
        assert_eq!(packed.headers().get(CONTENT_ENCODING).unwrap(), "gzip");
        let plain = compressed(200, JSON, large, false).await;
        assert!(plain.headers().get(CONTENT_ENCODING).is_none());
    }
}
