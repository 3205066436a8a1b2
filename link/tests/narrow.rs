//! A link that is narrower than what pods send over it.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use freewheel_link::transport::{Priority, Transport as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::fleet::{ANYWHERE, Fleet, connected};

/// What the narrow way carries from the device to the hub.
const BYTES_PER_SECOND: u64 = 256 << 10;
/// Packets that wait before it; more are lost, as in a router.
const QUEUE_PACKETS: usize = 24;
/// Far more than a test takes; a stream that gets nothing would wait for ever.
const STARVED: Duration = Duration::from_secs(60);

/// A way to the hub that is narrow in this direction, and free in the other.
async fn narrow(hub: SocketAddr) -> SocketAddr {
    let inside = Arc::new(UdpSocket::bind(ANYWHERE).await.unwrap());
    let outside = Arc::new(UdpSocket::bind(ANYWHERE).await.unwrap());
    let address = inside.local_addr().unwrap();
    let (queue, mut waiting) = mpsc::channel::<Vec<u8>>(QUEUE_PACKETS);
    let through = outside.clone();
    tokio::spawn(async move {
        let mut free = Instant::now();
        while let Some(packet) = waiting.recv().await {
            let takes =
                Duration::from_nanos(packet.len() as u64 * 1_000_000_000 / BYTES_PER_SECOND);
            free = free.max(Instant::now()) + takes;
            sleep_until(free).await;
            through.send_to(&packet, hub).await.unwrap();
        }
    });
    tokio::spawn(async move {
        let mut device = address;
        let (mut there, mut back) = (vec![0; 4096], vec![0; 4096]);
        loop {
            tokio::select! {
                Ok((length, from)) = inside.recv_from(&mut there) => {
                    device = from;
                    // A full queue loses packets.
                    let _ = queue.try_send(there[..length].to_vec());
                }
                Ok((length, _)) = outside.recv_from(&mut back) => {
                    inside.send_to(&back[..length], device).await.unwrap();
                }
            }
        }
    });
    address
}

/// Small datagrams fill packets to their end; large ones leave a stream what is behind them.
#[tokio::test]
async fn pods_datagrams_leave_a_narrow_link_to_plans() {
    let fleet = Fleet::new();
    let hub = fleet.hub(ANYWHERE, b"secret");
    let way = narrow(hub.local_addr().unwrap()).await;
    let (_endpoint, near, far) = connected(&fleet, &hub, way).await;
    far.admit();
    let mut session = near.open(Priority::Session).await.unwrap();
    session.write_all(b"!").await.unwrap();
    let mut plans = far.accept().await.unwrap();
    assert_eq!(plans.read_u8().await.unwrap(), b'!');

    let came = Arc::new(AtomicUsize::new(0));
    let (pods, count, flood) = (far.clone(), came.clone(), near.clone());
    tokio::spawn(async move {
        while let Ok(datagram) = pods.datagram().await {
            count.fetch_add(datagram.len(), Relaxed);
        }
    });
    tokio::spawn(async move {
        loop {
            while flood.offer_datagram(Bytes::from_static(&[7; 40])) {}
            sleep(Duration::from_millis(1)).await;
        }
    });
    let full = async {
        while came.load(Relaxed) < 64 << 10 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(STARVED, full).await.unwrap();

    let before = came.load(Relaxed);
    let mut plan = vec![0; 96 << 10];
    let carried =
        async { tokio::try_join!(session.write_all(&[9; 96 << 10]), plans.read_exact(&mut plan)) };
    timeout(STARVED, carried).await.unwrap().unwrap();
    let beside = came.load(Relaxed) - before;
    assert!(beside < 5 * plan.len(), "{beside} bytes of datagrams beside {} of plans", plan.len());
}
