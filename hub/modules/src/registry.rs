//! The OCI distribution API (spec 1.1) over blobs and tags: what `hub push`, `oras` and `wkg` speak.
//!
//! Served: `GET /v2/`, blobs (HEAD, GET, POST, PATCH, PUT), manifests (HEAD, GET, PUT, DELETE), `tags/list`.
//! A manifest is taken only when exactly one of its layers is a Wasm component with an entry.

use std::convert::Infallible;

use bytes::Bytes;
use freewheel_link::digest::Digest;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

use crate::blobs::BlobError;
use crate::inspect::inspect;
use crate::modules::Modules;
use crate::reference::{is_repository, is_tag};
use crate::tags::{Manifest, TagError};

/// Largest manifest in bytes (the distribution spec asks for 4 MiB at least).
const MAX_MANIFEST: usize = 4 << 20;

/// Media types of a layer that is a module (CNCF Wasm layout, and what `oras` users write).
const MODULE_TYPES: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];

/// Body of the registry's answers.
pub type RegistryBody = UnsyncBoxBody<Bytes, Infallible>;

/// An error of the distribution spec.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

fn refuse(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into() }
}

impl From<BlobError> for Refusal {
    fn from(error: BlobError) -> Self {
        let text = error.to_string();
        match error {
            BlobError::TooLarge => refuse(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", text),
            BlobError::Digest { .. } => refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", text),
            BlobError::NoUpload => refuse(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", text),
            BlobError::Disk(source) => {
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", format!("{text}: {source}"))
            }
        }
    }
}

impl From<TagError> for Refusal {
    fn from(error: TagError) -> Self {
        match error {
            TagError::TooMany => {
                refuse(StatusCode::INSUFFICIENT_STORAGE, "DENIED", error.to_string())
            }
            TagError::Disk(source) => refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                format!("the registry's disk failed: {source}"),
            ),
        }
    }
}

/// What a path asks for.
enum Route<'a> {
    Root,
    Tags(&'a str),
    Manifest(&'a str, &'a str),
    Blob(&'a str),
    NewUpload(&'a str),
    Upload(&'a str, &'a str),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        if rest.is_empty() {
            return Some(Self::Root);
        }
        let named = |name: &'a str| is_repository(name).then_some(name);
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return named(name).map(Self::Tags);
        }
        if let Some((name, upload)) = rest.rsplit_once("/blobs/uploads/") {
            return named(name).map(|name| {
                if upload.is_empty() { Self::NewUpload(name) } else { Self::Upload(name, upload) }
            });
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            return named(name).map(Self::NewUpload);
        }
        if let Some((name, reference)) = rest.rsplit_once("/manifests/") {
            return named(name).map(|name| Self::Manifest(name, reference));
        }
        let (name, digest) = rest.rsplit_once("/blobs/")?;
        named(name).map(|_| Self::Blob(digest))
    }
}

impl Modules {
    /// Answers one request below `/v2/`. The caller has authenticated it.
    pub async fn serve<B>(&self, request: Request<B>) -> Response<RegistryBody>
    where
        B: Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let outcome = match Route::of(head.uri.path()) {
            Some(route) => self.route(&head, route, body).await,
            None => Err(refuse(
                StatusCode::NOT_FOUND,
                "NAME_INVALID",
                "there is no such path, or no such name of a repository",
            )),
        };
        outcome.unwrap_or_else(|refusal| {
            let body = json!({"errors": [{"code": refusal.code, "message": refusal.message}]});
            let mut response = answer(refusal.status, body.to_string().into());
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
            response
        })
    }

