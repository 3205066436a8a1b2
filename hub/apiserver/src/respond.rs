//! Answers: content types, warnings, compression, Status objects.
//!
//! Guarantees:
//! - what is compressed is on the account of its connection until that is over, whether its client waits for it or not
//!   (`what_waits_to_be_compressed_is_on_its_account_until_it_is_gone`), and few answers are at a time
//!   (`few_answers_are_compressed_at_a_time`);
//! - a long warning hides none after it (`long_warnings_are_shortened_and_hide_none_after_them`).

use std::collections::HashSet;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::encode::to_wire;
use crate::flow::large_answers::AnswerRoom;
use crate::flow::workers::WorkerQueue;
use crate::media::{JSON, Shape, Wanted, Wire};
use crate::memory_account::Held;

/// Bodies from here on are compressed when the client takes gzip, as kube-apiserver does.
pub const COMPRESS_FROM_BYTES: usize = 128 * 1024;
/// More characters than this in Warning headers help nobody and break header limits of clients.
const WARNINGS_CHARS_MAX: usize = 4 * 1024;
/// What is left of each where there are more.
const LONG_WARNING_CHARS: usize = 256;
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

/// A Failure with kube-apiserver's empty `details`.
#[must_use]
pub fn generic(code: u16, reason: &'static str, message: &str) -> ApiError {
    let mut error = ApiError::new(code, reason, message);
    error.details = Some(Box::default());
    error
}

/// Adds `Warning: 299 - "…"` headers, each text once. Where they are long together each is shortened, so that a long one
/// does not hide those after it.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let (mut known, mut texts) = (HashSet::new(), Vec::new());
    for warning in warnings {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        if !text.is_empty() && known.insert(text.clone()) {
            texts.push(text);
        }
    }
    let all: usize = texts.iter().map(|text| text.chars().count()).sum();
    let most = if all <= WARNINGS_CHARS_MAX { all } else { LONG_WARNING_CHARS };
    let mut left = WARNINGS_CHARS_MAX;
    for text in texts {
        let text: String = text.chars().take(most).collect();
        let Some(rest) = left.checked_sub(text.chars().count()) else { return };
        left = rest;
        let quoted = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
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

/// An answer in one piece, compressed when that is worth it and its client has somebody who does it; it keeps what is
/// held for it.
pub(crate) async fn compressed(
    code: u16,
    content_type: &'static str,
    bytes: Bytes,
    gzip: Option<WorkerQueue<'_>>,
    held: Option<Held>,
) -> Response<Body> {
    let Some(worker_queue) = gzip.filter(|_| COMPRESS_FROM_BYTES <= bytes.len()) else {
        return with_body(code, content_type, Body::whole(bytes).keeping(held));
    };
    match packed(worker_queue, bytes, held).await {
        Ok((packed, held)) => {
            gzipped(with_body(code, content_type, Body::whole(packed).keeping(held)))
        }
        Err(error) => failure(&error),
    }
}

/// The same of an answer that may take room: what goes out takes it along.
pub(crate) async fn large(
    content_type: &'static str,
    bytes: Bytes,
    gzip: Option<WorkerQueue<'_>>,
    room: AnswerRoom,
) -> Result<Response<Body>, ApiError> {
    let Some(worker_queue) = gzip.filter(|_| COMPRESS_FROM_BYTES <= bytes.len()) else {
        return Ok(with_body(200, content_type, Body::in_room(bytes, room)));
    };
    let (packed, room) = packed(worker_queue, bytes, room).await?;
    Ok(gzipped(with_body(200, content_type, Body::in_room(packed, room))))
}

/// The bytes compressed, and what is held for them.
pub(crate) async fn packed<H: Send + 'static>(
    worker_queue: WorkerQueue<'_>,
    bytes: Bytes,
    held: H,
) -> Result<(Bytes, H), ApiError> {
    worker_queue.run(held, move || Ok(pack(&bytes).map_err(ApiError::internal)?.into())).await
}

