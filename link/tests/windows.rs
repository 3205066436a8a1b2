//! Streams beside each other on one link: what nobody reads stops nobody else, and what broke off says so.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::Poll;
use std::time::Duration;

use freewheel_link::limits;
use freewheel_link::meter::{Carried, Class};
use freewheel_link::quic::Quic;
use freewheel_link::transport::{Priority, Stream, Transport as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::fleet::{ANYWHERE, Fleet, connected};

/// Far more than a test takes; a stream that is stuck would wait for ever.
const STUCK: Duration = Duration::from_secs(60);

/// A stream from one end, with what the other end has of it.
async fn stream(from: &Quic, to: &Quic, priority: Priority) -> (Stream, Stream) {
    let mut near = from.open(priority).await.unwrap();
    near.write_all(b"!").await.unwrap();
    let mut far = to.accept().await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'!');
    (near, far)
}

/// Writes until the other end, which reads nothing, takes no more; how much that was.
async fn fill(stream: &mut Stream) -> usize {
    let (piece, mut written) = (vec![7; 16 << 10], 0);
    while let Ok(count) = timeout(Duration::from_millis(50), stream.write(&piece)).await {
        written += count.unwrap();
    }
    written
}

#[tokio::test]
async fn connections_that_nobody_reads_leave_the_session_its_room() {
    let fleet = Fleet::new();
    let hub = fleet.hub(ANYWHERE, b"secret");
    let (_endpoint, spoke, hub) = connected(&fleet, &hub, hub.local_addr().unwrap()).await;
    hub.admit();
    let mut unread = Vec::new();
    for _ in 0..24 {
        for (from, to) in [(&spoke, &hub), (&hub, &spoke)] {
            let (mut near, far) = stream(from, to, Priority::Tunnels).await;
            assert!(fill(&mut near).await <= limits::STREAM_WINDOW_BYTES);
            unread.push((near, far));
        }
    }
    let (session, far) = stream(&spoke, &hub, Priority::Session).await;
    for (mut from, mut to) in [(session.send, far.recv), (far.send, session.recv)] {
        let sent = vec![9; 2 << 20];
        let mut came = vec![0; sent.len()];
        let carried = async { tokio::try_join!(from.write_all(&sent), to.read_exact(&mut came)) };
        timeout(STUCK, carried).await.unwrap().unwrap();
        assert_eq!(came, sent);
        from.shutdown().await.unwrap();
    }
    drop(unread);
}

#[tokio::test]
async fn who_has_proven_nothing_makes_the_hub_hold_little() {
    let fleet = Fleet::new();
    let hub = fleet.hub(ANYWHERE, b"secret");
    let (_endpoint, stranger, hub) = connected(&fleet, &hub, hub.local_addr().unwrap()).await;
    let mut held = Vec::new();
    for _ in 0..limits::STRANGER_STREAMS_MAX {
        held.push(stream(&stranger, &hub, Priority::Tunnels).await);
    }
    let mut bytes = 0;
    for (near, _) in &mut held {
        bytes += fill(near).await;
    }
    assert!(bytes <= limits::STRANGER_WINDOW_BYTES, "{bytes}");
    let more = timeout(Duration::from_millis(100), stranger.open(Priority::Tunnels)).await;
    assert!(more.is_err(), "there is no place for another stream");
    hub.admit();
    let more = timeout(STUCK, stranger.open(Priority::Tunnels)).await;
    assert!(more.unwrap().is_ok());
}

#[tokio::test]
async fn a_stream_that_is_dropped_before_its_end_is_reset() {
    let fleet = Fleet::new();
    let hub = fleet.hub(ANYWHERE, b"secret");
    let (_endpoint, spoke, hub) = connected(&fleet, &hub, hub.local_addr().unwrap()).await;
    let (mut near, mut far) = stream(&spoke, &hub, Priority::Tunnels).await;
    near.write_all(b"half of").await.unwrap();
    drop(near);
    let mut text = String::new();
    let broken = timeout(STUCK, far.read_to_string(&mut text)).await.unwrap();
    assert_eq!(broken.unwrap_err().kind(), ErrorKind::ConnectionReset);

    let (mut near, mut far) = stream(&spoke, &hub, Priority::Tunnels).await;
    near.write_all(b"all of it").await.unwrap();
    near.shutdown().await.unwrap();
    drop(near);
    let mut text = String::new();
    timeout(STUCK, far.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "all of it");
}

/// What a look at the stream says, which is not read.
async fn is_stopped(stream: &mut Stream) -> bool {
    poll_fn(|cx| Poll::Ready(stream.send.is_stopped(cx))).await
}

#[tokio::test]
async fn who_does_not_read_a_stream_sees_that_its_peer_has_gone() {
    let fleet = Fleet::new();
    let hub = fleet.hub(ANYWHERE, b"secret");
    let (_endpoint, spoke, hub) = connected(&fleet, &hub, hub.local_addr().unwrap()).await;
    for full in [false, true] {
        let (mut near, mut far) = stream(&hub, &spoke, Priority::Tunnels).await;
        near.write_all(b"not read").await.unwrap();
        if full {
            fill(&mut far).await;
        }
        assert!(!is_stopped(&mut far).await);
        drop(near);
        let seen = async {
            while !is_stopped(&mut far).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(STUCK, seen).await.unwrap();
    }
    // Who has said all is not told what becomes of it.
    let (near, mut far) = stream(&hub, &spoke, Priority::Tunnels).await;
    far.shutdown().await.unwrap();
    drop(near);
    assert!(!is_stopped(&mut far).await);
}

#[tokio::test]
async fn what_is_carried_is_counted_by_what_it_was_for() {
    let fleet = Fleet::new();
    let hub = fleet.hub(ANYWHERE, b"secret");
    let (_endpoint, spoke, hub) = connected(&fleet, &hub, hub.local_addr().unwrap()).await;
    let (mut near, mut far) = stream(&spoke, &hub, Priority::Modules).await;
    far.send.set_priority(Priority::Modules);
    far.write_all(&[7; 1000]).await.unwrap();
    near.read_exact(&mut [0; 1000]).await.unwrap();
    spoke.send_datagram(bytes::Bytes::from_static(b"beat"));
    hub.datagram().await.unwrap();
    let carried = |sent, received| Carried { sent, received };
    assert_eq!(spoke.carried(Class::Modules), carried(1, 1000));
    assert_eq!(hub.carried(Class::Modules), carried(1000, 0));
    assert_eq!(hub.carried(Class::Session), carried(0, 1), "before it was known what it is for");
    assert_eq!(spoke.carried(Class::Datagrams), carried(4, 0));
    assert_eq!(hub.carried(Class::Datagrams), carried(0, 4));
    assert_eq!(hub.carried(Class::Tunnels), carried(0, 0));
}
