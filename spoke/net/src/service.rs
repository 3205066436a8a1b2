//! A Service as the pods of a realm meet it: who serves the next connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use freewheel_link::plan::{Protocol, ServiceV1};
use parking_lot::Mutex;

use crate::error::NetError;

/// Clients that one Service remembers for session affinity. When it is full, all are forgotten: clients then
/// choose anew, which affinity allows.
const MAX_CLIENTS: usize = 16_384;

/// How long an endpoint that was not reached is left alone while there are others.
const AWAY: Duration = Duration::from_secs(10);

/// Which endpoint each client was sent to, and when.
type Clients = Mutex<HashMap<IpAddr, (Ipv4Addr, Instant)>>;

/// A Service and the endpoints that take new connections.
pub struct Service {
    spec: ServiceV1,
    /// For each port, the endpoints that serve it.
    ready: Vec<Vec<SocketAddr>>,
    next: AtomicUsize,
    clients: Arc<Clients>,
    /// Endpoints that were not reached, and when.
    away: Arc<Mutex<HashMap<SocketAddr, Instant>>>,
}

impl Service {
    /// Makes it from its record; what the former version knew of its clients lives on.
    pub(crate) fn new(spec: ServiceV1, former: Option<&Self>) -> Self {
        let ready = (0..spec.ports.len())
            .map(|index| {
                let live = spec.endpoints.iter().filter(|endpoint| endpoint.ready);
                live.filter_map(|endpoint| match endpoint.ports.get(index) {
                    None | Some(0) => None,
                    Some(port) => Some(SocketAddr::new(endpoint.ip.into(), *port)),
                })
                .collect()
            })
            .collect();
        let next = former.map_or(0, |former| former.next.load(Relaxed));
        let clients = former.map(|former| former.clients.clone()).unwrap_or_default();
        let away = former.map(|former| former.away.clone()).unwrap_or_default();
        Self { spec, ready, next: AtomicUsize::new(next), clients, away }
    }

    /// The record that it was made from.
    #[must_use]
    pub const fn spec(&self) -> &ServiceV1 {
        &self.spec
    }

    fn endpoints(&self, protocol: Protocol, port: u16) -> Option<&[SocketAddr]> {
        let mut ports = self.spec.ports.iter();
        let index = ports.position(|found| found.protocol == protocol && found.port == port)?;
        self.ready.get(index).map(Vec::as_slice)
    }

    /// Whether new traffic to this port may go to this endpoint.
    #[must_use]
    pub fn serves(&self, protocol: Protocol, port: u16, endpoint: SocketAddr) -> bool {
        self.endpoints(protocol, port).is_some_and(|ready| ready.contains(&endpoint))
    }

    /// All endpoints of this port that take new connections.
    pub(crate) fn ready(&self, protocol: Protocol, port: u16) -> &[SocketAddr] {
        self.endpoints(protocol, port).unwrap_or_default()
    }

    /// Notes that no way led to this endpoint just now.
    pub(crate) fn missed(&self, endpoint: SocketAddr) {
        let now = Instant::now();
        let mut away = self.away.lock();
        away.retain(|_, since| now.duration_since(*since) < AWAY);
        away.insert(endpoint, now);
    }

    fn is_away(&self, endpoint: SocketAddr) -> bool {
        self.away.lock().get(&endpoint).is_some_and(|since| since.elapsed() < AWAY)
    }

    /// Who serves the next connection of this client: in turn, or the same one with session affinity. Endpoints
    /// that were not reached a moment ago are passed over while there are others.
    ///
    /// # Errors
    /// Refused, when the Service has no such port or nobody ready behind it.
    pub fn pick(
        &self,
        protocol: Protocol,
        port: u16,
        client: IpAddr,
    ) -> Result<SocketAddr, NetError> {
        let ready = self.ready(protocol, port);
        if ready.is_empty() {
            return Err(NetError::Refused);
        }
        let in_turn = || {
            let first = self.next.fetch_add(1, Relaxed) % ready.len();
            let turn = |step| ready[(first + step) % ready.len()];
            (0..ready.len()).map(turn).find(|found| !self.is_away(*found)).unwrap_or(turn(0))
        };
        let Some(seconds) = self.spec.affinity_seconds else { return Ok(in_turn()) };
        let now = Instant::now();
        let sticks = Duration::from_secs(seconds.into());
        let mut clients = self.clients.lock();
        if let Some((ip, since)) = clients.get_mut(&client)
            && now.duration_since(*since) < sticks
            && let Some(same) = ready.iter().find(|endpoint| endpoint.ip() == IpAddr::V4(*ip))
            && !self.is_away(*same)
        {
            *since = now;
            return Ok(*same);
        }
        if MAX_CLIENTS <= clients.len() {
            clients.clear();
        }
        let endpoint = in_turn();
        if let IpAddr::V4(ip) = endpoint.ip() {
            clients.insert(client, (ip, now));
        }
        Ok(endpoint)
    }

    /// Addresses of the pods behind a headless Service: of all, or of the one with this hostname.
    pub(crate) fn addresses(&self, hostname: Option<&str>) -> Vec<IpAddr> {
        let ready = self.spec.endpoints.iter().filter(|endpoint| endpoint.ready);
        ready
            .filter(|endpoint| hostname.is_none_or(|hostname| endpoint.hostname == hostname))
            .map(|endpoint| endpoint.ip.into())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;

    fn client(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 64, 0, last).into()
    }

    #[test]
    fn connections_go_to_the_ready_endpoints_in_turn() {
        let spec =
            service("web").at("10.128.0.9").port(80).to("10.64.0.1", 8080).to("10.64.0.2", 8080);
        let web = Service::new(spec.unready("10.64.0.3", 8080).0, None);
        let mut seen: Vec<_> =
            (0..4).map(|_| web.pick(Protocol::Tcp, 80, client(9)).unwrap().to_string()).collect();
        seen.sort();
        assert_eq!(seen, ["10.64.0.1:8080", "10.64.0.1:8080", "10.64.0.2:8080", "10.64.0.2:8080"]);
    }

    #[test]
    fn a_service_refuses_ports_that_it_does_not_have() {
        let web =
            Service::new(service("web").at("10.128.0.9").port(80).to("10.64.0.1", 8080).0, None);
        assert_eq!(web.pick(Protocol::Tcp, 81, client(9)), Err(NetError::Refused));
        assert_eq!(web.pick(Protocol::Udp, 80, client(9)), Err(NetError::Refused));
    }

    #[test]
    fn a_client_with_affinity_stays_until_its_endpoint_goes() {
        let two =
            service("web").at("10.128.0.9").port(80).to("10.64.0.1", 8080).to("10.64.0.2", 8080);
        let web = Service::new(two.sticky(60).0, None);
        let first = web.pick(Protocol::Tcp, 80, client(9)).unwrap();
        for _ in 0..5 {
            assert_eq!(web.pick(Protocol::Tcp, 80, client(9)), Ok(first));
        }
        let other = if first.ip() == client(1) { "10.64.0.2" } else { "10.64.0.1" };
        let one = service("web").at("10.128.0.9").port(80).to(other, 8080).sticky(60);
        let web = Service::new(one.0, Some(&web));
        assert_eq!(web.pick(Protocol::Tcp, 80, client(9)).unwrap().ip().to_string(), other);
    }
}