pub(crate) fn gzipped(mut response: Response<Body>) -> Response<Body> {
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
    use std::sync::Arc;

    use super::*;
    use crate::flow::shares::Sharer;
    use crate::flow::workers::Workers;
    use crate::flow::workers::tests::all_turns;
    use crate::memory_account::MemoryAccount;

    #[test]
    fn warnings_are_quoted() {
        let mut response = Response::new(Body::whole(Bytes::new()));
        warn(&mut response, &[r#"unknown field "spec.x""#.to_owned()]);
        let value = response.headers().get(WARNING).unwrap();
        assert_eq!(value.as_bytes(), br#"299 - "unknown field \"spec.x\"""#);
    }

    #[test]
    fn long_warnings_are_shortened_and_hide_none_after_them() {
        let warned = |warnings: &[String]| -> Vec<String> {
            let mut response = Response::new(Body::whole(Bytes::new()));
            warn(&mut response, warnings);
            let values = response.headers().get_all(WARNING).iter();
            values.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()).collect()
        };
        let (long, short) = ("\u{e9}".repeat(4_097), "a short one".to_owned());
        let told = format!("299 - \"{}\"", "\u{e9}".repeat(256));
        assert_eq!(warned(&[long.clone(), short.clone()]), [told, "299 - \"a short one\"".into()]);
        // What fits is whole.
        let fits = "x".repeat(4_000);
        assert_eq!(
            warned(&[fits.clone(), short]),
            [format!("299 - \"{fits}\""), "299 - \"a short one\"".into()]
        );
        let many: Vec<_> = (0..100).map(|number| format!("{number} {long}")).collect();
        assert_eq!(warned(&many).len(), 16);
        assert_eq!(warned(&[String::new(), "twice".into(), "twice".into()]), ["299 - \"twice\""]);
    }

    #[tokio::test]
    async fn large_answers_are_compressed_when_asked() {
        let large = Bytes::from(vec![b'a'; COMPRESS_FROM_BYTES]);
        let workers = Workers::default();
        let packed = compressed(200, JSON, large.clone(), Some(workers.of_all()), None).await;
        assert_eq!(packed.headers().get(CONTENT_ENCODING).unwrap(), "gzip");
        let plain = compressed(200, JSON, large, None, None).await;
        assert!(plain.headers().get(CONTENT_ENCODING).is_none());
    }

    /// Bytes of which it is known whether they are there.
    struct Seen {
        bytes: Vec<u8>,
        _there: Arc<()>,
    }

    impl AsRef<[u8]> for Seen {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    fn seen(there: &Arc<()>) -> Bytes {
        Bytes::from_owner(Seen { bytes: vec![b'a'; 2 << 20], _there: there.clone() })
    }

    #[test]
    fn what_waits_to_be_compressed_is_on_its_account_until_it_is_gone() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(1).enable_all().build().unwrap();
        let account = MemoryAccount::new(Arc::default());
        let there = Arc::new(());
        let bytes = seen(&there);
        let (goes_on, stuck) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            let stuck = tokio::task::spawn_blocking(move || stuck.recv().is_ok());
            let held = account.hold(2 << 20).await.unwrap();
            let workers = Workers::default();
            let worker_queue = Some(workers.of_all());
            let mut packs = Box::pin(compressed(200, JSON, bytes, worker_queue, held));
            assert!(futures::poll!(packs.as_mut()).is_pending());
            // The client resets its stream.
            drop(packs);
            let is_there = Arc::strong_count(&there) != 1;
            assert!(!is_there || account.held() != 0, "on nobody's account");
            drop(goes_on);
            assert!(!stuck.await.unwrap());
        });
        drop(runtime);
        assert_eq!((Arc::strong_count(&there), account.held()), (1, 0));
    }

    #[tokio::test]
    async fn few_answers_are_compressed_at_a_time() {
        let there = Arc::new(());
        let workers = Workers::default();
        let (all, bytes) = (all_turns(&workers), seen(&there));
        let worker_queue = Some(workers.of(Sharer::in_root("three")));
        let mut packs = Box::pin(compressed(200, JSON, bytes.clone(), worker_queue, None));
        assert!(futures::poll!(packs.as_mut()).is_pending());
        drop(bytes);
        // Who goes away while it waits leaves nothing behind.
        drop(packs);
        assert_eq!(Arc::strong_count(&there), 1);
        drop(all);
    }
}
