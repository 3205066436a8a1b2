//! A device behind a NAT that forgets where it is: its session goes on.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freewheel_link::transport::{Priority, Transport as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::fleet::{ANYWHERE, Fleet, connected};

/// Far more than a test takes; what is lost would be waited for for ever.
const LOST: Duration = Duration::from_secs(25);

/// Stands between one device and the hub, and gives the device another port whenever it is told to forget.
async fn nat(hub: SocketAddr) -> (SocketAddr, Arc<Notify>) {
    let inside = UdpSocket::bind(ANYWHERE).await.unwrap();
    let (address, forget) = (inside.local_addr().unwrap(), Arc::new(Notify::new()));
    let told = forget.clone();
    tokio::spawn(async move {
        let mut outside = UdpSocket::bind(ANYWHERE).await.unwrap();
        let mut device = address;
        let (mut there, mut back) = (vec![0; 4096], vec![0; 4096]);
        loop {
            tokio::select! {
                () = told.notified() => outside = UdpSocket::bind(ANYWHERE).await.unwrap(),
                Ok((length, from)) = inside.recv_from(&mut there) => {
                    device = from;
                    outside.send_to(&there[..length], hub).await.unwrap();
                }
                Ok((length, _)) = outside.recv_from(&mut back) => {
                    inside.send_to(&back[..length], device).await.unwrap();
                }
            }
        }
    });
    (address, forget)
}

#[tokio::test]
async fn what_the_hub_pushes_arrives_with_the_next_packet_of_a_device_that_its_nat_forgot() {
    let fleet = Fleet::new();
    let hub = fleet.hub(ANYWHERE, b"secret");
    let (address, forget) = nat(hub.local_addr().unwrap()).await;
    let (_endpoint, near, far) = connected(&fleet, &hub, address).await;
    far.admit();
    let mut session = near.open(Priority::Session).await.unwrap();
    session.write_all(b"!").await.unwrap();
    let mut pushes = far.accept().await.unwrap();
    assert_eq!(pushes.read_u8().await.unwrap(), b'!');
    for round in 0..3 {
        forget.notify_one();
        let before = far.peer().address;
        pushes.write_all(&[round]).await.unwrap();
        near.send_datagram(Bytes::from_static(b"beat"));
        assert_eq!(timeout(LOST, far.datagram()).await.unwrap().unwrap(), b"beat"[..]);
        assert_eq!(timeout(LOST, session.read_u8()).await.unwrap().unwrap(), round);
        assert_ne!(far.peer().address, before, "the hub has followed it");
    }
}
