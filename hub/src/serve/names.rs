//! Under which names the hub is reached.
//!
//! ```text
//! --advertise ─▶ else the address listened on ─▶ for 0.0.0.0 and [::] the one of the default route ─▶ else loopback
//! ```
//!
//! Guarantees:
//! - a name that was guessed comes with a doubt, which the hub says when it starts
//!   (`who_listens_everywhere_is_reached_on_the_default_route_and_hears_of_the_guess`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use tracing::{info, warn};

use super::serve_error::ServeError;
use crate::cli::ServeOptions;

/// First address of the Service range: `default/kubernetes`.
const KUBERNETES_SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 128, 0, 1));

/// Under which names the hub is reached.
#[derive(Clone)]
pub(super) struct Names {
    /// Host of the API.
    pub(super) advertise: String,
    /// Names in the serving certificate.
    pub(super) dns: Vec<String>,
    /// Addresses in the serving certificate.
    pub(super) addresses: Vec<IpAddr>,
    /// `https://HOST:PORT` of the API.
    pub(super) api: String,
    /// `HOST:PORT` of the link.
    pub(super) link: String,
    /// Why others may not reach it like this.
    warning: Option<String>,
}

impl Names {
    pub(super) fn new(options: &ServeOptions) -> Result<Self, ServeError> {
        Self::with(options, outward())
    }

    /// Tells the log that the hub can be reached, and how.
    pub(super) fn log_addresses(&self) {
        if let Some(warning) = &self.warning {
            warn!("{warning}");
        }
        info!(api = self.api, link = self.link, "hub is ready");
    }

    /// What the hub's own registry is called in an `image:`: each of its names, with and without the port.
    pub(super) fn registries(&self, port: u16) -> Vec<String> {
        let addresses = self.addresses.iter().map(|address| in_url(&address.to_string()));
        let names = self.dns.iter().cloned().chain(addresses);
        names.flat_map(|name| [format!("{name}:{port}"), name]).collect()
    }

    /// `outward` is this machine's address towards others, where it has one.
    fn with(options: &ServeOptions, outward: Option<IpAddr>) -> Result<Self, ServeError> {
        let kubernetes = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let mut dns: Vec<String> = kubernetes.map(str::to_owned).to_vec();
        dns.extend(["localhost".to_owned(), freewheel_link::tls::HUB_NAME.to_owned()]);
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), KUBERNETES_SERVICE];
        let own = |listen: SocketAddr| reachable(listen.ip(), outward);
        let (api, link) = match &options.advertise {
            Some(given) => (given.clone(), given.clone()),
            None => (own(options.listen).to_string(), own(options.link).to_string()),
        };
        for host in [&api, &link] {
            match host.parse::<IpAddr>() {
                Ok(address) => addresses.push(address),
                Err(_) if is_dns_name(host) => dns.push(host.clone()),
                Err(_) => return Err(ServeError::Advertise(host.clone())),
            }
        }
        if !options.listen.ip().is_unspecified() {
            addresses.push(options.listen.ip());
        }
        addresses.sort_unstable();
        addresses.dedup();
        // One name may be both the API's and the link's.
        dns.dedup();
        let warning = warning(options, outward);
        let link = format!("{}:{}", in_url(&link), options.link.port());
        let url = format!("https://{}:{}", in_url(&api), options.listen.port());
        Ok(Self { advertise: api, dns, addresses, api: url, link, warning })
    }
}

/// Who tokens of service accounts are from: what was given, if documents can be found below it, or where the API is.
pub(super) fn issuer<'a>(given: Option<&'a str>, api: &'a str) -> Result<&'a str, ServeError> {
    let Some(given) = given else { return Ok(api) };
    let parsed = given.parse::<http::Uri>().ok().filter(|url| url.scheme_str() == Some("https"));
    let host = parsed.as_ref().and_then(http::Uri::host).unwrap_or_default();
    if host.is_empty() || given.ends_with('/') || given.contains(['?', '#', '@']) {
        return Err(ServeError::Issuer(given.to_owned()));
    }
    Ok(given)
}

fn is_dns_name(host: &str) -> bool {
    let label = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
    !host.is_empty() && host.len() <= 253 && host.bytes().all(label)
}

