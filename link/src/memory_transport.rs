//! A connection without a network, for tests: two ends, bounded pipes, nothing lost, nothing late.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};

use crate::meter::{Carried, Class, Meter, Metered, Tag};
use crate::transport::{Closed, Peer, Priority, SendHalf, Stream, Transport};

const PIPE_BYTES: usize = 64 * 1024;
const STREAMS_WAITING_MAX: usize = 64;
const DATAGRAMS_WAITING_MAX: usize = 16;

/// One end of a connection in memory.
pub struct MemoryTransport {
    out: mpsc::Sender<End>,
    incoming: AsyncMutex<mpsc::Receiver<End>>,
    datagrams_out: mpsc::Sender<Bytes>,
    datagrams_in: AsyncMutex<mpsc::Receiver<Bytes>>,
    ended: watch::Sender<Option<Closed>>,
    ended_there: watch::Sender<Option<Closed>>,
    certificate: Mutex<Option<CertificateDer<'static>>>,
    peer: Mutex<SocketAddr>,
    meter: Arc<Meter>,
    heard: AtomicU64,
    /// How often something seems to come yet; `None`: always.
    hears: Mutex<Option<u64>>,
    pipe: usize,
}

/// The two ends of a new connection.
#[must_use]
pub fn pair() -> (Arc<MemoryTransport>, Arc<MemoryTransport>) {
    pair_of(PIPE_BYTES)
}

/// The same, with pipes of so many bytes.
#[must_use]
pub fn pair_of(pipe: usize) -> (Arc<MemoryTransport>, Arc<MemoryTransport>) {
    let (a_out, b_in) = mpsc::channel(STREAMS_WAITING_MAX);
    let (b_out, a_in) = mpsc::channel(STREAMS_WAITING_MAX);
    let (a_datagrams, b_datagrams_in) = mpsc::channel(DATAGRAMS_WAITING_MAX);
    let (b_datagrams, a_datagrams_in) = mpsc::channel(DATAGRAMS_WAITING_MAX);
    let (a_end, b_end) = (watch::Sender::new(None), watch::Sender::new(None));
    let end = |out, incoming, datagrams_out, datagrams_in, ended, ended_there| {
        Arc::new(MemoryTransport {
            out,
            incoming: AsyncMutex::new(incoming),
            datagrams_out,
            datagrams_in: AsyncMutex::new(datagrams_in),
            ended,
            ended_there,
            certificate: Mutex::new(None),
            peer: Mutex::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))),
            meter: Arc::default(),
            heard: AtomicU64::new(0),
            hears: Mutex::new(None),
            pipe,
        })
    };
    let a = end(a_out, a_in, a_datagrams, a_datagrams_in, a_end.clone(), b_end.clone());
    let b = end(b_out, b_in, b_datagrams, b_datagrams_in, b_end, a_end);
    (a, b)
}

impl MemoryTransport {
    /// Makes this end see a certificate, as if the peer had proven to hold it.
    pub fn show_certificate(&self, certificate: CertificateDer<'static>) {
        *self.certificate.lock() = Some(certificate);
    }

    /// Makes this end see the other one at this address.
    pub fn come_from(&self, address: SocketAddr) {
        *self.peer.lock() = address;
    }

    /// Makes this end see the connection over, for a reason that is none of the other end's words.
    pub fn break_off(&self, why: Closed) {
        self.ended.send_if_modified(|slot| keep_first(slot, why));
    }

    /// From now on nothing seems to come from the other end any more.
    pub fn hear_nothing(&self) {
        self.hear_no_more_than(0);
    }

    /// From now on something seems to come from the other end so often yet: what was on its way.
    pub fn hear_no_more_than(&self, count: u64) {
        *self.hears.lock() = Some(count);
    }

    fn stream(&self, (mut send, recv): End) -> Stream {
        let tag = self.meter.tag();
        send.tag = Some(tag.clone());
        Stream { send: Box::new(send), recv: Box::new(Metered { recv, tag }) }
    }

    async fn unless_closed<T>(&self, next: impl Future<Output = Option<T>>) -> Result<T, Closed> {
        tokio::select! {
            biased;
            closed = self.closed() => Err(closed),
            got = next => got.ok_or_else(|| Closed::Failed("the other end is gone".into())),
        }
    }
}

/// Whether this is the first that is heard of the end.
fn keep_first(slot: &mut Option<Closed>, closed: Closed) -> bool {
    let first = slot.is_none();
    if first {
        *slot = Some(closed);
    }
    first
}

/// One direction of a stream: its end is whole, or a reset.
struct Half {
    pipe: DuplexStream,
    whole: Arc<AtomicBool>,
    /// Known once it is at an end of the connection.
    tag: Option<Arc<Tag>>,
}

