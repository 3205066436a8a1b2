//! Manifests and tags: GET, HEAD, PUT, DELETE, and the list of tags.

use std::fmt::Write as _;
use std::fs::File;
use std::io::ErrorKind::{InvalidData, NotFound};
use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_api::images::Users;
use freewheel_link::digest::Digest;
use http::header::{self, HeaderName};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;

use super::refusal::{Refusal, refuse};
use super::uploads::UPLOAD_STALL_TIMEOUT;
use super::{
    RegistryBody, RegistryOnly, Upload, answer, created, digest_header, parameter, set, text_of,
};
use crate::inspect::{Entry, NotAModule, inspect};
use crate::manifest::{BadManifest, ImageManifest, MANIFEST_BYTES_MAX, is_tag_of_another};
use crate::modules::Modules;
use crate::reference::{Reference, is_tag};
use crate::state::Inner;
use crate::tags::{Manifest, Module};

/// What a manifest is when its pusher does not say.
const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Modules {
    /// Tags in order: after `last=`, and `n=` of them at most.
    pub(super) fn tags(
        &self,
        name: &str,
        query: Option<&str>,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let mut tags = self.inner.tags.list(name).ok_or_else(|| {
            let text = format!("there is no repository {name}");
            refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", text)
        })?;
        let more = page(&mut tags, query);
        let body = json!({"name": name, "tags": tags}).to_string();
        let path = format!("/v2/{name}/tags/list");
        Ok(listed(body, more.as_ref().map(|more| more.link(&path))))
    }

    /// Repositories in order, in the same pages.
    pub(super) fn catalog(&self, query: Option<&str>) -> Response<RegistryBody> {
        let mut names = self.inner.tags.repositories();
        let more = page(&mut names, query);
        let body = json!({"repositories": names}).to_string();
        listed(body, more.as_ref().map(|more| more.link("/v2/_catalog")))
    }

    pub(super) async fn get_manifest(
        &self,
        head: &http::request::Parts,
        name: &str,
        reference: &str,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let manifest =
            self.inner.tags.get(name, reference).ok_or_else(|| unknown(name, reference))?;
        let digest: Digest = manifest.digest.parse().map_err(|_| unknown(name, reference))?;
        let read = self.on_disk(move |inner| inner.blobs.read(&digest, MANIFEST_BYTES_MAX as u64));
        let bytes = match read.await {
            // Who pushes it again has it back.
            Err(error) if matches!(error.kind(), NotFound | InvalidData) => {
                return Err(lost(name, reference, &digest, error.kind() == NotFound));
            }
            other => other?,
        };
        let length = bytes.len();
        let body = if head.method == Method::HEAD { Bytes::new() } else { bytes.into() };
        let mut response = answer(StatusCode::OK, body);
        set(&mut response, header::CONTENT_TYPE, &manifest.media_type);
        set(&mut response, header::CONTENT_LENGTH, &length.to_string());
        set(&mut response, digest_header(), &manifest.digest);
        Ok(response)
    }

    /// A tag goes alone; a digest takes its tags along, and what somebody runs goes only by `?force=true`. Blobs go
    /// when they are collected.
    pub(super) async fn delete_manifest(
        &self,
        query: Option<&str>,
        name: &str,
        reference: &str,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let known = |digest: &Digest| self.inner.tags.get(name, &digest.to_string()).is_some();
        let used = match reference.parse::<Digest>().ok().filter(known) {
            Some(digest) => {
                let repository = name.to_owned();
                let look =
                    move |inner: &Arc<Inner>| Ok::<_, Refusal>(used(inner, &repository, &digest));
                self.on_disk(look).await?
            }
            // Whoever runs it keeps what the tag stood for.
            None => None,
        };
        let forced = parameter(query, "force").is_some_and(|force| force == "true");
        if let Some(used) = used.as_ref().filter(|_| !forced) {
            let text =
                format!("{used}; to delete it all the same: `hub rm --force`, or `?force=true`");
            return Err(refuse(StatusCode::CONFLICT, "DENIED", text));
        }
        let (repository, named) = (name.to_owned(), reference.to_owned());
        let gone = self
            .on_disk(move |inner| inner.tags.remove(&repository, &named).map_err(Refusal::from));
        if !gone.await? {
            return Err(unknown(name, reference));
        }
        self.untagged();
        let mut response = answer(StatusCode::ACCEPTED, Bytes::new());
        if let Some(used) = used {
            set(&mut response, header::WARNING, &format!("299 - \"{used}\""));
        }
        Ok(response)
    }

    pub(super) async fn put_manifest<B: Upload>(
        &self,
        head: &http::request::Parts,
        name: &str,
        reference: &str,
        body: &mut B,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let media_type = text_of(head, &header::CONTENT_TYPE).unwrap_or(IMAGE_MANIFEST).to_owned();
        let named = reference.parse::<Digest>().ok();
        if !is_tag(reference) && named.is_none() {
            return Err(invalid(format!("{reference:?} is neither a tag nor a digest")));
        }
        let whole = tokio::time::timeout(
            UPLOAD_STALL_TIMEOUT,
            Limited::new(body, MANIFEST_BYTES_MAX).collect(),
        );
        let bytes = whole
            .await
            .map_err(|_| {
                let text = format!("it did not come within {UPLOAD_STALL_TIMEOUT:?}");
                refuse(StatusCode::REQUEST_TIMEOUT, "MANIFEST_INVALID", text)
            })?
            .map_err(|e| invalid(format!("it cannot be read: {e}")))?
            .to_bytes();
        let digest = Digest::of(&bytes);
        if named.is_some_and(|named| named != digest) {
            let text = format!("the manifest's digest is {digest}");
            return Err(refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", text));
        }
        // Never closed: it lives as long as the registry.
        let _turn = self.inner.inspections.acquire().await;
        let (repository, tag) = (name.to_owned(), reference.to_owned());
        let registered = self
            .on_disk(move |inner| register(inner, &repository, &tag, &bytes, (digest, media_type)));
        let Registered { component, subject, before } = registered.await?;
        match component {
            Some(component) => self.pushed(component),
            // A tag may have stood for a module.
            None => self.untagged(),
        }
        let mut response = created(&format!("/v2/{name}/manifests/{digest}"), &digest);
        if let Some(subject) = subject {
            // Says that the subject was understood: who does not read it keeps a list of his own.
            set(&mut response, HeaderName::from_static("oci-subject"), &subject.to_string());
        }
        if let Some(before) = before.filter(|before| *before != digest) {
            let (repository, tag) = (name.to_owned(), reference.to_owned());
            let tells = head.extensions.get::<RegistryOnly>().is_none();
            let moved = self.on_disk(move |inner| {
                Ok::<_, Refusal>(moved(inner, (&repository, &tag), (&before, &digest), tells))
            });
            // The distribution spec's way to tell people something with a success.
            let text = format!("299 - \"{}\"", moved.await?);
            set(&mut response, header::WARNING, &text);
        }
        Ok(response)
    }
}

/// Where a list in pages goes on.
struct More {
    most: usize,
    last: String,
}

impl More {
    fn link(&self, path: &str) -> String {
        format!("<{path}?n={}&last={}>; rel=\"next\"", self.most, self.last)
    }
}

/// Leaves of a sorted list what comes after `last=`, and `n=` of it at most.
fn page(names: &mut Vec<String>, query: Option<&str>) -> Option<More> {
    if let Some(last) = parameter(query, "last") {
        names.retain(|name| last < *name);
    }
    let most = parameter(query, "n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let more = most < names.len();
    names.truncate(most);
    let last = names.last().filter(|_| more)?.clone();
    Some(More { most, last })
}

fn listed(body: String, next: Option<String>) -> Response<RegistryBody> {
    let mut response = answer(StatusCode::OK, body.into());
    set(&mut response, header::CONTENT_TYPE, "application/json");
    if let Some(next) = next {
        set(&mut response, header::LINK, &next);
    }
    response
}

/// What deleting a manifest means to those who run it; `None`: nobody does. Blocking.
fn used(inner: &Inner, repository: &str, digest: &Digest) -> Option<String> {
    let names = |image: &str| {
        let own = image.parse::<Reference>().ok().and_then(|image| inner.own(&image).ok());
        own.is_some_and(|(name, _)| name == repository)
    };
    let Users { pods, without_pods, restarts, .. } = inner.running.get()?.users(digest, &names);
    if pods + without_pods == 0 {
        return None;
    }
    let mut text = format!(
        "pods that run {repository}@{digest}: {pods}; ReplicaSets, revisions and Jobs without pods that will run it \
         again: {without_pods}. They cannot start without it"
    );
    if !restarts.is_empty() {
        let _ = write!(text, "; to let them go over: {}", restarts.join("; "));
    }
    Some(text)
}

/// What it means to those who run it that a tag has moved. Who may not know what runs is told a number. Blocking.
fn moved(
    inner: &Inner,
    (repository, tag): (&str, &str),
    (before, now): (&Digest, &Digest),
    tells_names: bool,
) -> String {
    let names = |image: &str| {
        let own = image.parse::<Reference>().ok().and_then(|image| inner.own(&image).ok());
        own.is_some_and(|(name, which)| name == repository && which == tag)
    };
    let users = inner.running.get().map(|running| running.users(before, &names));
    let mut text = format!("{repository}:{tag} stood for {before} and stands for {now} now");
    let Users { pods, without_pods, restarts, loose } = users.unwrap_or_default();
    match pods {
        0 => text.push_str("; no pod runs the old one"),
        pods => drop(write!(text, "; pods that run the old one and keep it: {pods}")),
    }
    if 0 < without_pods {
        let _ = write!(
            text,
            "; ReplicaSets, revisions and Jobs without pods that keep it and will run it again: {without_pods}"
        );
    }
    if !restarts.is_empty() && tells_names {
        let _ = write!(text, "; to let them go over: {}", restarts.join("; "));
    }
    if 0 < loose {
        let _ = write!(
            text,
            "; pods that no restart reaches, to be made anew with the Job or set that they are of: {loose}"
        );
    }
    text
}

/// What was taken.
struct Registered {
    component: Option<Digest>,
    subject: Option<Digest>,
    /// What the tag stood for before.
    before: Option<Digest>,
}

/// Takes a manifest over a module that is here, whole and able to run, or one that says something of another manifest.
/// Blocking.
fn register(
    inner: &Inner,
    repository: &str,
    tag: &str,
    bytes: &Bytes,
    (digest, media_type): (Digest, String),
) -> Result<Registered, Refusal> {
    // Nobody deletes a blob between the look at it and the manifest that names it.
    let _pushing = inner.registering.read();
    let manifest = ImageManifest::parse(bytes)?;
    let subject = manifest.subject()?;
    let of_another = subject.is_some() || is_tag_of_another(tag);
    let component = match manifest.component() {
        Ok(component) => Some(component),
        Err(BadManifest::NoModule(_) | BadManifest::Modules(_)) if of_another => None,
        Err(why) => return Err(why.into()),
    };
    for blob in manifest.blobs()?.into_iter().chain(component) {
        // Asking keeps it from being collected meanwhile.
        if inner.blobs.refresh(&blob)?.is_none() {
            let text = format!("push the blob {blob} first");
            return Err(refuse(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", text));
        }
    }
    let entry = component.map(|component| look_into(inner, &component)).transpose();
    let entry = match entry {
        Ok(entry) => entry,
        // Whatever it is that is said there of the other one.
        Err(why) if of_another && !matches!(why, NotAModule::Disk(_)) => None,
        Err(NotAModule::Disk(error)) => return Err(error.into()),
        Err(why) => return Err(invalid(format!("the layer cannot run as a pod: {why}"))),
    };
    inner.uploads.whole(bytes, &digest, &inner.blobs)?;
    let module = component.zip(entry).map(|(component, entry)| {
        let handler = entry == Entry::Handler;
        Module { component: component.to_string(), handler }
    });
    let component = component.filter(|_| module.is_some());
    let text = subject.map(|subject| subject.to_string());
    let entry = Manifest { digest: digest.to_string(), media_type, module, subject: text };
    let before = inner.tags.put(repository, tag, &entry)?;
    let before = before.and_then(|before| before.digest.parse().ok());
    Ok(Registered { component, subject, before })
}

fn look_into(inner: &Inner, component: &Digest) -> Result<Entry, NotAModule> {
    inspect(File::open(inner.blobs.path(component))?)
}

impl From<BadManifest> for Refusal {
    fn from(why: BadManifest) -> Self {
        invalid(why.to_string())
    }
}

fn invalid(why: String) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", why)
}

/// It is known, and what it says is not.
fn lost(name: &str, reference: &str, digest: &Digest, missing: bool) -> Refusal {
    let text = format!(
        "the hub's file blobs/sha256/{} of the manifest {reference} of {name} is {}: push it again, or put the file \
         back from a copy of the hub's data folder",
        digest.hex(),
        if missing { "missing" } else { "damaged" }
    );
    refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", text)
}

fn unknown(name: &str, reference: &str) -> Refusal {
    let text = format!("{name} has no manifest {reference}");
    refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", text)
}
