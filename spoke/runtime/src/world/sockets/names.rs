//! `wasi:sockets/ip-name-lookup`: the cluster's names, as the pod sees them.

use std::net::IpAddr;

use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::ip_name_lookup as wit;
use super::{ErrorCode, IpAddress, NetView, Network, SocketResult, from_ip};

/// Addresses that were found, and how many of them were taken.
pub struct Addresses {
    found: Box<[IpAddr]>,
    taken: usize,
}

impl Addresses {
    pub(crate) fn new(found: Vec<IpAddr>) -> Self {
        Self { found: found.into(), taken: 0 }
    }

    /// What is held for them, whoever has taken them: a Service without an address of its own may have thousands.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.found)
    }

    pub(crate) fn take(&mut self) -> Option<IpAddr> {
        let next = self.found.get(self.taken).copied()?;
        self.taken += 1;
        Some(next)
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
        let addresses = Addresses::new(found);
        // Now, and not at the next tick: until then the guest may long sleep.
        if !self.handles.fits(self.handles.bytes() + addresses.bytes()) {
            return Err(ErrorCode::OutOfMemory.into());
        }
        Ok(self.table.push(addresses)?)
    }
}

impl wit::HostResolveAddressStream for NetView<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<Addresses>,
    ) -> SocketResult<Option<IpAddress>> {
        Ok(self.table.get_mut(&this)?.take().map(from_ip))
    }

    fn subscribe(&mut self, this: Resource<Addresses>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
