//! Where traffic of a realm goes: decided from what is known of it at one moment, by nothing else, and done by others.
//!
//! ```text
//! who asks, for what ──▶ a Service ──▶ an endpoint, whose turn it is ─┐
//!                    └─▶ an address ──────────────────────────────────┴─▶ hop: a pod here
//!                                                                          ├─▶ over the link to another node
//!                                                                          └─▶ nowhere, and why
//! ```
//!
//! What a pod says to itself asks nobody ([`Source::owns`]). Whoever will have a say in who may reach whom (a policy)
//! has it in [`Known::hop`], which every connection and every datagram between two pods passes.
//!
//! Guarantees:
//! - a loopback is its pod's own and nobody else's (`a_loopback_is_the_pod_s_own_and_nobody_else_s`);
//! - nothing leads out of the cluster, whoever asks and whatever is known (`no_way_leads_out_of_the_cluster`);
//! - what came over the link does not go out over it again (`what_came_over_the_link_stays_here`);
//! - a hop is to who has the address, and over the link for pods' addresses alone (`every_hop_has_its_ground`);
//! - who is here is never in doubt, and who is elsewhere always when there is no link
//!   (`who_is_here_is_never_in_doubt`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use freewheel_link::message::is_pod_address;
use freewheel_link::plan::Protocol;

use crate::endpoint_health::EndpointFault;
use crate::error::NetError;
use crate::service::Service;
use crate::tables::RealmTables;

/// All Service addresses of every realm: 10.128.0.0/12.
fn is_service_address(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 10 && ip.octets()[1] & 0xf0 == 128
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A pod on this node.
    Pod(Ipv4Addr),
    /// Somebody in no pod, who comes in by this node.
    Outside(IpAddr),
    /// Somebody who came in by another node.
    Link(IpAddr),
}

impl Source {
    /// Whether this is the asker itself.
    pub(crate) fn owns(self, ip: IpAddr) -> bool {
        matches!(self, Self::Pod(own) if ip.is_loopback() || ip == IpAddr::V4(own))
    }

    /// Whether an answer from another node finds it: clients of this node's ports have the node's address there.
    fn is_answered(self) -> bool {
        match self {
            Self::Pod(ip) => is_pod_address(ip),
            Self::Outside(_) => true,
            Self::Link(_) => false,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// An address of the realm.
    Address(SocketAddr),
    /// A port of a Service by its name, as node ports have it.
    Service { namespace: String, name: String, port: u16 },
}

impl To {
    /// What the client believes it talks to, unless that is who serves it.
    pub(crate) const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Service { .. } => None,
        }
    }
}

/// The way to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// This node has none.
    Missing,
    /// It is known to be down.
    Down,
    /// It is up as far as is known; no later one has its number.
    Up(u64),
}

/// Where something goes.
pub(crate) enum Route<P> {
    /// To who serves next of a Service.
    Service { service: Arc<Service>, port: u16 },
    /// Straight on.
    Straight(Hop<P>),
}

/// The last step, to a pod.
pub(crate) enum Hop<P> {
    /// It is on this node.
    Here { pod: Arc<P>, at: SocketAddr },
    /// It may be on another one.
    Elsewhere { at: SocketAddr },
    /// No way leads there.
    Nowhere(NetError),
}

/// How an endpoint stands with new clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing speaks against it.
    Good,
    /// It lets clients wait.
    Slow,
    /// It had no socket for one more just now.
    Full,
    /// It is known that no way leads there.
    CutOff,
}

/// What is known of a realm at one moment.
pub(crate) struct Known<'a, P> {
    pub(crate) tables: &'a RealmTables<P>,
    pub(crate) link: Link,
}

