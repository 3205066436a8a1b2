//! A stream as hyper reads and writes it.
//!
//! A body that hyper has to write waits in the pieces in which it was given, and goes when it is written. Were it told
//! that one place is written at a time, it would copy all of it into a buffer that never gets smaller: as large as the
//! largest that ever waited, for as long as the connection is there.
//!
//! Guarantees:
//! - a body that waits is held once, and one that was written not at all (`what_was_written_leaves_nothing_behind`).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi_http::io::TokioIo;

/// The stream, which writes from many places at once.
pub(crate) struct HyperIo<S>(pub(crate) S);

impl<S: AsyncRead + Unpin> Read for HyperIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut TokioIo::new(&mut self.0)).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> Write for HyperIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use http::Response;
    use http_body_util::Full;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_was_written_leaves_nothing_behind() {
        let body = Bytes::from(vec![b'x'; 200_000]);
        let (near, mut client) = duplex(1000);
        let given = Mutex::new(Some(body.clone()));
        let service = service_fn(move |_| {
            let answer = Response::new(Full::new(given.lock().take().unwrap_or_default()));
            async move { Ok::<_, Infallible>(answer) }
        });
        let served = http1::Builder::new().serve_connection(HyperIo(near), service);
        let serving = tokio::spawn(served);
        client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        client.read_exact(&mut [0; 500]).await.unwrap();
        assert!(!body.is_unique(), "hyper has it, and no copy of it");
        let written = async {
            while !body.is_unique() {
                // The last of it may be here a moment before hyper knows.
                let mut some = [0; 4096];
                let _ = timeout(Duration::from_millis(10), client.read(&mut some)).await;
            }
        };
        timeout(Duration::from_secs(60), written).await.unwrap();
        assert!(!serving.is_finished(), "the connection rests");
    }
}
