//! Blobs on their way in: in one request or in pieces, through one piece of memory to the disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freewheel_link::digest::Digest;
use http::{Response, StatusCode, header};
use http_body_util::BodyExt as _;

use super::range::start_of_piece;
use super::refusal::{Refusal, refuse};
use super::{READ_CHUNK_BYTES, RegistryBody, Upload, answer, created, parameter, set, text_of};
use crate::modules::Modules;
use crate::state::Inner;
use crate::uploads::Writing;

/// A body of which nothing comes for so long is given up: its upload would be in hand for ever.
pub(super) const UPLOAD_STALL_TIMEOUT: Duration = Duration::from_secs(120);

impl Modules {
    pub(super) async fn new_upload<B: Upload>(
        &self,
        name: &str,
        query: Option<&str>,
        body: &mut B,
    ) -> Result<Response<RegistryBody>, Refusal> {
        // Blobs are the registry's, not a repository's: a mount succeeds when the blob is there.
        if let Some(Ok(digest)) = parameter(query, "mount").map(|raw| raw.parse::<Digest>())
            && self.on_disk(move |inner| inner.blobs.refresh(&digest)).await?.is_some()
        {
            return Ok(created(&format!("/v2/{name}/blobs/{digest}"), &digest));
        }
        let digest = wanted_digest(query)?;
        let upload = self.on_disk(|inner| inner.uploads.begin()).await?;
        let Some(digest) = digest else {
            return Ok(progress(StatusCode::ACCEPTED, name, &upload, 0));
        };
        // Its name was told to nobody: whatever happens, nobody goes on with it.
        let unnamed = Unnamed { inner: self.inner.clone(), upload };
        let writing = self.inner.uploads.claim(&unnamed.upload)?;
        self.finish(name, writing, digest, body).await
    }

    pub(super) fn upload_status(
        &self,
        name: &str,
        upload: &str,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let size = self.inner.uploads.claim(upload)?.size();
        Ok(progress(StatusCode::NO_CONTENT, name, upload, size))
    }

    pub(super) async fn patch_upload<B: Upload>(
        &self,
        head: &http::request::Parts,
        name: &str,
        upload: &str,
        body: &mut B,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let writing = self.inner.uploads.claim(upload)?;
        in_order(head, name, upload, &writing)?;
        let size = self.take(writing, body).await?.size();
        Ok(progress(StatusCode::ACCEPTED, name, upload, size))
    }

    pub(super) async fn put_upload<B: Upload>(
        &self,
        head: &http::request::Parts,
        name: &str,
        upload: &str,
        body: &mut B,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let digest = wanted_digest(head.uri.query())?.ok_or_else(|| {
            let text = "the digest= parameter is missing";
            refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", text)
        })?;
        let writing = self.inner.uploads.claim(upload)?;
        in_order(head, name, upload, &writing)?;
        self.finish(name, writing, digest, body).await
    }

    pub(super) async fn cancel_upload(
        &self,
        upload: &str,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let owned = upload.to_owned();
        let gone =
            self.on_disk(move |inner| Ok::<_, Refusal>(inner.uploads.cancel(&owned))).await?;
        if !gone {
            return Err(crate::blobs::BlobError::NoUpload.into());
        }
        Ok(answer(StatusCode::NO_CONTENT, Bytes::new()))
    }

    async fn finish<B: Upload>(
        &self,
        name: &str,
        writing: Writing,
        digest: Digest,
        body: &mut B,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let writing = self.take(writing, body).await?;
        self.on_disk(move |inner| inner.uploads.finish(writing, &digest, &inner.blobs)).await?;
        Ok(created(&format!("/v2/{name}/blobs/{digest}"), &digest))
    }

    /// Streams a body into an upload.
    async fn take<B: Upload>(
        &self,
        mut writing: Writing,
        body: &mut B,
    ) -> Result<Writing, Refusal> {
        let (mut pieces, mut held) = (Vec::new(), 0);
        loop {
            let next = tokio::time::timeout(UPLOAD_STALL_TIMEOUT, body.frame()).await;
            let frame = match next {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                // What came before stays: the client may ask how far it got and go on.
                Ok(Some(Err(error))) => {
                    let text = format!("the body cannot be read: {}", error.into());
                    return Err(refuse(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", text));
                }
                Err(_) => {
                    let text = format!("nothing came for {UPLOAD_STALL_TIMEOUT:?}");
                    return Err(refuse(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", text));
                }
            };
            if let Ok(piece) = frame.into_data() {
                held += piece.len();
                pieces.push(piece);
            }
            if READ_CHUNK_BYTES <= held {
                writing = self.append(writing, std::mem::take(&mut pieces)).await?;
                held = 0;
            }
        }
        if pieces.is_empty() { Ok(writing) } else { self.append(writing, pieces).await }
    }

    async fn append(&self, writing: Writing, pieces: Vec<Bytes>) -> Result<Writing, Refusal> {
        // The upload goes along: whoever drops the request does not let another writer in half-way.
        Ok(self.on_disk(move |inner| inner.uploads.append(writing, &pieces)).await?)
    }
}

/// An upload that only this request knows.
struct Unnamed {
    inner: Arc<Inner>,
    upload: String,
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        // Finished ones are gone from there already.
        self.inner.uploads.cancel(&self.upload);
    }
}

/// A piece that says where it belongs must belong there.
fn in_order(
    head: &http::request::Parts,
    name: &str,
    upload: &str,
    writing: &Writing,
) -> Result<(), Refusal> {
    let Some(range) = text_of(head, &header::CONTENT_RANGE) else { return Ok(()) };
    if start_of_piece(range) == Some(writing.size()) {
        return Ok(());
    }
    let text = format!("the next piece starts at byte {}, not {range}", writing.size());
    Err(refuse(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", text)
        .with(header::LOCATION, location(name, upload))
        .with(header::RANGE, range_of(writing.size())))
}

fn wanted_digest(query: Option<&str>) -> Result<Option<Digest>, Refusal> {
    let Some(text) = parameter(query, "digest") else { return Ok(None) };
    let invalid = |e| refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", format!("{e}"));
    text.parse().map(Some).map_err(invalid)
}

/// How far an upload is.
fn progress(status: StatusCode, name: &str, upload: &str, size: u64) -> Response<RegistryBody> {
    let mut response = answer(status, Bytes::new());
    set(&mut response, header::LOCATION, &location(name, upload));
    set(&mut response, header::RANGE, &range_of(size));
    response
}

fn location(name: &str, upload: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{upload}")
}

fn range_of(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}
