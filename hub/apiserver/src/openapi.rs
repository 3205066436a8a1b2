//! `/openapi/v3`, its documents and `/openapi/v2`, which hub-api makes.

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::openapi::{self, Document};
use freewheel_hub_api::registry::Registry;
use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderValue, Response};

use crate::body::Body;
use crate::media::{self, JSON, Wire};
use crate::respond;

/// Its protobuf form, as kube-apiserver names it in answers.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The index (an empty path) or one document; `prefix` is the cluster's part of the URL.
///
/// # Errors
/// 404 for a group and version that is not served.
pub async fn answer(
    registry: Registry,
    prefix: &str,
    path: &str,
    query: &str,
    gzip: bool,
) -> Result<Response<Body>, ApiError> {
    if path.is_empty() {
        return Ok(respond::json(200, &openapi::index(&registry, prefix)));
    }
    let owned = path.to_owned();
    let document = made(move || openapi::document(&registry, &owned)).await?;
    let document = document.ok_or_else(respond::no_such_path)?;
    send(document, JSON, query, gzip).await
}

/// `/openapi/v2`, in gnostic's protobuf for older clients of client-go, else in JSON.
///
/// # Errors
/// 406 when neither is taken.
pub async fn answer_v2(
    registry: Registry,
    accept: Option<&str>,
    gzip: bool,
) -> Result<Response<Body>, ApiError> {
    let wants_protobuf = |clause: &media::Clause<'_>| {
        matches!(
            clause.media,
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf" | V2_PROTOBUF
        )
    };
    if accept.is_some_and(|accept| media::clauses(accept).first().is_some_and(wants_protobuf)) {
        return send(made(move || openapi::v2_protobuf(&registry)).await?, V2_PROTOBUF, "", gzip)
            .await;
    }
    media::negotiate(accept, |wanted| wanted.wire == Wire::Json)?;
    send(made(move || openapi::v2(&registry)).await?, JSON, "", gzip).await
}

/// The first call makes a document, which takes longer than a request may hold a thread.
async fn made<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(make).await.map_err(ApiError::internal)
}

async fn send(
    document: Document,
    content_type: &'static str,
    query: &str,
    gzip: bool,
) -> Result<Response<Body>, ApiError> {
    let mut response = respond::compressed(200, content_type, document.body, gzip).await;
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
