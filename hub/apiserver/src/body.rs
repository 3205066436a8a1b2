//! Bodies in both directions: what we send, and what we are willing to read.
//!
//! Guarantees: a request body is never buffered beyond [`MAX_BODY_BYTES`]; one that declares more is
//! refused before its first byte is read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use freewheel_hub_api::error::ApiError;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::timeout;

/// Largest request body, as kube-apiserver's `MaxRequestBodyBytes`.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

/// For a whole request body to arrive, as kube-apiserver's request timeout.
pub const MAX_BODY_TIME: Duration = Duration::from_secs(60);

/// Why a response body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A response body: one buffer, or chunks that come as they come.
pub struct Body {
    kind: Kind,
    /// The rest of a request that was answered before it was read. In HTTP/2, to let go of it before
    /// the answer is on its way would reset the stream, and the client would never see the answer.
    _unread: Option<Incoming>,
}

enum Kind {
    Whole(Option<Bytes>),
    Chunks(Pin<Box<dyn futures::Stream<Item = Result<Bytes, BodyError>> + Send>>),
    Foreign(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// Everything at once.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Kind::Whole((!bytes.is_empty()).then_some(bytes)).into()
    }

    /// Chunks until the stream ends.
    #[must_use]
    pub fn chunks<S>(stream: S) -> Self
    where
        S: futures::Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    {
        Kind::Chunks(Box::pin(stream)).into()
    }

    /// Somebody else's body, for handlers outside of this crate.
    #[must_use]
    pub fn foreign(body: UnsyncBoxBody<Bytes, BodyError>) -> Self {
        Kind::Foreign(body).into()
    }

    /// The same, holding what was not read of the request until this body is sent.
    #[must_use]
    pub(crate) fn holding(self, unread: Incoming) -> Self {
        Self { _unread: Some(unread), ..self }
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, _unread: None }
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
        match &mut self.kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Chunks(stream) => stream.as_mut().poll_next(cx).map_ok(Frame::data),
            Kind::Foreign(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Chunks(_) => false,
            Kind::Foreign(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
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
/// 413 when it is, or says that it will be, larger than [`MAX_BODY_BYTES`]; 400 when it breaks off;
/// 504 when it takes longer than [`MAX_BODY_TIME`].
pub async fn read<B>(body: &mut B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let late = || ApiError::new(504, "Timeout", "Timeout: the request's body did not come in time");
    timeout(MAX_BODY_TIME, read_all(body)).await.map_err(|_| late())?
}

async fn read_all<B>(body: &mut B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if (MAX_BODY_BYTES as u64) < body.size_hint().lower() {
        return Err(too_large());
    }
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
        let mut big = http_body_util::Full::new(Bytes::from(vec![b' '; MAX_BODY_BYTES + 1]));
        let error = read(&mut big).await.unwrap_err();
        assert_eq!((error.code, error.reason), (413, "RequestEntityTooLarge"));
    }

    #[tokio::test]
    async fn frames_are_joined() {
        let frames = ["a", "b", "c"]
            .map(|s| Ok::<_, Infallible>(Frame::data(Bytes::from_static(s.as_bytes()))));
        let mut body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        assert_eq!(read(&mut body).await.unwrap(), "abc");
    }
}
