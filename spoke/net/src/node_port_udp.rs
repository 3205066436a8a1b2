//! A UDP door: each client has a port of the node's in the realm, so that answers find their way back.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use freewheel_link::plan::Protocol;
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use crate::node_port::Way;
use crate::udp::{MAX_DATAGRAM, UdpPort};

/// How long a silent client keeps its flow; conntrack's default for answered UDP flows is close to it.
const IDLE: Duration = Duration::from_secs(120);

/// Clients of one door at a time.
const MAX_FLOWS: usize = 1024;

struct Flow {
    port: Arc<UdpPort>,
    endpoint: SocketAddr,
    seen: Instant,
    _answers: AbortOnDropHandle<()>,
}

/// Carries datagrams until the door closes.
pub(crate) async fn serve(way: &Arc<Way>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let received = tokio::select! {
            () = way.closed.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error here is an ICMP answer to something sent before; the socket is sound.
        let Ok((length, peer)) = received else { continue };
        let now = Instant::now();
        if MAX_FLOWS <= flows.len() && !flows.contains_key(&peer) {
            flows.retain(|_, flow| now.duration_since(flow.seen) < IDLE);
            if MAX_FLOWS <= flows.len() {
                continue;
            }
        }
        let target = way.target.read().clone();
        let kept = flows.get(&peer).filter(|flow| target.serves(Protocol::Udp, flow.endpoint));
        if kept.is_none() {
            let Ok(endpoint) = target.pick(Protocol::Udp, peer.ip()) else { continue };
            let Some(flow) = open(way, &socket, peer, endpoint) else { continue };
            flows.insert(peer, flow);
        }
        let Some(flow) = flows.get_mut(&peer) else { continue };
        flow.seen = now;
        let gateway = target.realm().gateway();
        let bytes = Bytes::copy_from_slice(&buffer[..length]);
        // A pod that is gone loses the datagram, as a network would.
        let _ = gateway.send_udp(&flow.port, flow.endpoint, bytes);
    }
}

fn open(
    way: &Arc<Way>,
    socket: &Arc<UdpSocket>,
    peer: SocketAddr,
    endpoint: SocketAddr,
) -> Option<Flow> {
    let gateway = way.target.read().realm().gateway();
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let port = gateway.bind_udp(any).ok()?;
    let (answers, socket) = (port.clone(), socket.clone());
    let answer = async move {
        loop {
            let (bytes, _) = answers.recv().await;
            let _ = socket.send_to(&bytes, peer).await;
        }
    };
    let handle = AbortOnDropHandle::new(way.shared.runtime.spawn(answer));
    Some(Flow { port, endpoint, seen: Instant::now(), _answers: handle })
}
