//! `freewheel:lifecycle`: how a guest hears its stop, and ends with a code of its own.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use crate::life::Life;

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
pub(crate) struct LifeView<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) life: &'a Arc<Life>,
}

/// A store's data with a life in it.
pub(crate) trait HasLife: Send {
    /// The view for one call.
    fn life(&mut self) -> LifeView<'_>;
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = LifeView<'a>;
}

/// Gives the guest `freewheel:lifecycle`.
pub(crate) fn add_to_linker<T: HasLife + 'static>(l: &mut Linker<T>) -> wasmtime::Result<()> {
    lifecycle::add_to_linker::<T, HasView>(l, T::life)
}

struct Stop(Arc<Life>);

#[async_trait::async_trait]
impl Pollable for Stop {
    async fn ready(&mut self) {
        self.0.stopping().cancelled().await;
    }
}

impl Host for LifeView<'_> {
    fn on_terminate(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let stop = self.table.push(Stop(self.life.clone()))?;
        subscribe(self.table, stop)
    }

    fn terminating(&mut self) -> wasmtime::Result<Option<u64>> {
        let left = self.life.left();
        Ok(left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
    }

    fn exit(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(wasmtime::format_err!(I32Exit(code.into())))
    }
}
