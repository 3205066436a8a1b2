//! A stream that tells somebody what comes and goes over it.
//!
//! Guarantees:
//! - every byte that was read is told, and a watcher that refuses it ends the stream
//!   (`what_comes_is_told_and_may_be_refused`);
//! - the watcher goes before its stream (`the_watcher_goes_first`).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Who is told.
pub trait Watcher {
    /// So many bytes have come.
    ///
    /// # Errors
    /// When they are not to be taken: the reader gets the error in their place.
    fn heard(&self, bytes: usize) -> io::Result<()>;

    /// Something was to be written; whether it has to wait for the other side to read.
    fn wrote(&self, waits: bool);
}

/// A stream with its watcher.
pub struct Watched<W, S> {
    // Dropped first: it may have something to say to the other side before the stream ends by itself.
    watcher: W,
    stream: S,
}

impl<W, S> Watched<W, S> {
    /// Puts a watcher on a stream.
    pub const fn new(watcher: W, stream: S) -> Self {
        Self { watcher, stream }
    }

    /// The stream itself, past its watcher.
    pub const fn stream(&self) -> &S {
        &self.stream
    }
}

impl<W: Watcher + Unpin, S: AsyncRead + Unpin> AsyncRead for Watched<W, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let count = buf.filled().len() - before;
        if 0 < count {
            self.watcher.heard(count)?;
        }
        polled
    }
}

impl<W: Watcher + Unpin, S: AsyncWrite + Unpin> AsyncWrite for Watched<W, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watcher.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watcher.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Diary(Arc<Mutex<Vec<String>>>);

    impl Watcher for Diary {
        fn heard(&self, bytes: usize) -> io::Result<()> {
            self.0.lock().push(format!("heard {bytes}"));
            if 3 < bytes { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
        }

        fn wrote(&self, waits: bool) {
            self.0.lock().push(format!("wrote {waits}"));
        }
    }

    impl Drop for Diary {
        fn drop(&mut self) {
            self.0.lock().push("watcher went".to_owned());
        }
    }

    #[tokio::test]
    async fn what_comes_is_told_and_may_be_refused() {
        let diary = Arc::new(Mutex::new(Vec::new()));
        let (near, mut far) = tokio::io::duplex(8);
        let mut near = Watched::new(Diary(diary.clone()), near);
        far.write_all(b"abc").await.unwrap();
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 3);
        far.write_all(b"abcd").await.unwrap();
        let refused = near.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        near.write_all(b"12345678").await.unwrap();
        let full = tokio::time::timeout(std::time::Duration::from_millis(1), near.write(b"9"));
        assert!(full.await.is_err());
        assert_eq!(diary.lock()[..4], ["heard 3", "heard 4", "wrote false", "wrote true"]);
    }

    #[tokio::test]
    async fn the_watcher_goes_first() {
        struct Stream(Arc<Mutex<Vec<String>>>);
        impl Drop for Stream {
            fn drop(&mut self) {
                self.0.lock().push("stream went".to_owned());
            }
        }
        let diary = Arc::new(Mutex::new(Vec::new()));
        drop(Watched::new(Diary(diary.clone()), Stream(diary.clone())));
        assert_eq!(*diary.lock(), ["watcher went", "stream went"]);
    }
}
