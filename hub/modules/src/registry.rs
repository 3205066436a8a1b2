//! The OCI distribution API (spec 1.1) over blobs and tags: what `hub push`, `oras` and `wkg` speak.
//!
//! ```text
//! GET    /v2/
//! GET                           /v2/_catalog                  manifests
//! HEAD   GET    DELETE          /v2/NAME/blobs/DIGEST         content: whole or a range, from the disk
//! POST                          /v2/NAME/blobs/uploads/       uploads: also in one request, or by mount
//! GET    PATCH  PUT    DELETE   /v2/NAME/blobs/uploads/ID     uploads
//! HEAD   GET    PUT    DELETE   /v2/NAME/manifests/TAG|DIGEST manifests
//! HEAD   GET                    /v2/NAME/referrers/DIGEST     referrers: what says something of a manifest
//! GET                           /v2/NAME/tags/list            manifests
//! GET                           /v2/_freewheel/compiled/DIGEST  ours: where a module's compilations stand
//! ```
//!
//! A manifest is taken only when exactly one of its layers is a Wasm component with an entry, or when it says something
//! of another one (`subject`), and when all that it names is here. Memory holds one piece of a blob, on its way in or
//! out, whatever its size.

mod compilations;
mod content;
mod manifests;
mod range;
mod referrers;
mod refusal;
mod uploads;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};

use crate::modules::Modules;
use crate::reference::is_repository;
use crate::state::Inner;
use refusal::{Refusal, refuse};

/// Bytes of a blob that are held in memory at a time.
const READ_CHUNK_BYTES: usize = 64 << 10;

/// Body of the registry's answers.
pub type RegistryBody = UnsyncBoxBody<Bytes, io::Error>;

/// An extension of a request whose caller may know of the registry and of nothing else in the hub.
#[derive(Clone, Copy, Debug)]
pub struct RegistryOnly;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Body of a request.
trait Upload: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin> Upload for B {}

/// What a path asks for.
enum Route<'a> {
    Root,
    Catalog,
    Tags(&'a str),
    Manifest(&'a str, &'a str),
    Referrers(&'a str, &'a str),
    Blob(&'a str),
    NewUpload(&'a str),
    Upload(&'a str, &'a str),
    Compiled(&'a str),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        if rest.is_empty() {
            return Some(Self::Root);
        }
        if rest == "_catalog" {
            return Some(Self::Catalog);
        }
        // No repository's name begins so.
        if let Some(digest) = rest.strip_prefix("_freewheel/compiled/") {
            return Some(Self::Compiled(digest));
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
        if let Some((name, digest)) = rest.rsplit_once("/referrers/") {
            return named(name).map(|name| Self::Referrers(name, digest));
        }
        let (name, digest) = rest.rsplit_once("/blobs/")?;
        named(name).map(|_| Self::Blob(digest))
    }

    /// What may be done here.
    const fn methods(&self) -> &'static str {
        match self {
            Self::Root | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => "GET, HEAD",
            Self::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Self::Blob(_) => "GET, HEAD, DELETE",
            Self::NewUpload(_) => "POST",
            Self::Upload(..) => "GET, PATCH, PUT, DELETE",
            Self::Compiled(_) => "GET",
        }
    }
}

impl Modules {
    /// Answers one request below `/v2/`. The caller has authenticated it.
    pub async fn serve<B>(&self, request: Request<B>) -> Response<RegistryBody>
    where
        B: Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, mut body) = request.into_parts();
        let outcome = match Route::of(head.uri.path()) {
            Some(route) => self.route(&head, route, &mut body).await,
            None => Err(refuse(
                StatusCode::NOT_FOUND,
                "NAME_INVALID",
                "there is no such path, or no such name of a repository",
            )),
        };
        // What was not read of the request is the door's: it reads on while the answer is on its way.
        outcome.unwrap_or_else(Refusal::answer)
    }

    async fn route<B: Upload>(
        &self,
        head: &http::request::Parts,
        route: Route<'_>,
        body: &mut B,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let read = head.method == Method::GET || head.method == Method::HEAD;
        let methods = route.methods();
        match (route, &head.method) {
            (Route::Root, _) if read => Ok(answer(StatusCode::OK, Bytes::from_static(b"{}"))),
            (Route::Catalog, _) if read => Ok(self.catalog(head.uri.query())),
            (Route::Compiled(digest), &Method::GET) => self.compilations(digest),
            (Route::Tags(name), _) if read => self.tags(name, head.uri.query()),
            (Route::Manifest(name, reference), _) if read => {
                self.get_manifest(head, name, reference).await
            }
            (Route::Manifest(name, reference), &Method::PUT) => {
                self.put_manifest(head, name, reference, body).await
            }
            (Route::Manifest(name, reference), &Method::DELETE) => {
                self.delete_manifest(head.uri.query(), name, reference).await
            }
            (Route::Referrers(name, digest), _) if read => {
                self.referrers(name, digest, head.uri.query()).await
            }
            (Route::Blob(digest), _) if read => self.get_blob(head, digest).await,
            (Route::Blob(digest), &Method::DELETE) => self.delete_blob(digest).await,
            (Route::NewUpload(name), &Method::POST) => {
                self.new_upload(name, head.uri.query(), body).await
            }
            (Route::Upload(name, upload), &Method::GET) => self.upload_status(name, upload),
            (Route::Upload(name, upload), &Method::PATCH) => {
                self.patch_upload(head, name, upload, body).await
            }
            (Route::Upload(name, upload), &Method::PUT) => {
                self.put_upload(head, name, upload, body).await
            }
            (Route::Upload(_, upload), &Method::DELETE) => self.cancel_upload(upload).await,
            (_, method) => Err(refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                format!("{method} is not served here, but {methods}"),
            )
            .with(header::ALLOW, methods)),
        }
    }

    /// Work on the disk, where no other request waits for it.
    async fn on_disk<T, E>(
        &self,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<io::Error> + Send + 'static,
    {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(outcome) => outcome,
            Err(died) => Err(io::Error::other(died).into()),
        }
    }
}

/// The value of a query's parameter. A plus is one: media types have them, and no value has a space.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find_map(|(key, value)| (key == name).then_some(value))?;
    Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
}

fn answer(status: StatusCode, body: Bytes) -> Response<RegistryBody> {
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// An answer without a body, about a blob or manifest that is in its place now.
fn created(location: &str, digest: &freewheel_link::digest::Digest) -> Response<RegistryBody> {
    let mut response = answer(StatusCode::CREATED, Bytes::new());
    set(&mut response, header::LOCATION, location);
    set(&mut response, digest_header(), &digest.to_string());
    response
}

fn digest_header() -> header::HeaderName {
    header::HeaderName::from_static("docker-content-digest")
}

fn set(response: &mut Response<RegistryBody>, name: header::HeaderName, value: &str) {
    // Values are digests, numbers and names that were checked; a media type may hold anything.
    if let Ok(value) = header::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn text_of<'a>(head: &'a http::request::Parts, name: &header::HeaderName) -> Option<&'a str> {
    head.headers.get(name)?.to_str().ok()
}

#[cfg(test)]
pub(crate) mod tests;
