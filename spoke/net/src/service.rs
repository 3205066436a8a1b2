//! A Service as the pods of a realm meet it: who serves the next connection.
//!
//! Guarantees:
//! - with session affinity a client stays with its endpoint while that is there
//!   (`a_client_with_affinity_stays_until_its_endpoint_goes`), and goes to stay with another one only once that has served it
//!   (`a_client_with_affinity_is_not_bound_to_who_was_only_asked`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use freewheel_link::plan::{Protocol, ServiceV1};
use parking_lot::Mutex;

use crate::error::NetError;

/// Clients that one Service remembers for session affinity. When it is full, all are forgotten: clients then
/// choose anew, which affinity allows.
const STICKY_CLIENTS_MAX: usize = 16_384;

/// Which endpoint each client was sent to, and when.
type Clients = HashMap<IpAddr, (Ipv4Addr, Instant)>;

fn bind(clients: &mut Clients, client: IpAddr, endpoint: SocketAddr) {
    if STICKY_CLIENTS_MAX <= clients.len() && !clients.contains_key(&client) {
        clients.clear();
    }
    if let IpAddr::V4(ip) = endpoint.ip() {
        clients.insert(client, (ip, Instant::now()));
    }
}

/// A Service and the endpoints that take new connections.
pub struct Service {
    spec: ServiceV1,
    /// For each port, the endpoints that serve it.
    ready: Vec<Vec<SocketAddr>>,
    next: AtomicUsize,
    clients: Arc<Mutex<Clients>>,
}

