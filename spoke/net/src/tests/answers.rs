//! What a client of a node port still gets of its pod's answer when the connection ends.

use std::io::ErrorKind;

use tokio::net::{TcpSocket, TcpStream};

use super::outside::node_port;
use super::*;
use crate::kernel_buffers::SENT_BYTES_MAX;

/// More than a client's kernel takes, and less than the node's.
const ANSWER_BYTES: usize = 48 << 10;

/// A client that has little room, and its connection at the pod.
async fn slow_client() -> (Arc<Fabric>, TcpStream, Conn) {
    let fabric = fabric();
    let listener = add(&fabric, "web", "10.64.0.1").listen(at("0.0.0.0:8080"), 16).unwrap();
    let to = SocketAddr::new([127, 0, 0, 1].into(), node_port(&fabric, "10.64.0.1").await);
    let client = eventually(async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(to).await.ok()
    });
    let client = client.await;
    let conn = listener.accept().await.unwrap();
    (fabric, client, conn)
}

/// The pod says it, and the node's kernel has taken it.
async fn answer(conn: &Conn) {
    let empty = conn.tx.room().unwrap();
    let mut left = ANSWER_BYTES;
    while 0 < left {
        let piece = left.min(16 << 10);
        eventually(async || (conn.tx.room() == Ok(empty)).then_some(())).await;
        conn.tx.push(Bytes::from(vec![7; piece])).unwrap();
        left -= piece;
    }
    eventually(async || (conn.tx.room() == Ok(empty)).then_some(())).await;
}

/// How many bytes a client gets, and how they end.
async fn rest(client: &mut TcpStream) -> (usize, Option<ErrorKind>) {
    let mut all = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut all));
    let outcome = read.await.unwrap();
    (all.len(), outcome.err().map(|error| error.kind()))
}

#[tokio::test]
async fn a_client_has_all_that_its_pod_said_before_it_broke_off() {
    let (_fabric, mut client, conn) = slow_client().await;
    answer(&conn).await;
    conn.tx.break_off();
    conn.rx.close_read();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rest(&mut client).await, (ANSWER_BYTES, Some(ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_client_that_still_talks_has_the_whole_answer() {
    let (_fabric, mut client, conn) = slow_client().await;
    answer(&conn).await;
    drop(conn.into_io());
    // More than the node reads before it sees that nobody listens.
    while client.try_write(&[7; 64 << 10]).is_ok() {}
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rest(&mut client).await, (ANSWER_BYTES, None));
}

#[tokio::test]
async fn the_kernel_holds_little_for_a_client_that_takes_nothing() {
    let (fabric, _client, conn) = slow_client().await;
    let pod = fabric.pod("root-web").unwrap();
    // As much as is taken within half a second after the last of it was.
    let mut said = 0;
    loop {
        let writable = std::future::poll_fn(|cx| conn.tx.poll_writable(cx));
        if tokio::time::timeout(Duration::from_millis(500), writable).await.is_err() {
            break;
        }
        while let Ok(1..) = conn.tx.room() {
            conn.tx.push(Bytes::from(vec![7; 16 << 10])).unwrap();
            said += 16 << 10;
        }
        assert!(said < 64 << 20, "somebody takes all of it");
    }
    let kernels = said - pod.account().used().min(said);
    // The client's has a little of it.
    assert!(kernels < SENT_BYTES_MAX + (32 << 10), "{kernels} bytes wait in the kernel");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_what_broke_off_is_not_waited_for() {
    let (fabric, mut client, conn) = slow_client().await;
    answer(&conn).await;
    conn.tx.break_off();
    conn.rx.close_read();
    let places = || fabric.visits().used();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(places(), 1, "it may take it yet");
    let left = async {
        while 0 < places() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), left).await.unwrap();
    let (bytes, end) = rest(&mut client).await;
    assert!(bytes < ANSWER_BYTES && end == Some(ErrorKind::ConnectionReset), "{bytes} {end:?}");
}
