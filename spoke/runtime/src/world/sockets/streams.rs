//! A connection's two directions as the guest's streams.

use std::sync::Arc;

use bytes::Bytes;
use freewheel_spoke_net::{End, NotTaken, Pipe};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{InputStream, OutputStream, StreamError, StreamResult};

/// Most bytes of one read. Guests ask for any number; the host allocates no more than this.
const READ_BYTES_MAX: usize = 1 << 20;

/// Most bytes of one write, and of room that is kept for a guest that has asked for it.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// What the peer sends.
pub(super) struct Reader(pub(super) Arc<Pipe>);

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.0.poll_readable(cx)).await;
    }
}

impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.0.pull(size.min(READ_BYTES_MAX)) {
            Ok(bytes) => Ok(bytes.unwrap_or_default()),
            Err(End::Closed) => Err(StreamError::Closed),
            Err(End::Reset) => {
                Err(StreamError::LastOperationFailed(wasmtime::format_err!("connection reset")))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.close_read();
    }
}

/// What the peer gets.
pub(super) struct Writer(pub(super) Arc<Pipe>);

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.0.poll_writable(cx)).await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.push_reserved(bytes).map_err(|error| match error {
            NotTaken::Broken => StreamError::Closed,
            // Well-behaved guests ask first; one that does not could fill the node's memory.
            NotTaken::NotReserved => StreamError::Trap(error.into()),
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.reserve(WRITE_BYTES_MAX).map_err(|_| StreamError::Closed)
    }

    async fn blocking_write_and_flush(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        let all = bytes.len();
        while !bytes.is_empty() {
            self.ready().await;
            let room = self.0.reserve(bytes.len()).map_err(|_| StreamError::Closed)?;
            let piece = bytes.split_to(room);
            // A part of them that waits by itself would hold them all.
            self.write(if room < all { Bytes::copy_from_slice(&piece) } else { piece })?;
        }
        Ok(())
    }

    /// Promises nothing: who writes asks for itself.
    async fn write_ready(&mut self) -> StreamResult<usize> {
        loop {
            self.ready().await;
            match self.0.room() {
                Ok(0) => {}
                Ok(room) => return Ok(room.min(WRITE_BYTES_MAX)),
                Err(_) => return Err(StreamError::Closed),
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.close_write();
    }
}
