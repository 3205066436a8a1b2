//! Carries what one end of a connection says to the other, and has it on the account what waits for who does not read.
//!
//! Guarantees:
//! - an end that has gone is noticed while the other one reads nothing of what it has said, or has been told its end
//!   (`an_end_that_has_gone_is_noticed_while_the_other_reads_nothing`).

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use freewheel_link::stop_poll::StopPoll;
use freewheel_link::transport::{SendHalf, Stream};
use futures::poll;
use parking_lot::Mutex;
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
    let (near_end, mut near_recv) = (End::new(near.send), near.recv);
    let (far_end, mut far_recv) = (End::new(far.send), far.recv);
    let (mut to_near, mut to_far) = (To(&near_end), To(&far_end));
    let (there_room, back_room) = (|| near_end.unread(room), || far_end.unread(room));
    let there = near_end.listened(one_way(&mut near_recv, &mut to_far, &there_room));
    let back = far_end.listened(one_way(&mut far_recv, &mut to_near, &back_room));
    tokio::select! {
        // First, as it is known by then whether they are read.
        biased;
        both = async { tokio::try_join!(there, back) } => both.map(drop),
        () = near_end.gone() => Err(io::ErrorKind::ConnectionReset.into()),
        () = far_end.gone() => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// One of two ends: what is sent to it, and whether nothing is read now of what it says.
struct End {
    send: Mutex<Box<dyn SendHalf>>,
    is_unread: AtomicBool,
}

impl End {
    fn new(send: Box<dyn SendHalf>) -> Self {
        Self { send: Mutex::new(send), is_unread: AtomicBool::new(false) }
    }

    /// The room for what it says while nothing more of that is read.
    fn unread<R>(&self, room: &impl Fn() -> io::Result<R>) -> io::Result<(R, Unread<'_>)> {
        let room = room()?;
        self.is_unread.store(true, Relaxed);
        Ok((room, Unread(&self.is_unread)))
    }

    /// Carries what it says; when that was all, nothing more is read.
    async fn listened(&self, way: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        way.await?;
        self.is_unread.store(true, Relaxed);
        Ok(())
    }

    /// Resolves when it takes no more, and that is not heard by reading what it says.
    async fn gone(&self) {
        let mut looks = StopPoll::default();
        poll_fn(|cx| match self.is_unread.load(Relaxed) {
            true => looks.poll(cx, |cx| self.send.lock().is_stopped(cx)),
            false => Poll::Pending,
        })
        .await;
    }
}

/// Until this is dropped nothing is read.
struct Unread<'a>(&'a AtomicBool);

impl Drop for Unread<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

/// What is sent to an end, beside the looks at it.
struct To<'a>(&'a End);

impl AsyncWrite for To<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.send.lock()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.send.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.send.lock()).poll_shutdown(cx)
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freewheel_link::memory_transport;
    use freewheel_link::transport::{Priority, Transport as _};
    use tokio::time::timeout;

    use super::*;

    /// Longer than it is looked for anybody.
    const BOUND: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_end_that_has_gone_is_noticed_while_the_other_reads_nothing() {
        for says_its_end in [false, true] {
            let (device, hub) = memory_transport::pair_of(1 << 10);
            let mut end = device.open(Priority::Tunnels).await.unwrap();
            let other = device.open(Priority::Tunnels).await.unwrap();
            let (near, far) = (hub.accept().await.unwrap(), hub.accept().await.unwrap());
            let carrying = tokio::spawn(async move { both_ways(near, far, &|| Ok(())).await });
            if says_its_end {
                end.write_all(b"all").await.unwrap();
                end.shutdown().await.unwrap();
            } else {
                let much = vec![7; 100 << 10];
                assert!(timeout(BOUND, end.write_all(&much)).await.is_err(), "it is all taken");
            }
            assert!(!carrying.is_finished());
            drop(end);
            assert!(timeout(BOUND, carrying).await.unwrap().unwrap().is_err());
            drop(other);
        }
    }
}
