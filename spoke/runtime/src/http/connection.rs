//! One connection to an HTTP container, from its first byte to its end.
//!
//! Guarantees:
//! - what was cut off never looks complete to the client (`half_an_answer_does_not_look_whole`), and what hyper still has of
//!   an answer is not cut off for others
//!   (`who_has_not_read_all_of_its_answer_has_the_rest_of_it_whoever_needs_its_socket`);
//! - a client that has sent all it has to say still gets its answer
//!   (`a_client_that_has_said_all_gets_its_answer`);
//! - nothing but what hyper and the pipe may hold waits for a client that does not read
//!   (`a_client_that_does_not_read_makes_the_node_hold_little`).

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use freewheel_spoke_net::{Conn, Pipe, Watched, Watcher};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tracing::debug;

use super::answer::answer;
use super::connection_slots::{ConnectionSlot, SlotGuard};
use super::hyper_buffers::BUFFER_BYTES_MAX;
use super::request_body::RequestBody;
use super::request_heads::Head;
use super::server::Server;
use crate::hyper_io::HyperIo;

/// Whether there is something to read before it is to end. hyper takes memory to read into before there is: who says
/// nothing is to cost none.
async fn begins(server: &Server, slot: &ConnectionSlot, rx: &Pipe) -> bool {
    tokio::select! {
        biased;
        () = poll_fn(|cx| rx.poll_readable(cx)) => true,
        () = server.draining.cancelled() => false,
        () = slot.leave.cancelled() => false,
    }
}

/// Serves what comes over one connection.
pub(super) async fn serve(server: Arc<Server>, conn: Conn, slot: Arc<ConnectionSlot>) {
    let _place = SlotGuard(&server.slots, &slot);
    let (rx, tx) = (conn.rx.clone(), conn.tx.clone());
    let head = server.heads.place(slot.leave.clone());
    let wire = Wire { tx: tx.clone(), slot: slot.clone(), head: head.clone() };
    let wire = Watched::new(wire, conn.into_io());
    if !begins(&server, &slot, &rx).await {
        tx.close_write();
        return;
    }
    let service = service_fn(|request| {
        let (server, slot, head) = (server.clone(), slot.clone(), head.clone());
        async move {
            head.has_sent().await;
            let (served, waiting) = head.is_whole();
            let request = request.map(|body| RequestBody::new(body, served.clone()));
            Ok::<_, Infallible>(answer(&server, &slot, request, waiting, served).await)
        }
    });
    let connection = http1::Builder::new()
        .half_close(true)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(HyperIo(wire), service);
    tokio::pin!(connection);
    let (mut draining, mut talks) = (false, true);
    let outcome = loop {
        tokio::select! {
            outcome = poll_fn(|cx| turn(connection.as_mut(), &slot, &head, cx)) => break outcome,
            () = server.draining.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = poll_fn(|cx| rx.poll_closed(cx)), if talks => {
                talks = false;
                if tx.room().is_err() {
                    // It does not read either: nobody is there.
                    break Ok(());
                }
                slot.fell_silent();
            }
            () = slot.leave.cancelled() => {
                if slot.is_quiet() {
                    tx.close_write();
                }
                break Ok(());
            }
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "connection to an HTTP pod broke");
    }
}

/// A turn of hyper's: what it still has of an answer when that ends waits for the client.
fn turn<C: Future>(
    connection: Pin<&mut C>,
    slot: &ConnectionSlot,
    head: &Head,
    cx: &mut Context<'_>,
) -> Poll<C::Output> {
    let turn = connection.poll(cx);
    if slot.has_sent() && head.is_sent() {
        cx.waker().wake_by_ref();
    }
    turn
}

/// Watches a connection for hyper. Dropped before it was shut down, it is broken off.
struct Wire {
    tx: Arc<Pipe>,
    slot: Arc<ConnectionSlot>,
    head: Arc<Head>,
}

impl Watcher for Wire {
    fn heard(&self, bytes: usize) -> io::Result<()> {
        self.slot.heard();
        self.head.heard(bytes)
    }

    fn wrote(&self, waits: bool) {
        self.slot.waits(waits);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.tx.break_off();
    }
}
