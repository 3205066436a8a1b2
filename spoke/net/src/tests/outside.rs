//! What is outside of a node: clients of its node ports, and other nodes.

use futures::future::BoxFuture;
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
