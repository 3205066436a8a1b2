//! What says something of a manifest: signatures, lists of parts, whatever `oras attach` and cosign push with a
//! `subject`.
//!
//! The answer is an index of descriptors, made of the manifests themselves; a long one comes in pages.

use freewheel_link::digest::Digest;
use http::header::{self, HeaderName};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::refusal::{Refusal, refuse};
use super::{RegistryBody, answer, parameter, set};
use crate::manifest::{ImageManifest, MANIFEST_BYTES_MAX};
use crate::modules::Modules;
use crate::state::Inner;
use crate::tags::Manifest;

/// Manifests that one request reads, whether or not it asks for them.
const MANIFESTS_READ_MAX: usize = 256;
/// Bytes of a page after which another one begins: annotations may be long.
const REFERRERS_PAGE_BYTES: usize = 1 << 20;

impl Modules {
    /// Of a manifest that nothing is said of, also of one that is not here, the list is empty.
    pub(super) async fn referrers(
        &self,
        name: &str,
        raw: &str,
        query: Option<&str>,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let subject: Digest = raw.parse().map_err(|error| {
            refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", format!("{error}"))
        })?;
        let (kind, last) = (parameter(query, "artifactType"), parameter(query, "last"));
        let all = self.inner.tags.attached(name, &subject, last.as_deref());
        let wanted = kind.clone();
        let page =
            self.on_disk(move |inner| Ok::<_, Refusal>(page(inner, &all, wanted.as_deref())));
        let Page { manifests, more } = page.await?;
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        let mut response = answer(StatusCode::OK, index.to_string().into());
        set(&mut response, header::CONTENT_TYPE, "application/vnd.oci.image.index.v1+json");
        let mut next = format!("/v2/{name}/referrers/{subject}?");
        if let Some(kind) = kind {
            set(&mut response, HeaderName::from_static("oci-filters-applied"), "artifactType");
            next = format!("{next}artifactType={}&", encoded(&kind));
        }
        if let Some(last) = more {
            set(&mut response, header::LINK, &format!("<{next}last={last}>; rel=\"next\""));
        }
        Ok(response)
    }
}

struct Page {
    manifests: Vec<Value>,
    /// The last that was looked at, where there are others.
    more: Option<String>,
}

/// One manifest in memory at a time. Blocking.
fn page(inner: &Inner, all: &[Manifest], kind: Option<&str>) -> Page {
    let (mut manifests, mut bytes) = (Vec::new(), 0);
    for (read, one) in all.iter().enumerate() {
        // One whose file is lost was told of at the start, and says nothing any more.
        if let Some(descriptor) = descriptor(inner, one)
            && kind.is_none_or(|kind| descriptor["artifactType"] == kind)
        {
            bytes += descriptor.to_string().len();
            manifests.push(descriptor);
        }
        let is_last = read + 1 == all.len();
        if !is_last && (MANIFESTS_READ_MAX <= read + 1 || REFERRERS_PAGE_BYTES <= bytes) {
            return Page { manifests, more: Some(one.digest.clone()) };
        }
    }
    Page { manifests, more: None }
}

fn descriptor(inner: &Inner, one: &Manifest) -> Option<Value> {
    let bytes = inner.blobs.read(&one.digest.parse().ok()?, MANIFEST_BYTES_MAX as u64).ok()?;
    let manifest = ImageManifest::parse(&bytes).ok()?;
    let mut descriptor =
        json!({"mediaType": one.media_type, "digest": one.digest, "size": bytes.len()});
    if !manifest.kind().is_empty() {
        descriptor["artifactType"] = manifest.kind().into();
    }
    if let Some(annotations) = manifest.annotations.filter(|all| !all.is_empty()) {
        descriptor["annotations"] = annotations.into();
    }
    Some(descriptor)
}

/// A media type as it stands in a query.
fn encoded(kind: &str) -> String {
    percent_encoding::utf8_percent_encode(kind, percent_encoding::NON_ALPHANUMERIC).to_string()
}
