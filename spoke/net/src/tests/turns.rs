//! Whoever carries what pods say gives others of its thread a turn, also when there is always more.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::*;
use crate::{Pipe, bridge};

/// More rounds than anybody may go in one turn.
const ROUNDS: usize = 10_000;

/// Whether another task comes to its turn while this one goes its rounds, none of which has to wait.
async fn others_have_a_turn(mut round: impl AsyncFnMut()) -> bool {
    let other = tokio::spawn(async {});
    for _ in 0..ROUNDS {
        round().await;
        if other.is_finished() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn who_reads_and_writes_gives_others_a_turn() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
    let mut near = connect(&client, "10.64.0.1:80").unwrap().into_io();
    let far = listener.accept().await.unwrap();
    let read = async || {
        far.tx.push(Bytes::from_static(b"x")).unwrap();
        near.read_exact(&mut [0]).await.unwrap();
    };
    assert!(others_have_a_turn(read).await);
    let write = async || {
        near.write_all(b"x").await.unwrap();
        far.rx.pull(1).unwrap();
    };
    assert!(others_have_a_turn(write).await);
    let accept = async || {
        let near = connect(&client, "10.64.0.1:80").unwrap();
        drop((listener.accept().await.unwrap(), near));
    };
    assert!(others_have_a_turn(accept).await);
    let (from, to) =
        (client.bind_udp(at("0.0.0.0:0")).unwrap(), web.bind_udp(at("0.0.0.0:53")).unwrap());
    let receive = async || {
        client.send_udp(&from, at("10.64.0.1:53"), Bytes::from_static(b"x")).unwrap();
        to.recv().await;
    };
    assert!(others_have_a_turn(receive).await);
}

/// A stream that is always ready, so often, and has the pod ready as well.
struct Eager {
    pod: Conn,
    rounds: Arc<AtomicUsize>,
    listens: bool,
    /// It was read, with so many rounds left.
    read: Arc<AtomicUsize>,
}

impl Eager {
    fn goes_on(&self) -> bool {
        self.rounds.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

impl Stream for Eager {}

impl AsyncRead for Eager {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.read.fetch_max(self.rounds.load(Relaxed), Relaxed);
        if self.listens || !self.goes_on() {
            return Poll::Pending;
        }
        buf.put_slice(b"x");
        let _ = self.pod.rx.pull(1);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Eager {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.goes_on() {
            return Poll::Pending;
        }
        say(&self.pod.tx);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn say(pipe: &Pipe) {
    pipe.push(Bytes::from_static(b"x")).unwrap();
}

#[tokio::test]
async fn what_is_carried_without_a_pause_gives_others_a_turn() {
    for listens in [true, false] {
        let fabric = fabric();
        let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
        let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
        let near = connect(&client, "10.64.0.1:80").unwrap();
        let pod = listener.accept().await.unwrap();
        say(&pod.tx);
        let rounds = Arc::new(AtomicUsize::new(ROUNDS));
        let read = Arc::new(AtomicUsize::new(0));
        let mut stream = Eager { pod, rounds: rounds.clone(), listens, read: read.clone() };
        let carrying = tokio::spawn(async move {
            bridge::carry(&near.into_tunnel(), &mut stream, 0, std::future::pending()).await;
        });
        let all = rounds.clone();
        let left = tokio::spawn(async move { rounds.load(Relaxed) }).await.unwrap();
        assert!((1..ROUNDS).contains(&left), "{left}");
        while 0 < all.load(Relaxed) {
            tokio::task::yield_now().await;
        }
        assert!(0 < read.load(Relaxed), "what the pod says leaves no turn to what it is told");
        carrying.abort();
    }
}
