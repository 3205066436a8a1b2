//! Peers that have gone, of pods that do not read what they have said.

use freewheel_link::memory_transport;
use freewheel_link::transport::{self, Priority, Transport as _};
use freewheel_spoke_agent::uplink::Duplex as _;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::{End, PIPE_BYTES_MAX};

/// A stream of the hub's, the pod's end of it, and who carries it.
async fn carried() -> (transport::Stream, Conn, JoinHandle<()>) {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
    let (hub, here) = memory_transport::pair_of(4 * PIPE_BYTES_MAX);
    let far = hub.open(Priority::Tunnels).await.unwrap();
    let near = here.accept().await.unwrap();
    let (from, to) = (at("10.64.7.7:9"), at("10.64.0.1:80"));
    let conn = fabric.dial_from_link(&ClusterName::root(), from, to).unwrap();
    let pod = listener.accept().await.unwrap();
    let carrying = tokio::spawn(async move {
        Box::new(conn).carry(near).await;
        drop((hub, here, fabric, web, listener));
    });
    (far, pod, carrying)
}

/// Longer than anybody is looked for.
const BOUND: Duration = Duration::from_secs(120);

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_gone_is_noticed_by_a_pod_that_reads_nothing() {
    let (mut far, pod, carrying) = carried().await;
    // More than waits for a pod that does not read.
    far.write_all(&vec![7; 2 * PIPE_BYTES_MAX]).await.unwrap();
    drop(far);
    timeout(BOUND, carrying).await.unwrap().unwrap();
    assert_eq!(pod.rx.pull(1), Err(End::Reset));
}

#[tokio::test(start_paused = true)]
async fn what_was_said_in_order_is_read_when_its_peer_has_gone() {
    let (mut far, pod, carrying) = carried().await;
    far.write_all(b"all").await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    timeout(BOUND, carrying).await.unwrap().unwrap();
    let (mut pod, mut all) = (pod.into_io(), String::new());
    pod.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "all");
    assert!(pod.write_all(b"nobody hears it").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_said_all_and_reads_nothing_is_broken_off() {
    let (mut far, pod, carrying) = carried().await;
    // More than waits for a pod that does not read.
    far.write_all(&vec![7; 2 * PIPE_BYTES_MAX]).await.unwrap();
    pod.tx.close_write();
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    timeout(BOUND, carrying).await.unwrap().unwrap();
    assert!(far.write_all(b"not heard").await.is_err());
}