impl Service {
    /// Makes it from its record; what the former version knew of its clients lives on.
    pub(crate) fn new(spec: ServiceV1, former: Option<&Self>) -> Self {
        let ready = (0..spec.ports.len())
            .map(|index| {
                let live = spec.endpoints.iter().filter(|endpoint| endpoint.ready);
                live.filter_map(|endpoint| match endpoint.ports.get(index) {
                    None | Some(0) => None,
                    Some(port) => Some(SocketAddr::new(endpoint.ip, *port)),
                })
                .collect()
            })
            .collect();
        let next = former.map_or(0, |former| former.next.load(Relaxed));
        let clients = former.map(|former| former.clients.clone()).unwrap_or_default();
        Self { spec, ready, next: AtomicUsize::new(next), clients }
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

    /// Whether clients stay with the endpoint that they were given.
    pub(crate) const fn is_sticky(&self) -> bool {
        self.spec.affinity_seconds.is_some()
    }

    /// Who serves the next connection of this client: in turn, or the same one with session affinity. Endpoints
    /// that a client `may` not be sent to now are passed over while there are others.
    ///
    /// # Errors
    /// Refused, when the Service has no such port or nobody ready behind it.
    pub(crate) fn pick(
        &self,
        protocol: Protocol,
        port: u16,
        client: IpAddr,
        may: &dyn Fn(SocketAddr) -> bool,
    ) -> Result<SocketAddr, NetError> {
        self.choose(protocol, port, client, may)
            .or_else(|| self.choose(protocol, port, client, &|_| true))
            .ok_or(NetError::Refused)
    }

    /// The same among those only that the client may be sent to. Once it is served, it is to be [`Service::keep`].
    pub(crate) fn choose(
        &self,
        protocol: Protocol,
        port: u16,
        client: IpAddr,
        may: &dyn Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let ready = self.endpoints(protocol, port)?;
        let in_turn = || {
            let able = || ready.iter().filter(|endpoint| may(**endpoint));
            // One that became able or unable between the two looks changes the turn, not the outcome.
            let count = NonZero::new(able().count())?;
            let turn = self.next.fetch_add(1, Relaxed) % count;
            able().nth(turn).or_else(|| able().next()).copied()
        };
        let Some(seconds) = self.spec.affinity_seconds else { return in_turn() };
        let now = Instant::now();
        let sticks = Duration::from_secs(seconds.into());
        let mut clients = self.clients.lock();
        let bound = clients.get_mut(&client).and_then(|(ip, since)| {
            let same = ready.iter().find(|endpoint| endpoint.ip() == IpAddr::V4(*ip));
            same.filter(|_| now.duration_since(*since) < sticks).map(|same| (*same, since))
        });
        match bound {
            Some((same, since)) if may(same) => {
                *since = now;
                Some(same)
            }
            // Whoever it is sent to in its place may not serve it.
            Some(_) => in_turn(),
            // Those that it opens at the same time are to go to the same one.
            None => in_turn().inspect(|first| bind(&mut clients, client, *first)),
        }
    }

    /// An endpoint serves this client, which stays with it if the Service has session affinity.
    pub(crate) fn keep(&self, client: IpAddr, endpoint: SocketAddr) {
        if self.is_sticky() {
            bind(&mut self.clients.lock(), client, endpoint);
        }
    }

    /// Whether there is one that a client may be sent to. Nobody's turn is over by that.
    pub(crate) fn has(
        &self,
        protocol: Protocol,
        port: u16,
        may: &dyn Fn(SocketAddr) -> bool,
    ) -> bool {
        self.endpoints(protocol, port).is_some_and(|ready| ready.iter().any(|it| may(*it)))
    }

    /// Addresses of the pods behind a headless Service: of all, or of the one with this hostname.
    pub(crate) fn addresses(&self, hostname: Option<&str>) -> Vec<IpAddr> {
        let ready = self.spec.endpoints.iter().filter(|endpoint| endpoint.ready);
        ready
            .filter(|endpoint| hostname.is_none_or(|hostname| endpoint.hostname == hostname))
            .map(|endpoint| endpoint.ip)
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
        let mut seen: Vec<_> = (0..4)
            .map(|_| web.pick(Protocol::Tcp, 80, client(9), &|_| true).unwrap().to_string())
            .collect();
        seen.sort();
        assert_eq!(seen, ["10.64.0.1:8080", "10.64.0.1:8080", "10.64.0.2:8080", "10.64.0.2:8080"]);
    }

    #[test]
    fn a_service_refuses_ports_that_it_does_not_have() {
        let web =
            Service::new(service("web").at("10.128.0.9").port(80).to("10.64.0.1", 8080).0, None);
        assert_eq!(web.pick(Protocol::Tcp, 81, client(9), &|_| true), Err(NetError::Refused));
        assert_eq!(web.pick(Protocol::Udp, 80, client(9), &|_| true), Err(NetError::Refused));
    }

    #[test]
    fn a_client_with_affinity_is_not_bound_to_who_was_only_asked() {
        let two =
            service("web").at("10.128.0.9").port(80).to("10.64.0.1", 8080).to("10.64.0.2", 8080);
        let web = Service::new(two.sticky(60).0, None);
        let any = || web.pick(Protocol::Tcp, 80, client(9), &|_| true).unwrap();
        let first = any();
        let other = web.choose(Protocol::Tcp, 80, client(9), &|it| it != first).unwrap();
        assert_eq!(any(), first);
        web.keep(client(9), other);
        assert_eq!(any(), other);
    }

    #[test]
    fn a_client_with_affinity_stays_until_its_endpoint_goes() {
        let two =
            service("web").at("10.128.0.9").port(80).to("10.64.0.1", 8080).to("10.64.0.2", 8080);
        let web = Service::new(two.sticky(60).0, None);
        let first = web.pick(Protocol::Tcp, 80, client(9), &|_| true).unwrap();
        for _ in 0..5 {
            assert_eq!(web.pick(Protocol::Tcp, 80, client(9), &|_| true), Ok(first));
        }
        let other = if first.ip() == client(1) { "10.64.0.2" } else { "10.64.0.1" };
        let one = service("web").at("10.128.0.9").port(80).to(other, 8080).sticky(60);
        let web = Service::new(one.0, Some(&web));
        assert_eq!(
            web.pick(Protocol::Tcp, 80, client(9), &|_| true).unwrap().ip().to_string(),
            other
        );
    }
}
