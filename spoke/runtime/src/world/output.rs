//! A guest's standard output and error, on their way to its log.

use bytes::Bytes;
use freewheel_spoke_logs::{LogStream, Unasked};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{OutputStream, StreamError, StreamResult};

/// A handle to one of an instance's output streams.
pub(super) struct Output(pub(super) LogStream);

/// The guest ends: well-behaved ones ask first.
fn unasked(_: Unasked) -> StreamError {
    StreamError::trap("write exceeds what check-write allowed")
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.0.again())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self(self.0.again()))
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.0.ready().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(bytes).map_err(unasked)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.0.check_write())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write_all(bytes).await.map_err(unasked)
    }

    async fn write_ready(&mut self) -> StreamResult<usize> {
        Ok(self.0.write_ready().await)
    }
}
