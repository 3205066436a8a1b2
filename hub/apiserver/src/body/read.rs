//! Reading a request's body.
//!
//! Guarantees:
//! - it is never buffered beyond [`MAX_BODY_BYTES`]
//!   (`a_body_that_declares_nothing_is_refused_where_it_gets_too_large`);
//! - one that declares more is refused before its first byte is read
//!   (`a_hundred_megabytes_are_refused_before_they_are_read`);
//! - one that comes slowly is waited for as long as it moves, up to [`MAX_BODY_TIME`]
//!   (`a_slow_link_has_time_and_one_that_stands_still_has_not`).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use freewheel_hub_schema::error::ApiError;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout, timeout_at};

/// Largest request body, as kube-apiserver's `MaxRequestBodyBytes`.
pub const MAX_BODY_BYTES: usize = freewheel_link::limits::API_BODY_BYTES_MAX;

/// For a whole request body to arrive: the largest over 100 kbit/s. kube-apiserver gives up after 60 s,
/// which is a lot for what the kernel has received already and little for a device's own uplink.
pub const MAX_BODY_TIME: Duration = Duration::from_secs(300);

/// For the next bytes of a request body to arrive, as kube-apiserver's request timeout.
pub const MAX_BODY_PAUSE: Duration = Duration::from_secs(60);

/// Bytes that a body will have at most, by what it says of itself.
pub(crate) fn declared<B: http_body::Body>(body: &B) -> usize {
    match body.size_hint().exact().map(usize::try_from) {
        None => MAX_BODY_BYTES,
        // More is refused before it is read.
        Some(bytes) => bytes.ok().filter(|bytes| *bytes <= MAX_BODY_BYTES).unwrap_or(0),
    }
}

/// Reads a request's body.
///
/// # Errors
/// 413 when it is, or says that it will be, larger than [`MAX_BODY_BYTES`]; 400 when it breaks off;
/// 504 when nothing comes for [`MAX_BODY_PAUSE`], or not all within [`MAX_BODY_TIME`].
pub async fn read<B>(body: &mut B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let late =
        |_| ApiError::new(504, "Timeout", "Timeout: the request's body did not come in time");
    let latest = Instant::now() + MAX_BODY_TIME;
    if (MAX_BODY_BYTES as u64) < body.size_hint().lower() {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    loop {
        let next = timeout(MAX_BODY_PAUSE, body.frame());
        let Some(frame) = timeout_at(latest, next).await.map_err(late)?.map_err(late)? else {
            break;
        };
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
    use std::task::Poll;

    use http_body::Frame;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused() {
        let mut big = http_body_util::Full::new(Bytes::from(vec![b' '; MAX_BODY_BYTES + 1]));
        let error = read(&mut big).await.unwrap_err();
        assert_eq!((error.code, error.reason), (413, "RequestEntityTooLarge"));
    }

    #[tokio::test]
    async fn a_body_that_declares_nothing_is_refused_where_it_gets_too_large() {
        let piece = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 64 * 1024])));
        let mut pieces = 0;
        let endless = futures::stream::poll_fn(|_| {
            pieces += 1;
            Poll::Ready(Some(piece()))
        });
        let error = read(&mut http_body_util::StreamBody::new(endless)).await.unwrap_err();
        assert_eq!(error.code, 413);
        assert_eq!(pieces, MAX_BODY_BYTES / (64 * 1024) + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_link_has_time_and_one_that_stands_still_has_not() {
        let trickle = |pause: Duration| {
            let pieces = futures::stream::unfold((), move |()| async move {
                sleep(pause).await;
                Some((Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 16 * 1024]))), ()))
            });
            http_body_util::StreamBody::new(Box::pin(futures::StreamExt::take(pieces, 190)))
        };
        let slow = read(&mut trickle(Duration::from_millis(1_500))).await.unwrap();
        assert_eq!(slow.len(), 190 * 16 * 1024);
        for too_slow in [Duration::from_secs(61), Duration::from_secs(2)] {
            assert_eq!(read(&mut trickle(too_slow)).await.unwrap_err().code, 504);
        }
    }

    #[tokio::test]
    async fn frames_are_joined() {
        let frames = ["a", "b", "c"]
            .map(|s| Ok::<_, Infallible>(Frame::data(Bytes::from_static(s.as_bytes()))));
        let mut body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        assert_eq!(read(&mut body).await.unwrap(), "abc");
    }
}