impl<P> Known<'_, P> {
    /// Where what this one asks for is.
    pub(crate) fn route(&self, from: Source, to: &To, protocol: Protocol) -> Route<P> {
        match to {
            To::Address(at) => match self.tables.service_at(at.ip()) {
                Some(service) => Route::Service { service: service.clone(), port: at.port() },
                None => Route::Straight(self.hop(from, *at, protocol)),
            },
            To::Service { namespace, name, port } => match self.tables.service(namespace, name) {
                Some(service) => Route::Service { service: service.clone(), port: *port },
                None => Route::Straight(Hop::Nowhere(NetError::Refused)),
            },
        }
    }

    /// The way to a pod's address: one that was asked for, or an endpoint of a Service.
    pub(crate) fn hop(&self, from: Source, at: SocketAddr, protocol: Protocol) -> Hop<P> {
        if let Some(pod) = self.tables.pod_at(at.ip()) {
            return Hop::Here { pod: pod.clone(), at };
        }
        match self.elsewhere(from, at.ip(), protocol) {
            Ok(()) => Hop::Elsewhere { at },
            Err(error) => Hop::Nowhere(error),
        }
    }

    /// Whether what is not here may be looked for on other nodes.
    pub(crate) fn elsewhere(
        &self,
        from: Source,
        ip: IpAddr,
        protocol: Protocol,
    ) -> Result<(), NetError> {
        let is_up = match protocol {
            Protocol::Tcp => matches!(self.link, Link::Up(_)),
            // A datagram gets lost on a link that is down, as on any other.
            Protocol::Udp => self.link != Link::Missing && from.is_answered(),
        };
        match (from, ip) {
            // A tunnel that led on to a third node could go round in circles.
            (Source::Link(_), _) => Err(NetError::Unreachable),
            (_, IpAddr::V4(ip)) if is_pod_address(ip) && is_up => Ok(()),
            (_, IpAddr::V4(ip)) if is_pod_address(ip) || is_service_address(ip) => {
                Err(NetError::Unreachable)
            }
            // Grants start closed: no policy of this version opens a way out of the cluster.
            _ => Err(NetError::Denied),
        }
    }

    /// How an endpoint stands; `fault`: what speaks against it over the link of this number.
    pub(crate) fn standing(
        &self,
        endpoint: SocketAddr,
        fault: impl FnOnce(u64) -> Option<EndpointFault>,
    ) -> Standing {
        match (self.tables.pod_at(endpoint.ip()), self.link) {
            (Some(_), _) => Standing::Good,
            (None, Link::Missing | Link::Down) => Standing::CutOff,
            (None, Link::Up(link)) => match fault(link) {
                None => Standing::Good,
                Some(EndpointFault::Slow) => Standing::Slow,
                Some(EndpointFault::Full) => Standing::Full,
                Some(EndpointFault::Gone) => Standing::CutOff,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;

    const LINKS: [Link; 3] = [Link::Missing, Link::Down, Link::Up(7)];
    const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    /// A realm with the pods `web` and `client` here, and a Service of `web` and of one on another node.
    fn tables() -> RealmTables<&'static str> {
        let mut tables = RealmTables::default();
        tables.put_pod(Ipv4Addr::new(10, 64, 0, 1), Arc::new("web"));
        tables.put_pod(Ipv4Addr::new(10, 64, 0, 2), Arc::new("client"));
        let web = service("web").at("10.128.0.9").port(80);
        let web = web.to("10.64.0.1", 8080).to("10.64.1.1", 8080);
        tables.set_service("default", "web", Some(web.0));
        tables
    }

    const CLIENT: Source = Source::Pod(Ipv4Addr::new(10, 64, 0, 2));

    fn told<P: std::fmt::Display>(route: Route<P>) -> String {
        match route {
            Route::Service { service, port } => format!("service {} {port}", service.spec().name),
            Route::Straight(Hop::Here { pod, at }) => format!("{pod} {at}"),
            Route::Straight(Hop::Elsewhere { at }) => format!("elsewhere {at}"),
            Route::Straight(Hop::Nowhere(error)) => error.to_string(),
        }
    }

    #[track_caller]
    fn check(link: Link, to: &str, tcp: &str, udp: &str) {
        let tables = tables();
        let known = Known { tables: &tables, link };
        let route = |protocol| told(known.route(CLIENT, &To::Address(at(to)), protocol));
        assert_eq!([route(Protocol::Tcp), route(Protocol::Udp)], [tcp, udp], "{to}, {link:?}");
    }

    #[test]
    fn addresses_lead_to_pods_and_services() {
        for link in LINKS {
            check(link, "10.64.0.1:80", "web 10.64.0.1:80", "web 10.64.0.1:80");
            check(link, "10.128.0.9:80", "service web 80", "service web 80");
            check(link, "10.128.0.10:80", "no route to host", "no route to host");
        }
        let (lost, there) = ("no route to host", "elsewhere 10.64.1.1:80");
        check(Link::Missing, "10.64.1.1:80", lost, lost);
        check(Link::Down, "10.64.1.1:80", lost, there);
        check(Link::Up(7), "10.64.1.1:80", there, there);
    }

    #[test]
    fn a_door_leads_to_its_service_by_name() {
        let tables = tables();
        let known = Known { tables: &tables, link: Link::Missing };
        let route = |name: &str| {
            let to = To::Service { namespace: "default".into(), name: name.into(), port: 80 };
            told(known.route(Source::Outside([192, 0, 2, 1].into()), &to, Protocol::Tcp))
        };
        assert_eq!(route("web"), "service web 80");
        assert_eq!(route("gone"), "connection refused");
    }

    #[test]
    fn a_loopback_is_the_pod_s_own_and_nobody_else_s() {
        for own in ["127.0.0.1", "::1", "10.64.0.2"] {
            assert!(CLIENT.owns(own.parse().unwrap()), "{own}");
        }
        assert!(!CLIENT.owns([10, 64, 0, 1].into()));
        let others = [Source::Outside([127, 0, 0, 1].into()), Source::Link([10, 64, 0, 2].into())];
        for other in others {
            assert!(!other.owns([127, 0, 0, 1].into()) && !other.owns([10, 64, 0, 2].into()));
        }
        for link in LINKS {
            let denied = NetError::Denied.to_string();
            check(link, "127.0.0.1:80", &denied, &denied);
            check(link, "[::1]:80", &denied, &denied);
        }
    }

    /// Any address: a few of each kind that there is, and the ones beside them.
    fn any_ip(random: &mut fastrand::Rng) -> IpAddr {
        let first = [[10, 64, 0], [10, 64, 1], [10, 127, 255], [10, 128, 0], [10, 143, 255]];
        let other = [[10, 63, 255], [10, 144, 0], [127, 0, 0], [192, 0, 2], [0, 0, 0]];
        let all = [first, other].concat();
        let [a, b, c] = all[random.usize(..all.len())];
        let ip = Ipv4Addr::new(a, b, c, random.u8(..12));
        if random.u8(..8) == 0 { ip.to_ipv6_mapped().into() } else { ip.into() }
    }

    fn any_source(random: &mut fastrand::Rng) -> Source {
        match (random.u8(..3), any_ip(random)) {
            (0, IpAddr::V4(ip)) => Source::Pod(ip),
            (1, ip) => Source::Link(ip),
            (_, ip) => Source::Outside(ip),
        }
    }

    /// Looks at a great many questions in a great many realms.
    fn always(look: impl Fn(&Known<'_, Ipv4Addr>, Source, SocketAddr, Protocol)) {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut tables = RealmTables::default();
            for _ in 0..random.u8(..8) {
                if let IpAddr::V4(ip) = any_ip(&mut random) {
                    tables.put_pod(ip, Arc::new(ip));
                }
            }
            for name in ["a", "b"] {
                let spec = service(name).at(&any_ip(&mut random).to_string()).port(80);
                tables.set_service("default", name, Some(spec.0));
            }
            let known = Known { tables: &tables, link: LINKS[random.usize(..3)] };
            for _ in 0..100 {
                let at = SocketAddr::new(any_ip(&mut random), 80);
                look(&known, any_source(&mut random), at, PROTOCOLS[random.usize(..2)]);
            }
        }
    }

    #[test]
    fn no_way_leads_out_of_the_cluster() {
        always(|known, from, at, protocol| {
            let inside =
                matches!(at.ip(), IpAddr::V4(ip) if is_pod_address(ip) || is_service_address(ip));
            let (here, service) = (known.tables.pod_at(at.ip()), known.tables.service_at(at.ip()));
            if inside || here.is_some() || service.is_some() {
                return;
            }
            let route = known.route(from, &To::Address(at), protocol);
            let closed = match from {
                Source::Link(_) => NetError::Unreachable,
                Source::Pod(_) | Source::Outside(_) => NetError::Denied,
            };
            assert!(
                matches!(route, Route::Straight(Hop::Nowhere(error)) if error == closed),
                "{at}"
            );
        });
    }

    #[test]
    fn what_came_over_the_link_stays_here() {
        always(|known, from, at, protocol| {
            let hop = known.hop(Source::Link(at.ip()), at, protocol);
            assert!(!matches!(hop, Hop::Elsewhere { .. }), "{at}");
            if let Source::Link(_) = from {
                let route = known.route(from, &To::Address(at), protocol);
                assert!(!matches!(route, Route::Straight(Hop::Elsewhere { .. })), "{at}");
            }
        });
    }

    #[test]
    fn every_hop_has_its_ground() {
        always(|known, from, asked, protocol| match known.hop(from, asked, protocol) {
            Hop::Here { pod, at } => assert_eq!((IpAddr::V4(*pod), at), (asked.ip(), asked)),
            Hop::Elsewhere { at } => {
                let is_pod = matches!(at.ip(), IpAddr::V4(ip) if is_pod_address(ip));
                assert!(at == asked && is_pod && known.tables.pod_at(at.ip()).is_none());
                assert!(known.link != Link::Missing, "{at}");
                assert!(protocol == Protocol::Udp || known.link == Link::Up(7), "{at}");
            }
            Hop::Nowhere(_) => assert!(known.tables.pod_at(asked.ip()).is_none(), "{asked}"),
        });
    }

    #[test]
    fn who_is_here_is_never_in_doubt() {
        always(|known, _, at, _| {
            let here = known.tables.pod_at(at.ip()).is_some();
            let faults = [EndpointFault::Slow, EndpointFault::Full, EndpointFault::Gone];
            for fault in faults.map(Some).into_iter().chain([None]) {
                let expected = match (here, known.link, fault) {
                    (true, _, _) | (false, Link::Up(_), None) => Standing::Good,
                    (false, Link::Up(_), Some(EndpointFault::Slow)) => Standing::Slow,
                    (false, Link::Up(_), Some(EndpointFault::Full)) => Standing::Full,
                    (false, _, _) => Standing::CutOff,
                };
                assert_eq!(known.standing(at, |_| fault), expected, "{at}");
            }
        });
    }
}