impl AsyncWrite for Half {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, buf));
        if let (Ok(count), Some(tag)) = (&written, &self.tag) {
            tag.sent(*count);
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.whole.store(true, Ordering::Release);
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

impl SendHalf for Half {
    fn set_priority(&mut self, priority: Priority) {
        if let Some(tag) = &self.tag {
            tag.set(priority);
        }
    }

    fn reset(&mut self) {
        self.pipe = duplex(1).0;
    }

    fn is_stopped(&mut self, cx: &mut Context<'_>) -> bool {
        let looked = Pin::new(&mut self.pipe).poll_write(cx, &[]);
        !self.whole.load(Ordering::Acquire) && matches!(looked, Poll::Ready(Err(_)))
    }
}

struct Rest {
    pipe: DuplexStream,
    whole: Arc<AtomicBool>,
}

impl AsyncRead for Rest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before && 0 < buf.remaining();
        if ended && !self.whole.load(Ordering::Acquire) {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

fn direction(pipe: usize) -> (Half, Rest) {
    let (near, far) = duplex(pipe);
    let whole = Arc::new(AtomicBool::new(false));
    (Half { pipe: near, whole: whole.clone(), tag: None }, Rest { pipe: far, whole })
}

/// One end of a stream.
type End = (Half, Rest);

fn streams(pipe: usize) -> (End, End) {
    let ((a_send, b_recv), (b_send, a_recv)) = (direction(pipe), direction(pipe));
    ((a_send, a_recv), (b_send, b_recv))
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn open(&self, priority: Priority) -> Result<Stream, Closed> {
        let (here, there) = streams(self.pipe);
        self.unless_closed(async { self.out.send(there).await.ok() }).await?;
        let mut stream = self.stream(here);
        stream.send.set_priority(priority);
        Ok(stream)
    }

    async fn accept(&self) -> Result<Stream, Closed> {
        let end = self.unless_closed(async { self.incoming.lock().await.recv().await }).await?;
        Ok(self.stream(end))
    }

    fn send_datagram(&self, bytes: Bytes) {
        let length = bytes.len();
        // A full queue drops it, as a network would.
        if self.datagrams_out.try_send(bytes).is_ok() {
            self.meter.sent(Class::Datagrams, length);
        }
    }

    fn offer_datagram(&self, bytes: Bytes) -> bool {
        let length = bytes.len();
        let sent = 1 < self.datagrams_out.capacity() && self.datagrams_out.try_send(bytes).is_ok();
        if sent {
            self.meter.sent(Class::Datagrams, length);
        }
        sent
    }

    async fn datagram(&self) -> Result<Bytes, Closed> {
        let next = async { self.datagrams_in.lock().await.recv().await };
        let bytes = self.unless_closed(next).await?;
        self.meter.received(Class::Datagrams, bytes.len());
        Ok(bytes)
    }

    fn carried(&self, class: Class) -> Carried {
        self.meter.carried(class)
    }

    fn close(&self, code: u32, reason: &str) {
        let there = Closed::ByPeer { code, reason: reason.to_owned() };
        self.ended.send_if_modified(|slot| keep_first(slot, Closed::Here));
        self.ended_there.send_if_modified(|slot| keep_first(slot, there.clone()));
    }

    async fn closed(&self) -> Closed {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(closed) => closed.clone().unwrap_or(Closed::Here),
            Err(_) => Closed::Here,
        }
    }

    fn heard(&self) -> u64 {
        // Acknowledgements always come at once here.
        let mut hears = self.hears.lock();
        let more = hears.map_or(1, |left| left.min(1));
        *hears = hears.map(|left| left - more);
        self.heard.fetch_add(more, Ordering::Relaxed)
    }

    fn acknowledged(&self) -> u64 {
        self.heard()
    }

    fn peer(&self) -> Peer {
        Peer { address: *self.peer.lock(), certificate: self.certificate.lock().clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn streams_and_datagrams_arrive_until_it_is_closed() {
        let (hub, spoke) = pair();
        let mut out = spoke.open(Priority::Session).await.unwrap();
        out.write_all(b"hello").await.unwrap();
        out.shutdown().await.unwrap();
        let mut text = String::new();
        hub.accept().await.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        hub.send_datagram(Bytes::from_static(b"beat"));
        assert_eq!(spoke.datagram().await.unwrap(), "beat");
        hub.close(code_of_test(), "enough");
        assert_eq!(
            spoke.closed().await,
            Closed::ByPeer { code: code_of_test(), reason: "enough".into() }
        );
        assert!(spoke.accept().await.is_err());
        assert!(hub.open(Priority::Session).await.is_err());
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_before_its_end_is_reset() {
        let (hub, spoke) = pair();
        let mut out = spoke.open(Priority::Session).await.unwrap();
        out.write_all(b"half of").await.unwrap();
        drop(out);
        let mut text = String::new();
        let broken = hub.accept().await.unwrap().read_to_string(&mut text).await;
        assert_eq!(broken.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }

    const fn code_of_test() -> u32 {
        crate::transport::code::REFUSED
    }
}
