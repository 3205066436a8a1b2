//! Errors as the distribution spec writes them: a status, a code, a message for people.

use std::io;

use http::{Response, StatusCode, header};
use serde_json::json;

use super::{RegistryBody, answer, set};
use crate::blobs::BlobError;
use crate::durable::is_full;
use crate::tags::TagError;

/// A request that is not granted.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(header::HeaderName, String)>,
}

pub(super) fn refuse(
    status: StatusCode,
    code: &'static str,
    message: impl Into<String>,
) -> Refusal {
    Refusal { status, code, message: message.into(), headers: Vec::new() }
}

impl Refusal {
    pub(super) fn with(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn answer(self) -> Response<RegistryBody> {
        let body = json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = answer(self.status, body.to_string().into());
        set(&mut response, header::CONTENT_TYPE, "application/json");
        for (name, value) in self.headers {
            set(&mut response, name, &value);
        }
        response
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        if is_full(&error) {
            let text =
                "the hub's disk is full: free some of it, or delete modules that nobody needs";
            return refuse(StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE", text);
        }
        let text = format!("the registry's disk failed: {error}");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", text)
    }
}

impl From<BlobError> for Refusal {
    fn from(error: BlobError) -> Self {
        let text = error.to_string();
        match error {
            BlobError::TooLarge => refuse(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", text),
            BlobError::Digest { .. } => refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", text),
            BlobError::NoUpload => refuse(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", text),
            BlobError::Busy => refuse(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", text),
            BlobError::TooManyUploads(_) => {
                refuse(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", text)
            }
            BlobError::Disk(error) => error.into(),
        }
    }
}

impl From<TagError> for Refusal {
    fn from(error: TagError) -> Self {
        match error {
            TagError::TooMany => {
                refuse(StatusCode::INSUFFICIENT_STORAGE, "DENIED", error.to_string())
            }
            TagError::Disk(error) => error.into(),
        }
    }
}