    async fn route<B>(
        &self,
        head: &http::request::Parts,
        route: Route<'_>,
        body: B,
    ) -> Result<Response<RegistryBody>, Refusal>
    where
        B: Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let method = &head.method;
        let read = method == Method::GET || method == Method::HEAD;
        match route {
            Route::Root if read => Ok(answer(StatusCode::OK, Bytes::from_static(b"{}"))),
            Route::Tags(name) if read => self.tags(name),
            Route::Manifest(name, reference) if read => self.get_manifest(name, reference),
            Route::Manifest(name, reference) if method == Method::PUT => {
                self.put_manifest(name, reference, content_type(head), body).await
            }
            Route::Manifest(name, reference) if method == Method::DELETE => {
                self.delete_manifest(name, reference)
            }
            Route::Blob(digest) if read => self.get_blob(digest, method == Method::HEAD).await,
            Route::NewUpload(name) if method == Method::POST => {
                self.new_upload(name, head.uri.query(), body).await
            }
            Route::Upload(name, upload) if method == Method::PATCH => {
                self.patch_upload(name, upload, body).await
            }
            Route::Upload(name, upload) if method == Method::PUT => {
                let digest = wanted_digest(head.uri.query())?.ok_or_else(|| {
                    refuse(
                        StatusCode::BAD_REQUEST,
                        "DIGEST_INVALID",
                        "the digest= parameter is missing",
                    )
                })?;
                self.finish_upload(name, upload, digest, body).await
            }
            _ => Err(refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                format!("{method} is not served here"),
            )),
        }
    }

    fn tags(&self, name: &str) -> Result<Response<RegistryBody>, Refusal> {
        let tags = self.inner.tags.list(name).ok_or_else(|| unknown_name(name))?;
        Ok(answer(StatusCode::OK, json!({"name": name, "tags": tags}).to_string().into()))
    }

    fn get_manifest(&self, name: &str, reference: &str) -> Result<Response<RegistryBody>, Refusal> {
        let unknown = || {
            refuse(
                StatusCode::NOT_FOUND,
                "MANIFEST_UNKNOWN",
                format!("{name} has no manifest {reference}"),
            )
        };
        let manifest = self.inner.tags.get(name, reference).ok_or_else(unknown)?;
        let digest: Digest = manifest.digest.parse().map_err(|_| unknown())?;
        let bytes = self.inner.blobs.read(&digest).map_err(BlobError::from)?;
        let mut response = answer(StatusCode::OK, bytes.into());
        set(&mut response, header::CONTENT_TYPE, &manifest.media_type);
        set(&mut response, digest_header(), &manifest.digest);
        Ok(response)
    }

    fn delete_manifest(
        &self,
        name: &str,
        reference: &str,
    ) -> Result<Response<RegistryBody>, Refusal> {
        if !self.inner.tags.remove(name, reference)? {
            return Err(refuse(
                StatusCode::NOT_FOUND,
                "MANIFEST_UNKNOWN",
                format!("{name} has no manifest {reference}"),
            ));
        }
        Ok(answer(StatusCode::ACCEPTED, Bytes::new()))
    }

    async fn put_manifest<B>(
        &self,
        name: &str,
        reference: &str,
        media_type: String,
        body: B,
    ) -> Result<Response<RegistryBody>, Refusal>
    where
        B: Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let invalid = |why: String| refuse(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", why);
        if !is_tag(reference) && reference.parse::<Digest>().is_err() {
            return Err(invalid(format!("{reference:?} is neither a tag nor a digest")));
        }
        let bytes = Limited::new(body, MAX_MANIFEST)
            .collect()
            .await
            .map_err(|e| invalid(format!("cannot be read: {e}")))?
            .to_bytes();
        let digest = Digest::of(&bytes);
        if reference.parse::<Digest>().is_ok_and(|named| named != digest) {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                format!("the manifest's digest is {digest}"),
            ));
        }
        let manifest: Value =
            serde_json::from_slice(&bytes).map_err(|e| invalid(format!("it is no JSON: {e}")))?;
        let component = self.component_of(&manifest)?;
        self.inner.blobs.put(&bytes).await?;
        let entry =
            Manifest { digest: digest.to_string(), media_type, component: component.to_string() };
        self.inner.tags.put(name, reference, &entry)?;
        self.pushed(component);
        let mut response = answer(StatusCode::CREATED, Bytes::new());
        set(&mut response, header::LOCATION, &format!("/v2/{name}/manifests/{digest}"));
        set(&mut response, digest_header(), &entry.digest);
        Ok(response)
    }

    /// The one layer that is a module, checked from the outside in.
    fn component_of(&self, manifest: &Value) -> Result<Digest, Refusal> {
        let invalid = |why: String| refuse(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", why);
        let layers = manifest.get("layers").and_then(Value::as_array);
        let modules: Vec<&Value> = layers
            .into_iter()
            .flatten()
            .filter(|layer| {
                layer["mediaType"].as_str().is_some_and(|kind| MODULE_TYPES.contains(&kind))
            })
            .collect();
        let [module] = modules.as_slice() else {
            return Err(invalid(format!(
                "a module's manifest has exactly one layer of the type application/wasm; this one has {}",
                modules.len()
            )));
        };
        let digest: Digest = module["digest"]
            .as_str()
            .unwrap_or_default()
            .parse()
            .map_err(|e| invalid(format!("{e}")))?;
        if self.inner.blobs.size(&digest).is_none() {
            return Err(refuse(
                StatusCode::NOT_FOUND,
                "MANIFEST_BLOB_UNKNOWN",
                format!("push the blob {digest} first"),
            ));
        }
        let bytes = self.inner.blobs.read(&digest).map_err(BlobError::from)?;
        inspect(&bytes).map_err(|why| invalid(format!("the layer cannot run as a pod: {why}")))?;
        Ok(digest)
    }

    async fn get_blob(&self, digest: &str, head: bool) -> Result<Response<RegistryBody>, Refusal> {
        let unknown =
            || refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("there is no blob {digest}"));
        let parsed: Digest = digest.parse().map_err(|_| unknown())?;
        let size = self.inner.blobs.size(&parsed).ok_or_else(unknown)?;
        let body = if head {
            Bytes::new()
        } else {
            tokio::fs::read(self.inner.blobs.path(&parsed)).await.map_err(BlobError::from)?.into()
        };
        let mut response = answer(StatusCode::OK, body);
        set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
        set(&mut response, header::CONTENT_LENGTH, &size.to_string());
        set(&mut response, digest_header(), digest);
        Ok(response)
    }

    async fn new_upload<B>(
        &self,
        name: &str,
        query: Option<&str>,
        body: B,
    ) -> Result<Response<RegistryBody>, Refusal>
    where
        B: Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let upload = self.inner.blobs.begin().await?;
        if let Some(digest) = wanted_digest(query)? {
            return self.finish_upload(name, &upload, digest, body).await;
        }
        Ok(accepted(name, &upload, 0))
    }

    async fn patch_upload<B>(
        &self,
        name: &str,
        upload: &str,
        body: B,
    ) -> Result<Response<RegistryBody>, Refusal>
    where
        B: Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let size = self.take(upload, body).await?;
        Ok(accepted(name, upload, size))
    }

    async fn finish_upload<B>(
        &self,
        name: &str,
        upload: &str,
        digest: Digest,
        body: B,
    ) -> Result<Response<RegistryBody>, Refusal>
    where
        B: Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.take(upload, body).await?;
        self.inner.blobs.finish(upload, digest).await?;
        let mut response = answer(StatusCode::CREATED, Bytes::new());
        set(&mut response, header::LOCATION, &format!("/v2/{name}/blobs/{digest}"));
        set(&mut response, digest_header(), &digest.to_string());
        Ok(response)
    }

    /// Streams a body into an upload, one frame in memory at a time.
    async fn take<B>(&self, upload: &str, mut body: B) -> Result<u64, Refusal>
    where
        B: Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut size = self.inner.blobs.append(upload, &Bytes::new()).await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| {
                refuse(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", e.into().to_string())
            })?;
            if let Ok(chunk) = frame.into_data() {
                size = self.inner.blobs.append(upload, &chunk).await?;
            }
        }
        Ok(size)
    }
}

