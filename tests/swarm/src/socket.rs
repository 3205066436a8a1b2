//! A UDP socket that many spokes share, and that carries nothing while its spokes are silent, or not all.
//!
//! Guarantees:
//! - what is lost or silent is lost in both directions, and not counted as carried
//!   (`what_is_lost_is_not_carried`).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use freewheel_link::quic::Datagrams;
use parking_lot::Mutex;
use tokio::io::ReadBuf;

/// Headers of IPv4 and UDP.
const HEADER_BYTES: u64 = 28;

/// How much all sockets of a swarm lose, in millionths.
#[derive(Debug, Default)]
pub(crate) struct Loss(AtomicU32);

impl Loss {
    pub(crate) fn set(&self, millionths: u32) {
        self.0.store(millionths, Relaxed);
    }
}

/// Packets that went one way.
#[derive(Debug, Default)]
struct Way {
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// Packets one way, and their bytes with the headers of IPv4 and UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Way {
    fn count(&self, length: usize) {
        self.packets.fetch_add(1, Relaxed);
        self.bytes.fetch_add(length as u64 + HEADER_BYTES, Relaxed);
    }

    fn traffic(&self) -> Traffic {
        Traffic { packets: self.packets.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

/// One socket.
#[derive(Debug)]
pub(crate) struct SharedSocket {
    /// Receives; the runtime tells when there is something.
    receiving: tokio::net::UdpSocket,
    /// The same one, for sends that wait for nobody.
    sending: UdpSocket,
    loss: Arc<Loss>,
    silent: AtomicBool,
    up: Way,
    down: Way,
    lost: AtomicU64,
    chance: Mutex<fastrand::Rng>,
}

impl SharedSocket {
    /// At this address; within a runtime.
    pub(crate) fn bind(address: SocketAddr, loss: Arc<Loss>) -> io::Result<Self> {
        let sending = UdpSocket::bind(address)?;
        sending.set_nonblocking(true)?;
        let receiving = tokio::net::UdpSocket::from_std(sending.try_clone()?)?;
        Ok(Self {
            receiving,
            sending,
            loss,
            silent: AtomicBool::new(false),
            up: Way::default(),
            down: Way::default(),
            lost: AtomicU64::new(0),
            chance: Mutex::new(fastrand::Rng::new()),
        })
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Relaxed);
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    /// What was sent, and what was received.
    pub(crate) fn traffic(&self) -> (Traffic, Traffic) {
        (self.up.traffic(), self.down.traffic())
    }

    /// Packets that were lost on purpose, or for which the kernel had no room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    fn loses(&self) -> bool {
        let loss = self.loss.0.load(Relaxed);
        let loses = self.is_silent() || (0 < loss && self.chance.lock().u32(..1_000_000) < loss);
        if loses {
            self.lost.fetch_add(1, Relaxed);
        }
        loses
    }
}

impl Datagrams for SharedSocket {
    fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        if self.loses() {
            return Ok(());
        }
        // A network that is away loses packets; it does not fail.
        match self.sending.send_to(bytes, to) {
            Ok(length) => self.up.count(length),
            Err(_) => {
                self.lost.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let mut buffer = ReadBuf::new(buffer);
            let from = ready!(self.receiving.poll_recv_from(cx, &mut buffer))?;
            let length = buffer.filled().len();
            if !self.loses() {
                self.down.count(length);
                return Poll::Ready(Ok((length, from)));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.receiving.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn receive(socket: &SharedSocket) -> Option<usize> {
        let mut buffer = [0; 100];
        let received = std::future::poll_fn(|cx| socket.poll_recv(cx, &mut buffer));
        let received = tokio::time::timeout(Duration::from_millis(500), received).await;
        received.ok().map(|received| received.unwrap().0)
    }

    #[tokio::test]
    async fn what_is_lost_is_not_carried() {
        let loss = Arc::new(Loss::default());
        let bind = || SharedSocket::bind("127.0.0.1:0".parse().unwrap(), loss.clone()).unwrap();
        let (near, far) = (bind(), bind());
        let to = far.local_addr().unwrap();
        near.send(to, b"one").unwrap();
        assert_eq!(receive(&far).await, Some(3));
        far.set_silent(true);
        near.send(to, b"while it is silent").unwrap();
        far.send(near.local_addr().unwrap(), b"and back").unwrap();
        assert_eq!((receive(&far).await, receive(&near).await), (None, None));
        far.set_silent(false);
        loss.set(1_000_000);
        near.send(to, b"lost").unwrap();
        loss.set(0);
        near.send(to, b"last").unwrap();
        assert_eq!(receive(&far).await, Some(4));
        let (up, down) = (near.traffic().0, far.traffic().1);
        assert_eq!(up, Traffic { packets: 3, bytes: 3 + 18 + 4 + 3 * 28 });
        assert_eq!(down, Traffic { packets: 2, bytes: 3 + 4 + 2 * 28 });
        assert_eq!((near.lost(), far.lost()), (1, 2));
    }
}
