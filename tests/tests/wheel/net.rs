//! The simulated network's UDP sockets, and the trace of what went through them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use freewheel_link::quic::Datagrams;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Hash of everything that was sent.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<DefaultHasher>>);

impl Trace {
    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.0.lock().finish()
    }
}

/// A UDP socket of the simulated network.
pub struct Net {
    socket: Arc<turmoil::net::UdpSocket>,
    queue: Mutex<mpsc::Receiver<(Vec<u8>, SocketAddr)>>,
    trace: Trace,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Net")
    }
}

impl Net {
    /// On all addresses of the host that runs this.
    pub async fn bind(port: u16, trace: Trace) -> io::Result<Arc<Self>> {
        let socket = Arc::new(turmoil::net::UdpSocket::bind(("0.0.0.0", port)).await?);
        let (send, queue) = mpsc::channel(4096);
        let from = socket.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, sender)) = from.recv_from(&mut buffer).await {
                // A full queue drops packets, as a kernel does.
                let _ = send.try_send((buffer[..length].to_vec(), sender));
            }
        });
        Ok(Arc::new(Self { socket, queue: Mutex::new(queue), trace }))
    }
}

impl Datagrams for Net {
    fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        (now, to, bytes.len()).hash(&mut *self.trace.0.lock());
        // A network that is away loses packets; it does not fail.
        let _ = self.socket.try_send_to(bytes, to);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.queue.lock().poll_recv(cx).map(|received| {
            let (bytes, from) =
                received.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            Ok((length, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}