fn accepted(name: &str, upload: &str, size: u64) -> Response<RegistryBody> {
    let mut response = answer(StatusCode::ACCEPTED, Bytes::new());
    set(&mut response, header::LOCATION, &format!("/v2/{name}/blobs/uploads/{upload}"));
    set(&mut response, header::RANGE, &format!("0-{}", size.saturating_sub(1)));
    response
}

fn wanted_digest(query: Option<&str>) -> Result<Option<Digest>, Refusal> {
    let Some(raw) =
        query.into_iter().flat_map(|q| q.split('&')).find_map(|pair| pair.strip_prefix("digest="))
    else {
        return Ok(None);
    };
    let text = raw.replace("%3A", ":").replace("%3a", ":");
    text.parse()
        .map(Some)
        .map_err(|e| refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", format!("{e}")))
}

fn content_type(head: &http::request::Parts) -> String {
    let given = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    given.unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned()
}

fn unknown_name(name: &str) -> Refusal {
    refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("there is no repository {name}"))
}

fn digest_header() -> header::HeaderName {
    header::HeaderName::from_static("docker-content-digest")
}

fn answer(status: StatusCode, body: Bytes) -> Response<RegistryBody> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn set(response: &mut Response<RegistryBody>, name: header::HeaderName, value: &str) {
    // Values are digests, numbers and names that were checked; a media type may hold anything.
    if let Ok(value) = header::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests;
