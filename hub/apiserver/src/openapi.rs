//! `/openapi/v3`, its documents and `/openapi/v2`, which hub-api makes.
//!
//! Guarantees:
//! - a document is compressed once for all who ask for it, while it is one of few
//!   (`a_document_is_compressed_once_while_it_is_one_of_few`).

use std::collections::VecDeque;

use bytes::Bytes;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::openapi::{self, Document};
use freewheel_hub_api::registry::Registry;
use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderValue, Response};
use parking_lot::Mutex;

use crate::body::Body;
use crate::media::{self, JSON, Wire};
use crate::respond;
use crate::unsent::Unsent;

/// Its protobuf form, as kube-apiserver names it in answers.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Bytes of compressed documents that are kept.
const KEPT: usize = 8 << 20;

/// Compressed documents, by their hash and form: everybody asks for the same few.
#[derive(Default)]
pub(crate) struct Packed(Mutex<VecDeque<(String, &'static str, Bytes)>>);

impl Packed {
    fn get(&self, hash: &str, form: &str) -> Option<Bytes> {
        let kept = self.0.lock();
        let one = kept.iter().find(|(kept, of, _)| kept == hash && *of == form);
        one.map(|(_, _, bytes)| bytes.clone())
    }

    /// Keeps one, in place of the oldest when there are too many.
    fn keep(&self, hash: &str, form: &'static str, bytes: Bytes) {
        let mut kept = self.0.lock();
        kept.retain(|(kept, of, _)| kept != hash || *of != form);
        kept.push_back((hash.to_owned(), form, bytes));
        while KEPT < kept.iter().map(|(_, _, bytes)| bytes.len()).sum() {
            kept.pop_front();
        }
    }

    /// The document's compressed form.
    async fn of(&self, document: &Document, form: &'static str) -> Result<Bytes, ApiError> {
        if let Some(bytes) = self.get(&document.hash, form) {
            return Ok(bytes);
        }
        let (bytes, ()) = respond::packed(document.body.clone(), ()).await?;
        self.keep(&document.hash, form, bytes.clone());
        Ok(bytes)
    }
}

/// Who asks for what is the same for many.
#[derive(Clone, Copy)]
pub(crate) struct Asks<'a> {
    pub(crate) packed: &'a Packed,
    pub(crate) unsent: &'a Unsent,
    pub(crate) gzip: bool,
}

/// The index (an empty path) or one document; `prefix` is the cluster's part of the URL.
///
/// # Errors
/// 404 for a group and version that is not served.
pub(crate) async fn answer(
    registry: Registry,
    prefix: &str,
    path: &str,
    query: &str,
    asks: Asks<'_>,
) -> Result<Response<Body>, ApiError> {
    if path.is_empty() {
        return Ok(respond::json(200, &openapi::index(&registry, prefix)));
    }
    let owned = path.to_owned();
    let document = made(move || openapi::document(&registry, &owned)).await?;
    let document = document.ok_or_else(respond::no_such_path)?;
    send(document, JSON, query, asks).await
}

/// `/openapi/v2`, in gnostic's protobuf for older clients of client-go, else in JSON.
///
/// # Errors
/// 406 when neither is taken.
pub(crate) async fn answer_v2(
    registry: Registry,
    accept: Option<&str>,
    asks: Asks<'_>,
) -> Result<Response<Body>, ApiError> {
    let wants_protobuf = |clause: &media::Clause<'_>| {
        matches!(
            clause.media,
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf" | V2_PROTOBUF
        )
    };
    if accept.is_some_and(|accept| media::clauses(accept).first().is_some_and(wants_protobuf)) {
        return send(made(move || openapi::v2_protobuf(&registry)).await?, V2_PROTOBUF, "", asks)
            .await;
    }
    media::negotiate(accept, |wanted| wanted.wire == Wire::Json)?;
    send(made(move || openapi::v2(&registry)).await?, JSON, "", asks).await
}

/// The first call makes a document, which takes longer than a request may hold a thread.
async fn made<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(make).await.map_err(ApiError::internal)
}

async fn send(
    document: Document,
    content_type: &'static str,
    query: &str,
    asks: Asks<'_>,
) -> Result<Response<Body>, ApiError> {
    let packs = asks.gzip && respond::COMPRESS_FROM <= document.body.len();
    let bytes = match packs {
        true => asks.packed.of(&document, content_type).await?,
        false => document.body,
    };
    // What waits for room here is the same bytes for all.
    let held = asks.unsent.hold(bytes.len()).await?;
    let mut response = respond::whole(200, content_type, bytes).map(|body| body.keeping(held));
    if packs {
        response = respond::gzipped(response);
    }
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", document.hash)) {
        headers.insert(ETAG, tag);
    }
    let asked = crate::query::pairs(query).find(|(name, _)| name == "hash");
    if asked.is_some_and(|(_, hash)| hash == document.hash) {
        // The URL names its content, so a client may keep it for ever.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_document_is_compressed_once_while_it_is_one_of_few() {
        let packed = Packed::default();
        let document = Document { body: vec![b'a'; 1 << 20].into(), hash: "a".to_owned() };
        let first = packed.of(&document, JSON).await.unwrap();
        assert_eq!(packed.of(&document, JSON).await.unwrap().as_ptr(), first.as_ptr());
        assert_ne!(packed.of(&document, V2_PROTOBUF).await.unwrap().as_ptr(), first.as_ptr());
        for number in 0..3 {
            packed.keep(&number.to_string(), JSON, vec![0; KEPT / 3].into());
        }
        assert!(packed.get("a", JSON).is_none() && packed.get("2", JSON).is_some());
        let kept: usize = packed.0.lock().iter().map(|(_, _, bytes)| bytes.len()).sum();
        assert!(kept <= KEPT);
    }
}
