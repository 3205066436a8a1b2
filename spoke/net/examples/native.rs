//! A native server in a pod's place: hyper on the pod network behind a NodePort. What a Wasm handler costs more than
//! this is the handler; what this costs more than hyper on a socket is the proxy.
//!
//! ```text
//! native 127.0.0.1:8080 "hello"
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::Bytes;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{EndpointV1, Protocol, ServicePortV1, ServiceV1};
use freewheel_spoke_agent::ports::{Network as _, PodNetwork};
use freewheel_spoke_net::Fabric;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

const POD: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, 2), 8080);
const BACKLOG: usize = 128;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(door), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("usage: native ADDRESS:PORT TEXT".into());
    };
    let door: SocketAddrV4 = door.parse()?;
    let fabric = Fabric::new(tokio::runtime::Handle::current());
    fabric.add_pod(pod());
    fabric.set_service(&ClusterName::root(), "default", "native", Some(service(door.port())));
    let pod = fabric.pod("native").ok_or("the pod is not there")?;
    let listener = pod.listen(POD.into(), BACKLOG)?;
    fabric.set_node((*door.ip()).into(), "cluster.local");
    let text = Bytes::from(text);
    while let Ok(conn) = listener.accept().await {
        let text = text.clone();
        let hello = service_fn(move |_: Request<Incoming>| {
            let text = text.clone();
            async move { Ok::<_, Infallible>(Response::new(Full::new(text))) }
        });
        // A client that goes away is the end of its connection and of nothing else.
        tokio::spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(conn.into_io()), hello).await);
        });
    }
    Ok(())
}

fn pod() -> PodNetwork {
    PodNetwork {
        uid: "native".to_owned(),
        realm: ClusterName::root(),
        namespace: "default".to_owned(),
        ip: *POD.ip(),
        hostname: "native".to_owned(),
        aliases: Vec::new(),
        host_ports: Vec::new(),
        memory_limit: None,
    }
}

fn service(node_port: u16) -> ServiceV1 {
    let port = ServicePortV1 {
        name: String::new(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: Some(node_port),
    };
    let endpoint = EndpointV1 {
        ip: (*POD.ip()).into(),
        node: String::new(),
        hostname: String::new(),
        ready: true,
        ports: vec![POD.port()],
    };
    ServiceV1 {
        namespace: "default".to_owned(),
        name: "native".to_owned(),
        cluster_ip: Some([10, 128, 0, 2].into()),
        external_name: None,
        ports: vec![port],
        endpoints: vec![endpoint],
        affinity_seconds: None,
    }
}
