//! The node's own address, where its node ports are: followed as interfaces and leases come and go.
//!
//! ```text
//! given ─▶ that one, always
//! else  ─▶ the one that packets to the hub leave from ─▶ of the default route ─▶ the last good one ─▶ 127.0.0.1
//! ```
//!
//! Guarantees:
//! - a hub that is given by its address needs no name server (`a_hub_without_a_name_needs_no_name_server`);
//! - an address that was good once stays until there is another, over restarts, too
//!   (`the_last_good_address_is_kept_and_a_new_one_followed`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::data::write_whole;

/// How often the hub's name is looked up: soon while there is no answer, rarely afterwards.
const LOOKUP_EVERY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// An address outside of every network that exists, to ask the kernel for its default route.
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The hub's address, as the name server said last.
type Hub = watch::Sender<Option<Ipv4Addr>>;

/// The node's own address.
pub(crate) struct Address {
    given: Option<Ipv4Addr>,
    hub: watch::Receiver<Option<Ipv4Addr>>,
    file: PathBuf,
    now: Ipv4Addr,
    /// Looks the hub's name up; ends with this.
    _follow: Option<AbortOnDropHandle<()>>,
}

impl Address {
    /// Follows the interfaces and the hub's name from now on. Call within a tokio runtime.
    pub(crate) fn follow(given: Option<Ipv4Addr>, hub: &str, data: &Path) -> Self {
        let address = of_hub(hub);
        let opened = Self::open(given, &address, data);
        let follow = AbortOnDropHandle::new(tokio::spawn(follow(hub.to_owned(), address)));
        Self { _follow: Some(follow), ..opened }
    }

    /// As far as it is known without waiting.
    fn open(given: Option<Ipv4Addr>, hub: &Hub, data: &Path) -> Self {
        let file = data.join("address");
        let now = last(&file).unwrap_or(Ipv4Addr::LOCALHOST);
        let mut address = Self { given, hub: hub.subscribe(), file, now, _follow: None };
        address.refresh();
        address
    }

    /// What it is.
    pub(crate) const fn now(&self) -> Ipv4Addr {
        self.now
    }

    /// Waits until the hub's name leads to another address.
    pub(crate) async fn hub_moved(&mut self) {
        if self.hub.changed().await.is_err() {
            // Nobody looks up an address that is given.
            std::future::pending::<()>().await;
        }
    }

    /// Looks at the interfaces; whether it has become another.
    pub(crate) fn refresh(&mut self) -> bool {
        let hub = *self.hub.borrow_and_update();
        let found = choose(self.given, hub, source_towards);
        let Some(found) = found.filter(|found| *found != self.now) else { return false };
        info!(from = %self.now, to = %found, "the node's address");
        self.now = found;
        if self.given.is_none()
            && let Err(error) = write_whole(&self.file, found.to_string().as_bytes())
        {
            warn!(%error, "the node's address is not remembered");
        }
        true
    }
}

/// The address that was good last.
fn last(file: &Path) -> Option<Ipv4Addr> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The address, if there is one now.
fn choose(
    given: Option<Ipv4Addr>,
    hub: Option<Ipv4Addr>,
    source: impl Fn(Ipv4Addr) -> Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    given.or_else(|| source(hub?)).or_else(|| source(ANYWHERE))
}

/// The local address that packets to this one would leave from. Sends nothing.
fn source_towards(to: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SocketAddrV4::new(to, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// The hub's address, where it needs no name server.
fn of_hub(hub: &str) -> Hub {
    let known = hub.parse().ok().and_then(|address: SocketAddr| match address.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    watch::Sender::new(known)
}

/// Keeps the hub's address true to its name, beside everything else.
async fn follow(hub: String, address: Hub) {
    if hub.parse::<SocketAddr>().is_ok() {
        return;
    }
    loop {
        let answer = tokio::net::lookup_host(&hub).await.ok().into_iter().flatten();
        let found = answer.filter_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let found = found.into_iter().next();
        let wait = if found.is_some() { LOOKUP_EVERY.1 } else { LOOKUP_EVERY.0 };
        if found.is_some() {
            address.send_if_modified(|known| std::mem::replace(known, found) != found);
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETH: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 7);
    const VPN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const HUB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    #[test]
    fn the_address_is_the_one_towards_the_hub() {
        let both = |to| Some(if to == HUB { VPN } else { ETH });
        assert_eq!(choose(None, Some(HUB), both), Some(VPN));
        assert_eq!(choose(None, None, both), Some(ETH), "no name server, but a network");
        assert_eq!(choose(None, Some(HUB), |_| None), None, "no network");
        assert_eq!(choose(Some(ETH), Some(HUB), both), Some(ETH));
    }

    #[test]
    fn the_last_good_address_is_kept_and_a_new_one_followed() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere: Hub = watch::Sender::new(None);
        std::fs::write(dir.path().join("address"), "192.168.1.7\n").unwrap();
        let mut address = Address::open(None, &nowhere, dir.path());
        // This machine may have a default route or not: what matters is that the hub's counts first.
        let before = address.now();
        assert!(before == ETH || Some(before) == source_towards(ANYWHERE), "{before}");
        nowhere.send_replace(Some(Ipv4Addr::LOCALHOST));
        assert!(address.refresh());
        assert_eq!(address.now(), Ipv4Addr::LOCALHOST);
        assert!(!address.refresh());
        assert_eq!(last(&dir.path().join("address")), Some(Ipv4Addr::LOCALHOST), "the next start");
        let given = Address::open(Some(VPN), &nowhere, dir.path());
        assert_eq!(given.now(), VPN);
    }

    #[test]
    fn a_hub_without_a_name_needs_no_name_server() {
        assert_eq!(*of_hub("10.0.0.1:6444").borrow(), Some(HUB));
        assert_eq!(*of_hub("hub.example:6444").borrow(), None);
    }
}
