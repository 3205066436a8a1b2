//! What is outside of a node: clients of its node ports, and other nodes.

use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::*;

/// A port of the kernel that nobody has now.
pub(super) async fn free_port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A Service `web` with a node port that leads to port 8080 of this pod; the node port.
pub(super) async fn node_port(fabric: &Fabric, pod: &str) -> u16 {
    let port = free_port().await;
    let spec = service("web").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
    fabric.set_service(&ClusterName::root(), "default", "web", Some(spec.to(pod, 8080).0));
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    port
}

/// A client of a node port, once that is open.
pub(super) async fn client_of(port: u16) -> TcpStream {
    eventually(async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await
}

/// Waits for the echo of a client.
pub(super) async fn served(client: &mut TcpStream) {
    client.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    let answered = tokio::time::timeout(Duration::from_secs(20), client.read_exact(&mut answer));
    answered.await.unwrap().unwrap();
    assert_eq!(&answer, b"hello");
}

/// How many of them have heard nothing, which are still there.
pub(super) fn left(clients: &mut [TcpStream]) -> usize {
    clients
        .iter_mut()
        .filter_map(|client| client.read(&mut [0]).now_or_never().is_none().then_some(()))
        .count()
}

type Reached = Result<Box<dyn Stream>, NetError>;

/// All other nodes, reached in one way.
pub(super) struct Elsewhere<F>(pub(super) F);

impl<F> Remote for Elsewhere<F>
where
    F: Fn() -> BoxFuture<'static, Reached> + Send + Sync + 'static,
{
    fn connect(
        &self,
        _: &ClusterName,
        _: SocketAddr,
        _: SocketAddr,
    ) -> BoxFuture<'static, Reached> {
        (self.0)()
    }
}

/// The way to a pod of another node, which sends back what it gets: so many connections are left of it.
pub(super) fn few(full: NetError, left: &Arc<Mutex<usize>>) -> BoxFuture<'static, Reached> {
    let left = left.clone();
    let taken = left.lock().checked_sub(1);
    let Some(taken) = taken else {
        return ready(Err(full)).boxed();
    };
    *left.lock() = taken;
    let (near, mut far) = tokio::io::duplex(100);
    tokio::spawn(async move {
        let mut bytes = [0; 100];
        while let Ok(count @ 1..) = far.read(&mut bytes).await {
            let _ = far.write_all(&bytes[..count]).await;
        }
        *left.lock() += 1;
    });
    ready(Ok(Box::new(near) as Box<dyn Stream>)).boxed()
}
