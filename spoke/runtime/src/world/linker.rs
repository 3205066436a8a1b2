//! What a module may import: WASI 0.2 interface by interface, with our own sockets.
//!
//! The list is ours on purpose: an interface that upstream adds is given to guests by a line here, not by an
//! upgrade.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime::{Engine, Result};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi_io::bindings::wasi::io;

use super::file_view::HasFileView;
use super::mounts::HasMounts;
use super::store_data::StoreData;
use super::{fields, files, lifecycle, requests, sockets, splice};

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Everything that pods are given. Commands may make HTTP requests and handlers may open sockets, so both
/// kinds get the same.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<StoreData>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    io::error::add_to_linker::<StoreData, HasTable>(l, StoreData::table)?;
    io::poll::add_to_linker::<StoreData, HasTable>(l, StoreData::table)?;
    io::streams::add_to_linker::<StoreData, HasTable>(l, StoreData::table)?;
    clocks::wall_clock::add_to_linker::<StoreData, WasiClocks>(l, StoreData::clocks)?;
    clocks::monotonic_clock::add_to_linker::<StoreData, WasiClocks>(l, StoreData::clocks)?;
    filesystem::types::add_to_linker::<StoreData, HasFileView>(l, files::file_view)?;
    filesystem::preopens::add_to_linker::<StoreData, HasMounts>(l, StoreData::mounts)?;
    random::random::add_to_linker::<StoreData, WasiRandom>(l, StoreData::random)?;
    random::insecure::add_to_linker::<StoreData, WasiRandom>(l, StoreData::random)?;
    random::insecure_seed::add_to_linker::<StoreData, WasiRandom>(l, StoreData::random)?;
    cli::exit::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    cli::environment::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    cli::stdin::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    cli::stdout::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    cli::stderr::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    cli::terminal_input::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    cli::terminal_output::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    cli::terminal_stdin::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    cli::terminal_stdout::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    cli::terminal_stderr::add_to_linker::<StoreData, WasiCli>(l, StoreData::cli)?;
    sockets::add_to_linker(l)?;
    lifecycle::add_to_linker(l)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    l.allow_shadowing(true);
    fields::add_to_linker(l)?;
    requests::add_to_linker(l)?;
    files::add_to_linker(l)?;
    splice::add_to_linker(l)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;

    use super::*;

    #[test]
    fn what_the_hub_takes_at_push_is_given() {
        let engine = Engine::default();
        let linker = linker(&engine).unwrap();
        let mut names = 0;
        for (interface, version) in freewheel_spoke_engine::given() {
            let text = format!(r#"(component (import "{interface}@{version}.0" (instance)))"#);
            let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
            let linked = linker.instantiate_pre(&component);
            assert!(linked.is_ok(), "{interface}: {:?}", linked.err());
            names += 1;
        }
        // As many as `linker` adds: whoever adds one there has to tell the hub.
        assert_eq!(names, 20 + 7 + 1 + 2);
    }
}
