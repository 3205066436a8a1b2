//! The way to a Service: to the endpoint whose turn it is, and to another one when no way leads there.
//!
//! Pods on other nodes are reached through the hub. While it is away, or their node is, a Service still has
//! the pods that are here.
//!
//! Guarantees: a client's bytes go to one endpoint and to no other; an endpoint that was not reached is left
//! alone for a while, so that only the first client waits for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::plan::Protocol;

use crate::conn::{Conn, Side};
use crate::error::NetError;
use crate::pod::Connecting;
use crate::realm::{CONNECT_TIMEOUT, Realm};
use crate::service::Service;

/// How long an endpoint on another node is waited for while there are others: two round trips of a slow link.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many endpoints on other nodes are tried for one client.
const MOST_TRIES: usize = 3;

impl Realm {
    /// Connects a client to a port of a Service. `seen` is what the client believes it talks to: the Service, or the
    /// endpoint itself.
    pub(crate) fn connect_service(
        self: &Arc<Self>,
        service: Arc<Service>,
        port: u16,
        client: Side,
        seen: Option<SocketAddr>,
    ) -> Connecting {
        match service.pick(Protocol::Tcp, port, client.address.ip()) {
            Err(error) => Connecting::Now(Err(error)),
            Ok(first) if self.pod_at(first.ip()).is_some() || !self.leads_to(first.ip()) => {
                self.connect_pod(client, seen.unwrap_or(first), first)
            }
            Ok(first) => {
                let realm = self.clone();
                Connecting::Later(Box::pin(async move {
                    realm.reach(&service, port, client, seen, first).await
                }))
            }
        }
    }

    async fn reach(
        self: &Arc<Self>,
        service: &Service,
        port: u16,
        client: Side,
        seen: Option<SocketAddr>,
        first: SocketAddr,
    ) -> Result<Conn, NetError> {
        let ready = service.ready(Protocol::Tcp, port);
        let wait = if ready.len() == 1 { CONNECT_TIMEOUT } else { PATIENCE };
        let mut endpoint = first;
        let mut outcome = Err(NetError::Unreachable);
        for _ in 0..MOST_TRIES {
            outcome = self.dial(client.address, endpoint, wait).await;
            if !matches!(outcome, Err(NetError::Unreachable | NetError::Timeout)) {
                break;
            }
            service.missed(endpoint);
            if let Some(here) = ready.iter().find(|ready| self.pod_at(ready.ip()).is_some()) {
                return self.connect_pod(client, seen.unwrap_or(*here), *here).done().await;
            }
            let next = service.pick(Protocol::Tcp, port, client.address.ip())?;
            if next == endpoint {
                break;
            }
            endpoint = next;
        }
        Ok(self.join(client, seen.unwrap_or(endpoint), endpoint, outcome?))
    }
}
