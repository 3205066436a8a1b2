//! Carries the bytes of a pod's connection to and from a stream outside of it, with no memory of its own.
//!
//! Guarantees:
//! - what a slow stream has not taken stays in the pod's pipe, where it is counted
//!   (`slow_clients_from_outside_share_the_budget_of_the_pod_that_serves_them`).

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::ReadBuf;

use crate::conn::Conn;
use crate::pipe::{Broken, End};
use crate::remote::Stream;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

thread_local! {
    /// Where streams are read into before it is known how much there is: one for each thread, not for each
    /// connection.
    static SCRATCH: Cell<Box<[u8]>> = Cell::default();
}

/// How far both directions are.
#[derive(Default)]
pub(crate) struct Bridge {
    outward: Half,
    inward: Half,
    unflushed: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Half {
    #[default]
    Carrying,
    Closing,
    Done,
}

impl Bridge {
    /// Ready when both directions have ended.
    pub(crate) fn poll<S: Stream>(
        &mut self,
        conn: &Conn,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let outward = self.outward(conn, stream.as_mut(), cx)?;
        let inward = self.inward(conn, stream, cx)?;
        if outward.is_ready() && inward.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// From the pod.
    fn outward<S: Stream>(
        &mut self,
        conn: &Conn,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.outward == Half::Carrying {
            match conn.rx.front() {
                Ok(Some(bytes)) => {
                    let count = ready!(stream.as_mut().poll_write(cx, &bytes))?;
                    if count == 0 {
                        return Poll::Ready(Err(ErrorKind::WriteZero.into()));
                    }
                    conn.rx.consume(count);
                    self.unflushed = true;
                }
                Ok(None) => {
                    if self.unflushed {
                        ready!(stream.as_mut().poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    ready!(conn.rx.poll_readable(cx));
                }
                Err(End::Closed) => self.outward = Half::Closing,
                Err(End::Reset) => return Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
            }
        }
        if self.outward == Half::Closing {
            ready!(stream.poll_shutdown(cx))?;
            self.outward = Half::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// To the pod.
    fn inward<S: Stream>(
        &mut self,
        conn: &Conn,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.inward == Half::Carrying {
            let room = match conn.tx.room() {
                Ok(0) => {
                    ready!(conn.tx.poll_writable(cx));
                    continue;
                }
                Ok(room) => room,
                // The pod does not listen any more. What it has said still goes out before anybody is told.
                Err(Broken) => PIECE,
            };
            let bytes = ready!(read(stream.as_mut(), room.min(PIECE), cx))?;
            if bytes.is_empty() {
                conn.tx.close_write();
                self.inward = Half::Done;
            } else if conn.tx.push(bytes).is_err() && self.outward == Half::Done {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn read<S: Stream>(
    stream: Pin<&mut S>,
    most: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    let mut scratch = SCRATCH.take();
    if scratch.is_empty() {
        scratch = vec![0; PIECE].into();
    }
    let mut buffer = ReadBuf::new(&mut scratch[..most]);
    let outcome = stream.poll_read(cx, &mut buffer);
    let bytes = outcome.map_ok(|()| Bytes::copy_from_slice(buffer.filled()));
    SCRATCH.set(scratch);
    bytes
}
