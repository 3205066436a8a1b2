//! Bodies in both directions: what we send, and what we are willing to read.
//!
//! Guarantees: a request body is never buffered beyond [`MAX_BODY_BYTES`]; one that declares more is
//! refused before its first byte is read.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use freewheel_hub_api::error::ApiError;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

/// Largest request body, as kube-apiserver's `MaxRequestBodyBytes`.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

/// Why a response body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A response body: one buffer, or chunks that come as they come.
pub struct Body(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Chunks(Pin<Box<dyn futures::Stream<Item = Result<Bytes, BodyError>> + Send>>),
    Foreign(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// Everything at once.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }

    /// Chunks until the stream ends.
    #[must_use]
    pub fn chunks<S>(stream: S) -> Self
    where
        S: futures::Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    {
        Self(Kind::Chunks(Box::pin(stream)))
    }

    /// Somebody else's body, for handlers outside of this crate.
    #[must_use]
    pub fn foreign(body: UnsyncBoxBody<Bytes, BodyError>) -> Self {
        Self(Kind::Foreign(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::whole(bytes)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Chunks(stream) => stream.as_mut().poll_next(cx).map_ok(Frame::data),
            Kind::Foreign(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Chunks(_) => false,
            Kind::Foreign(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Kind::Chunks(_) => SizeHint::default(),
            Kind::Foreign(body) => body.size_hint(),
        }
    }
}

/// Reads a request's body.
///
/// # Errors
/// 413 when it is, or says that it will be, larger than [`MAX_BODY_BYTES`]; 400 when it breaks off.
pub async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if (MAX_BODY_BYTES as u64) < body.size_hint().lower() {
        return Err(too_large());
    }
    let mut body = body;
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| ApiError::bad_request(format!("unable to read body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let held = first.as_ref().map_or(rest.len(), Bytes::len);
        if MAX_BODY_BYTES < held.saturating_add(data.len()) {
            return Err(too_large());
        }
        // Most bodies are one frame, which then needs no copy.
        match first.take() {
            None if rest.is_empty() => first = Some(data),
            None => rest.extend_from_slice(&data),
            Some(before) => {
                rest.extend_from_slice(&before);
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

fn too_large() -> ApiError {
    ApiError::new(
        413,
        "RequestEntityTooLarge",
        format!("Request entity too large: limit is {MAX_BODY_BYTES}"),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused() {
        let big = http_body_util::Full::new(Bytes::from(vec![b' '; MAX_BODY_BYTES + 1]));
        let error = read(big).await.unwrap_err();
        assert_eq!((error.code, error.reason), (413, "RequestEntityTooLarge"));
    }

    #[tokio::test]
    async fn frames_are_joined() {
        let frames = ["a", "b", "c"]
            .map(|s| Ok::<_, Infallible>(Frame::data(Bytes::from_static(s.as_bytes()))));
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        assert_eq!(read(body).await.unwrap(), "abc");
    }
}
