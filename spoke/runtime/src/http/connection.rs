//! One connection to an HTTP container, from its first byte to its end.
//!
//! Guarantees: what was cut off never looks complete to the client; a client that has sent all it has to say still
//! gets its answer; nothing but what hyper and the pipe may hold waits for a client that does not read.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use freewheel_spoke_net::{Conn, ConnIo, Pipe};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;
use wasmtime_wasi_http::io::TokioIo;

use super::answer::answer;
use super::heads::Head;
use super::seats::Seat;
use super::serve::Server;

/// Largest head of a request, and about as much of an answer waits in hyper.
const MAX_HEAD: usize = 64 << 10;

/// Serves what comes over one connection.
pub(super) async fn serve(server: Arc<Server>, conn: Conn, seat: Arc<Seat>) {
    let (rx, tx) = (conn.rx.clone(), conn.tx.clone());
    let head = Arc::new(Head::new(server.pool.share(), MAX_HEAD));
    let (io, read) = (conn.into_io(), head.clone());
    let wire = Wire { io, tx: tx.clone(), seat: seat.clone(), head: read };
    let service = service_fn(|request| {
        let (server, seat, head) = (server.clone(), seat.clone(), head.clone());
        async move {
            head.is_whole();
            let answer = answer(&server, &seat, request).await;
            head.begins();
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(wire), service);
    tokio::pin!(connection);
    let (mut draining, mut talks) = (false, true);
    let outcome = loop {
        tokio::select! {
            outcome = connection.as_mut() => break outcome,
            () = server.draining.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = std::future::poll_fn(|cx| rx.poll_closed(cx)), if talks => {
                talks = false;
                if tx.room().is_err() {
                    // It does not read either: nobody is there.
                    break Ok(());
                }
                seat.fell_silent();
            }
            () = seat.leave.cancelled() => {
                if seat.is_quiet() {
                    tx.close_write();
                }
                break Ok(());
            }
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "connection to an HTTP pod broke");
    }
    server.seats.give_back(&seat);
}

/// The connection as hyper sees it. Dropped before it was shut down, it is broken off.
struct Wire {
    io: ConnIo,
    tx: Arc<Pipe>,
    seat: Arc<Seat>,
    head: Arc<Head>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let count = buf.filled().len() - before;
        if 0 < count {
            self.seat.heard();
            self.head.heard(count)?;
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.seat.waits(polled.is_pending());
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.tx.break_off();
    }
}
