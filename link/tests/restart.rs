//! What happens on the wire when a hub is killed and started again, what a heartbeat costs there, and what
//! pods leave of the link to it.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use freewheel_link::digest::{Digest, SetDigest};
use freewheel_link::generation::Generation;
use freewheel_link::message::SpokeToHub;
use freewheel_link::quic::{Endpoint, any_port};
use freewheel_link::transport::{Closed, Transport as _};
use tokio::runtime::Runtime;

use crate::fleet::{ANYWHERE, Fleet, connected};

/// Kills a hub without a word to its spoke and starts it again; answers what the spoke's connection
/// says within two seconds of its next packet.
fn after_a_kill(secret: &[u8], next_secret: &[u8]) -> Option<Closed> {
    let fleet = Fleet::new();
    let (device, first_life) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let hub = {
        let _in = first_life.enter();
        fleet.hub(ANYWHERE, secret)
    };
    let address = hub.local_addr().unwrap();
    let (endpoint, near) = {
        let tls = fleet.spoke();
        let dial = async move {
            let endpoint = Endpoint::spoke(any_port()).unwrap();
            let near = endpoint.connect(address, &tls).await.unwrap();
            (endpoint, near)
        };
        let dialling = device.spawn(dial);
        let far =
            first_life.block_on(async { hub.accept().await.unwrap().finish().await.unwrap() });
        let dialled = device.block_on(dialling).unwrap();
        // With its runtime gone nothing of the hub can say goodbye any more.
        first_life.shutdown_timeout(Duration::from_secs(5));
        drop((far, hub));
        dialled
    };
    let second_life = Runtime::new().unwrap();
    let _hub = {
        let _in = second_life.enter();
        fleet.hub(address, next_secret)
    };
    device.block_on(async {
        near.send_datagram(Bytes::from_static(b"are you there, after all this time?"));
        let closed = tokio::time::timeout(Duration::from_secs(2), near.closed()).await.ok();
        drop(endpoint);
        closed
    })
}

#[test]
fn a_hub_that_was_killed_and_is_back_resets_what_it_does_not_know_any_more() {
    assert_eq!(after_a_kill(b"the CA's key", b"the CA's key"), Some(Closed::Restarted));
}

#[test]
fn another_hub_at_the_same_address_cannot_reset_connections_of_the_first() {
    assert_eq!(after_a_kill(b"the CA's key", b"a stranger's"), None);
}

#[tokio::test]
async fn a_dial_to_nobody_is_given_up_in_seconds() {
    let fleet = Fleet::new();
    let nobody = std::net::UdpSocket::bind(ANYWHERE).unwrap();
    let spoke = Endpoint::spoke(any_port()).unwrap();
    let began = Instant::now();
    let outcome = spoke.connect(nobody.local_addr().unwrap(), &fleet.spoke()).await;
    assert_eq!(outcome.err(), Some(Closed::TimedOut));
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_acknowledged_heartbeat_costs_at_most_200_bytes_on_the_wire() {
    const BEATS: u32 = 20;
    let fleet = Fleet::new();
    let hub = fleet.hub(ANYWHERE, b"secret");
    let (_spoke, near, far) = connected(&fleet, &hub, hub.local_addr().unwrap()).await;
    // What follows a handshake is over: path MTU discovery, new connection IDs.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut digest = SetDigest::default();
    digest.add(&Digest::of(b"a record"));
    let mut costs = Vec::new();
    for revision in 0..BEATS {
        let before = near.traffic();
        // Numbers as large as they become: a random incarnation, a revision of years.
        let revision = (1 << 33) + u64::from(revision);
        let generation = Generation { incarnation: u64::MAX, revision };
        let beat = SpokeToHub::Heartbeat { generation, digest };
        near.send_datagram(postcard::to_stdvec(&beat).unwrap().into());
        far.datagram().await.unwrap();
        // Beats come one by one: the acknowledgement goes out before the next.
        tokio::time::sleep(Duration::from_millis(100)).await;
        costs.push(near.traffic().on_the_wire() - before.on_the_wire());
    }
    // The middle one: on a busy machine some acknowledgements are late and asked for again.
    costs.sort_unstable();
    let cost = costs[costs.len() / 2];
    println!("{cost} B per acknowledged heartbeat, IPv4 and UDP headers included");
    assert!(cost <= 200, "{cost}");
}

#[tokio::test]
async fn pods_datagrams_leave_room_for_heartbeats_and_never_exceed_a_packet() {
    let fleet = Fleet::new();
    let hub = fleet.hub(ANYWHERE, b"secret");
    let (_endpoint, near, far) = connected(&fleet, &hub, hub.local_addr().unwrap()).await;
    assert!(!near.offer_datagram(Bytes::from(vec![0; 2000])), "larger than any packet");
    // Nothing is sent between these lines: this runtime has one thread.
    let taken = (0..64).take_while(|_| near.offer_datagram(Bytes::from(vec![1; 1000]))).count();
    assert!((8..16).contains(&taken), "{taken}");
    near.send_datagram(Bytes::from_static(b"beat"));
    assert_eq!(far.datagram().await.unwrap(), vec![1; 1000], "the first one was not pushed out");
}
