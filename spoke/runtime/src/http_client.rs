//! A request over a connection of its own, and the head of its answer: for guests that ask, and for probes.
//!
//! Guarantees:
//! - a server that goes on for ever with informational answers is not heard for ever
//!   (`who_never_comes_to_a_final_answer_is_not_heard_for_ever`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use freewheel_spoke_net::{ConnIo, Watched, Watcher};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::WasiBody;

use crate::hyper_io::HyperIo;

/// Bytes that may come before the final head is known: hyper drops informational heads, so that its own bound never
/// sees them together. The rest is for what is read of a body meanwhile.
const BEFORE_HEAD_BYTES_MAX: usize = 256 << 10;

/// The head is known; what comes now is the body.
const ANSWERED: usize = usize::MAX;

/// An answer, and what reads its body: dropped, the connection ends.
pub(crate) type Answered = (Response<Incoming>, AbortOnDropHandle<hyper::Result<()>>);

/// Asks, with heads of at most so many bytes, and waits for the final head.
pub(crate) async fn ask(
    conn: ConnIo,
    head_bytes_max: usize,
    request: Request<WasiBody>,
) -> hyper::Result<Answered> {
    let heard = Arc::new(AtomicUsize::new(0));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(head_bytes_max)
        .handshake(HyperIo(Watched::new(Heard(heard.clone()), conn)))
        .await?;
    let driving = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await?;
    heard.store(ANSWERED, Relaxed);
    Ok((answer, driving))
}

/// Bytes that have come before the answer is known.
struct Heard(Arc<AtomicUsize>);

impl Watcher for Heard {
    fn heard(&self, bytes: usize) -> io::Result<()> {
        let more = |heard: usize| {
            let sum = if heard == ANSWERED { heard } else { heard + bytes };
            (sum == ANSWERED || sum <= BEFORE_HEAD_BYTES_MAX).then_some(sum)
        };
        match self.0.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(()),
            // As Go's net/http has it.
            Err(_) => Err(io::Error::other(format!(
                "net/http: server response headers exceeded {BEFORE_HEAD_BYTES_MAX} bytes; aborted"
            ))),
        }
    }

    fn wrote(&self, _: bool) {}
}
