//! A connection's two directions as the guest's streams.

use std::sync::Arc;

use bytes::Bytes;
use freewheel_spoke_net::{End, Pipe};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{InputStream, OutputStream, StreamError, StreamResult};

/// Most bytes of one read or write. Guests ask for any number; the host allocates no more than this.
const MAX_PIECE: usize = 1 << 20;

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
        match self.0.pull(size.min(MAX_PIECE)) {
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

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.push(bytes).map_err(|_| StreamError::Closed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.room().map(|room| room.min(MAX_PIECE)).map_err(|_| StreamError::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.close_write();
    }
}
