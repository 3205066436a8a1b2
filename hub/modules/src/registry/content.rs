//! Blobs that are there: HEAD, GET whole or in part, DELETE.

use std::io::{ErrorKind, SeekFrom};

use bytes::Bytes;
use freewheel_link::digest::Digest;
use futures::TryStreamExt as _;
use http::{Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::range::{Wanted, wanted};
use super::refusal::{Refusal, refuse};
use super::{READ_CHUNK_BYTES, RegistryBody, answer, digest_header, set, text_of};
use crate::collector::is_named;
use crate::modules::Modules;

impl Modules {
    pub(super) async fn get_blob(
        &self,
        head: &http::request::Parts,
        raw: &str,
    ) -> Result<Response<RegistryBody>, Refusal> {
        let digest: Digest = raw.parse().map_err(|_| unknown(raw))?;
        let (size, file) = if head.method == Method::HEAD {
            // Who asks whether it is there is about to push a manifest that names it.
            let found = self.on_disk(move |inner| inner.blobs.refresh(&digest)).await?;
            (found.ok_or_else(|| unknown(raw))?, None)
        } else {
            // Open before it is answered: what is collected meanwhile is still read to its end.
            let file = match File::open(self.inner.blobs.path(&digest)).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(unknown(raw)),
                other => other?,
            };
            (file.metadata().await?.len(), Some(file))
        };
        let tag = format!("\"{digest}\"");
        let same = text_of(head, &header::IF_RANGE).is_none_or(|given| given == tag);
        // Parts are what GET has (RFC 9110, 14.2).
        let range = text_of(head, &header::RANGE).filter(|_| same && head.method == Method::GET);
        let (status, first, length) = match wanted(range, size) {
            Wanted::Whole => (StatusCode::OK, 0, size),
            Wanted::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
            Wanted::Nothing => {
                let text = format!("the blob {digest} has {size} bytes");
                return Err(refuse(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", text)
                    .with(header::CONTENT_RANGE, format!("bytes */{size}")));
            }
        };
        let mut response = answer(status, Bytes::new());
        if let Some(mut file) = file {
            file.seek(SeekFrom::Start(first)).await?;
            *response.body_mut() = pieces(file, length);
        }
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {first}-{}/{size}", first + length - 1);
            set(&mut response, header::CONTENT_RANGE, &range);
        }
        set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
        set(&mut response, header::CONTENT_LENGTH, &length.to_string());
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        set(&mut response, header::ETAG, &tag);
        set(&mut response, digest_header(), raw);
        Ok(response)
    }

    /// Somebody wants it gone now. What a manifest names stays: half a module is worse than none.
    pub(super) async fn delete_blob(&self, raw: &str) -> Result<Response<RegistryBody>, Refusal> {
        let digest: Digest = raw.parse().map_err(|_| unknown(raw))?;
        let gone = self.on_disk(move |inner| {
            // No manifest comes between the question and the deed.
            let _alone = inner.registering.write();
            if is_named(inner, &digest)? {
                let text = format!("a manifest names the blob {digest}: delete the manifest first");
                return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "DENIED", text)
                    .with(header::ALLOW, "GET, HEAD"));
            }
            Ok(inner.blobs.delete(&digest)?)
        });
        if !gone.await? {
            return Err(unknown(raw));
        }
        Ok(answer(StatusCode::ACCEPTED, Bytes::new()))
    }
}

/// So many bytes of a file, a piece at a time.
fn pieces(file: File, length: u64) -> RegistryBody {
    let stream = ReaderStream::with_capacity(file.take(length), READ_CHUNK_BYTES);
    StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync()
}

fn unknown(digest: &str) -> Refusal {
    refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("there is no blob {digest}"))
}
