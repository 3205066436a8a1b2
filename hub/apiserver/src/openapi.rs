//! `/openapi/v3` and its documents, which hub-api makes.

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::openapi;
use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderValue, Response};

use crate::body::Body;
use crate::media::JSON;
use crate::respond;

/// The index (an empty path) or one document; `prefix` is the cluster's part of the URL.
///
/// # Errors
/// 404 for a group and version that is not served.
pub async fn answer(
    prefix: &str,
    path: &str,
    query: &str,
    gzip: bool,
) -> Result<Response<Body>, ApiError> {
    if path.is_empty() {
        return Ok(respond::json(200, &openapi::index(prefix)));
    }
    // The first call makes the document, which takes longer than a request may hold a thread.
    let owned = path.to_owned();
    let document = tokio::task::spawn_blocking(move || openapi::document(&owned))
        .await
        .map_err(ApiError::internal)?
        .ok_or_else(respond::no_such_path)?;
    let mut response = respond::compressed(200, JSON, document.body, gzip).await;
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