/// As it stands before a port.
fn in_url(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

/// `0.0.0.0` is no address to reach anybody under.
fn reachable(listen: IpAddr, outward: Option<IpAddr>) -> IpAddr {
    if listen.is_unspecified() { outward.unwrap_or(Ipv4Addr::LOCALHOST.into()) } else { listen }
}

/// What to tell somebody who listens everywhere and has not said under which name.
fn warning(options: &ServeOptions, outward: Option<IpAddr>) -> Option<String> {
    let everywhere = [options.listen, options.link].iter().any(|at| at.ip().is_unspecified());
    if options.advertise.is_some() || !everywhere {
        return None;
    }
    Some(match outward {
        Some(address) => format!(
            "no --advertise: spokes and people are told {address}, the address of this machine's default \
             route; give --advertise HOST when they reach it under another"
        ),
        None => {
            "no --advertise, and this machine has no route to others: spokes and people are told \
                 127.0.0.1, which leads each of them to itself; give --advertise HOST"
                .to_owned()
        }
    })
}

/// This machine's address on its default route. A UDP socket that is connected has only asked for the way:
/// nothing is sent. Spokes look for the hub over IPv4, so that comes first.
fn outward() -> Option<IpAddr> {
    let way = |from: IpAddr, to: IpAddr| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        let own = socket.local_addr().ok()?.ip();
        (!own.is_unspecified() && !own.is_loopback()).then_some(own)
    };
    // Addresses for documentation: routed like any other, and nobody's.
    let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    way(Ipv4Addr::UNSPECIFIED.into(), v4.into())
        .or_else(|| way(Ipv6Addr::UNSPECIFIED.into(), v6.into()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    #[test]
    fn documents_are_found_below_an_issuer() {
        let api = "https://hub:6443";
        assert_eq!(issuer(None, api).unwrap(), api);
        for good in
            ["https://a.example", "https://[::1]", "https://[::1]:8443/tokens", "https://1.2.3.4:5"]
        {
            assert_eq!(issuer(Some(good), api).unwrap(), good);
        }
        for bad in [
            "",
            "a",
            "http://a",
            "https://",
            "https://[::1]/",
            "https://a?b",
            "https://a#b",
            "https://b@a",
        ] {
            assert!(issuer(Some(bad), api).is_err(), "{bad}");
        }
    }

    fn names(listen: &str, link: &str, advertise: Option<&str>, outward: Option<&str>) -> Names {
        let fixed = ["hub", "serve", "--data", "/data", "--listen", listen, "--link", link];
        let advertised = advertise.into_iter().flat_map(|name| ["--advertise", name]);
        let cli = Cli::parse_from(fixed.into_iter().chain(advertised));
        let Verb::Serve(options) = cli.verb else { panic!("another verb") };
        Names::with(&options, outward.map(|address| address.parse().unwrap())).unwrap()
    }

    #[test]
    fn who_listens_everywhere_is_reached_on_the_default_route_and_hears_of_the_guess() {
        for (listen, link) in [("0.0.0.0:6443", "0.0.0.0:6444"), ("[::]:6443", "[::]:6444")] {
            let guessed = names(listen, link, None, Some("10.1.2.3"));
            assert_eq!(guessed.api, "https://10.1.2.3:6443");
            assert_eq!(guessed.link, "10.1.2.3:6444");
            assert!(guessed.addresses.contains(&"10.1.2.3".parse().unwrap()));
            let warning = guessed.warning.unwrap();
            assert!(warning.contains("--advertise") && warning.contains("10.1.2.3"), "{warning}");

            let alone = names(listen, link, None, None);
            assert_eq!(alone.link, "127.0.0.1:6444");
            assert!(alone.warning.unwrap().contains("127.0.0.1"));

            let told = names(listen, link, Some("hub.example.com"), Some("10.1.2.3"));
            assert_eq!((&*told.link, told.warning), ("hub.example.com:6444", None));
            assert!(told.dns.contains(&"hub.example.com".to_owned()));
        }
    }

    #[test]
    fn an_address_that_is_listened_on_is_the_one_to_reach() {
        let here = names("127.0.0.1:6443", "127.0.0.1:6444", None, Some("10.1.2.3"));
        assert_eq!((&*here.api, &*here.link), ("https://127.0.0.1:6443", "127.0.0.1:6444"));
        assert_eq!(here.warning, None);
        let registries = here.registries(6443);
        for name in ["127.0.0.1:6443", "localhost:6443", "127.0.0.1"] {
            assert!(registries.contains(&name.to_owned()), "{registries:?}");
        }
        let split = names("127.0.0.1:6443", "0.0.0.0:6444", None, Some("10.1.2.3"));
        assert_eq!((&*split.api, &*split.link), ("https://127.0.0.1:6443", "10.1.2.3:6444"));
        let v6 = names("[fd00::1]:6443", "[fd00::1]:6444", None, None);
        assert_eq!((&*v6.api, &*v6.link), ("https://[fd00::1]:6443", "[fd00::1]:6444"));
    }
}
