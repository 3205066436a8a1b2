//! `wasi:sockets/ip-name-lookup`: the cluster's names, as the pod sees them.

use std::net::IpAddr;

use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::ip_name_lookup as wit;
use super::{IpAddress, NetView, Network, SocketResult, from_ip};

/// Addresses that were found and not yet taken.
pub struct Addresses(std::vec::IntoIter<IpAddr>);

impl Addresses {
    /// What is held for them: a Service without an address of its own may have thousands.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len() * size_of::<IpAddr>()
    }
}

#[async_trait::async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {}
}

impl wit::Host for NetView<'_> {
    fn resolve_addresses(
        &mut self,
        _network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<Addresses>> {
        let found = self.pod.resolve(&name)?;
        Ok(self.table.push(Addresses(found.into_iter()))?)
    }
}

impl wit::HostResolveAddressStream for NetView<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<Addresses>,
    ) -> SocketResult<Option<IpAddress>> {
        Ok(self.table.get_mut(&this)?.0.next().map(from_ip))
    }

    fn subscribe(&mut self, this: Resource<Addresses>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
