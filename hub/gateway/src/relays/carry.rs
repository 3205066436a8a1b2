//! Carries what one end of a connection says to the other, and has it on the account what waits for who does not read.

use std::io;
use std::pin::pin;
use std::task::Poll;

use freewheel_link::transport::Stream;
use futures::poll;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What is on its way from one stream to the other.
const PIECE_BYTES: usize = 8 << 10;

/// Until both have said all, or one of them breaks off. While one does not read, there is `room` for what the other
/// says, or it is over.
pub(super) async fn both_ways<R>(
    near: Stream,
    far: Stream,
    room: &impl Fn() -> io::Result<R>,
) -> io::Result<()> {
    let (mut near_send, mut near_recv) = (near.send, near.recv);
    let (mut far_send, mut far_recv) = (far.send, far.recv);
    let there = one_way(&mut near_recv, &mut far_send, room);
    let back = one_way(&mut far_recv, &mut near_send, room);
    tokio::try_join!(there, back).map(drop)
}

/// Until it has said all. As long as what it says is taken, nothing of it waits unread.
pub(super) async fn one_way<R>(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    room: &impl Fn() -> io::Result<R>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut unread = None;
    loop {
        let count = {
            let mut read = pin!(from.read(&mut piece));
            match poll!(read.as_mut()) {
                Poll::Ready(count) => count?,
                Poll::Pending => {
                    unread = None;
                    to.flush().await?;
                    read.await?
                }
            }
        };
        if count == 0 {
            return to.shutdown().await;
        }
        let mut rest = piece.get(..count).unwrap_or_default();
        while !rest.is_empty() {
            let mut write = pin!(to.write(rest));
            let written = match poll!(write.as_mut()) {
                Poll::Ready(written) => written?,
                Poll::Pending => {
                    if unread.is_none() {
                        unread = Some(room()?);
                    }
                    write.await?
                }
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}
