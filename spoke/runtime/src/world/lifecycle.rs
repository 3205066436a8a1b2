//! `freewheel:lifecycle`: how a guest hears its stop, and ends with a code of its own.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use crate::shutdown::Shutdown;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/lifecycle",
        world: "freewheel:lifecycle/guest",
        imports: { default: trappable },
        with: { "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll },
        require_store_data_send: true,
    });
}

use bindings::freewheel::lifecycle::lifecycle::{self, Host};

/// What the calls work on.
pub(crate) struct ShutdownView<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) shutdown: &'a Arc<Shutdown>,
}

/// A store's data with a life in it.
pub(crate) trait HasShutdown: Send {
    /// The view for one call.
    fn shutdown(&mut self) -> ShutdownView<'_>;
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = ShutdownView<'a>;
}

/// Gives the guest `freewheel:lifecycle`.
pub(crate) fn add_to_linker<T: HasShutdown + 'static>(l: &mut Linker<T>) -> wasmtime::Result<()> {
    lifecycle::add_to_linker::<T, HasView>(l, T::shutdown)
}

struct Stop(Arc<Shutdown>);

#[async_trait::async_trait]
impl Pollable for Stop {
    async fn ready(&mut self) {
        self.0.stopping().cancelled().await;
    }
}

impl Host for ShutdownView<'_> {
    fn on_terminate(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        self.shutdown.hears();
        let stop = self.table.push(Stop(self.shutdown.clone()))?;
        subscribe(self.table, stop)
    }

    fn terminating(&mut self) -> wasmtime::Result<Option<u64>> {
        self.shutdown.hears();
        let left = self.shutdown.left();
        Ok(left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
    }

    fn exit(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(wasmtime::format_err!(I32Exit(code.into())))
    }
}
