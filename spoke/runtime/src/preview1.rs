//! Core programs: modules of WASI preview 1 (wasip1), as C, Go and Python compilers make them, run as they are.
//!
//! Upstream gives them all of preview 1; the calls here stand before its own, where those would take from the host
//! without a bound, say too much in the agent's log, or change an exit code. A program has arguments, an environment,
//! standard output and error, clocks, randomness and the files of its mounts. It has no sockets.
//!
//! What a call makes the host hold for its time: a piece of [`PIECE`] for a read or a write, [`CALL_BYTES`] for paths
//! and lists, 1 MiB of randomness (as components), and the names of a directory, which are on the container's memory.
//!
//! Guarantees:
//! - a program ends with its own code (`core_programs_end_with_their_own_codes`);
//! - its mounts are what it can reach, as they were given (`a_core_program_reaches_its_mounts_and_nothing_else`);
//! - files that it has open count as the pod's, and what is closed is free again
//!   (`a_core_program_that_opens_files_is_told_when_its_pod_has_enough`);
//! - all of preview 1 is given (`all_of_preview_1_is_given`).

use std::sync::Arc;

use freewheel_spoke_engine::PREVIEW_1;
use freewheel_spoke_net::{Account, Full, Held};
use wasmtime::{
    AsContextMut as _, Caller, Engine, Extern, Linker, Result, Store, UpdateDeadline, bail,
};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::types::Errno;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as upstream, WasiSnapshotPreview1 as _};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_async};
use wasmtime_wasi::{I32Exit, WasiCtxBuilder, WasiView as _};
use wiggle::GuestMemory;

use crate::census;
use crate::log::LogSink;
use crate::memory::{Limiter, Memory, Share};
use crate::mounts::Mounts;
use crate::open_files::{self, LISTED};
use crate::state::CALL_BYTES;

/// Most bytes that one call reads or writes; the program hears how many they were, and goes on.
const PIECE: u32 = 1 << 20;

/// Most that one call waits for: each may read ahead of the program.
const MOST_WAITED_FOR: i32 = 256;

/// Handles of one program: its files, and what a call waits for.
const MAX_HANDLES: usize = 4096;

/// The program's number for its first mount, and the bytes that say that it is one.
const FIRST_MOUNT: i32 = 3;
const PRESTAT: usize = 8;

/// What a core program's store is made of.
pub(crate) struct CoreWorld<'a> {
    pub(crate) wasi: WasiCtxBuilder,
    pub(crate) mounts: &'a Mounts,
    /// The pod's open files.
    pub(crate) files: &'a Arc<Account>,
    pub(crate) memory: &'a Arc<Memory>,
    pub(crate) log: LogSink,
    /// Place for what is in `wasi`.
    pub(crate) given: Share,
}

/// What a core program's store holds.
pub(crate) struct Core {
    wasi: WasiP1Ctx,
    limiter: Limiter,
    handles: Share,
    /// Names of the directory that is being read.
    names: Share,
    open: Held,
    /// Its mounts, which are open for as long as it runs.
    mounts: usize,
    log: LogSink,
    told: bool,
    _given: Share,
}

impl Core {
    /// A store for one run, interrupted by the ticker.
    pub(crate) fn store(engine: &Engine, world: CoreWorld<'_>) -> Result<Store<Self>> {
        let CoreWorld { mut wasi, mounts, files, memory, log, given } = world;
        let Ok(open) = files.take(mounts.count()) else { bail!("too many open files") };
        mounts.preopen(&mut wasi)?;
        let mut wasi = wasi.build_p1();
        wasi.ctx().table.set_max_capacity(MAX_HANDLES);
        // Upstream makes its handles of the mounts at the first call that asks for one; here they count from the start.
        let mut place = [0; PRESTAT];
        upstream::fd_prestat_get(
            &mut wasi,
            &mut GuestMemory::Unshared(&mut place),
            FIRST_MOUNT,
            0,
        )?;
        let core = Self {
            wasi,
            limiter: Limiter::new(memory),
            handles: memory.share(),
            names: memory.share(),
            open,
            mounts: mounts.count(),
            log,
            told: false,
            _given: given,
        };
        let mut store = Store::new(engine, core);
        store.limiter(|core| &mut core.limiter);
        store.set_hostcall_fuel(CALL_BYTES);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().count_handles()?;
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_epoch_deadline(1);
        Ok(store)
    }

    fn count_handles(&mut self) -> Result<(), Full> {
        self.handles.set(census::held(self.wasi.ctx().table))
    }

    /// Books the files that it has open, and `more`; whether it may have them.
    ///
    /// A mount counts once for itself and once for the program's handle of it, which it may close.
    fn book(&mut self, more: usize) -> bool {
        let table = self.wasi.ctx().table;
        let open = table.iter_mut().filter(|entry| entry.is::<Descriptor>()).count();
        match self.open.set(self.mounts + open + more) {
            Ok(()) => true,
            Err(full) => {
                if !std::mem::replace(&mut self.told, true) {
                    open_files::tell(&self.log, &full);
                }
                false
            }
        }
    }

    /// Bytes on the disk of the largest directory that it has open.
    fn largest_directory(&mut self) -> u64 {
        let open = self.wasi.ctx().table.iter_mut();
        let sizes = open.filter_map(|entry| match entry.downcast_ref()? {
            Descriptor::Dir(dir) => Some(dir.dir.metadata().map_or(0, |found| found.len())),
            Descriptor::File(_) => None,
        });
        sizes.max().unwrap_or(0)
    }
}

/// An answer to the program.
const fn says(error: Errno) -> i32 {
    error as i32
}

/// The program's memory, and its store.
fn parts<'a>(caller: &'a mut Caller<'_, Core>) -> Result<(&'a mut [u8], &'a mut Core)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        bail!("the module exports no memory")
    };
    let (bytes, core) = memory.data_and_store_mut(caller.as_context_mut());
    core.wasi.set_hostcall_fuel(CALL_BYTES);
    Ok((bytes, core))
}

/// All that core programs are given.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<Core>> {
    let mut linker = Linker::new(engine);
    add_to_linker_async(&mut linker, |core: &mut Core| &mut core.wasi)?;
    linker.allow_shadowing(true);
    ends(&mut linker)?;
    sockets(&mut linker)?;
    files(&mut linker)?;
    bytes(&mut linker)?;
    lists(&mut linker)?;
    Ok(linker)
}

/// Upstream takes codes from 126 on for a fault of the program's.
fn ends(linker: &mut Linker<Core>) -> Result<()> {
    linker.func_wrap(PREVIEW_1, "proc_exit", |code: i32| -> Result<()> {
        Err(I32Exit(code & 0xff).into())
    })?;
    Ok(())
}

/// Nothing of its own is a socket. Upstream says the same, and a line in the agent's log with it.
fn sockets(linker: &mut Linker<Core>) -> Result<()> {
    let none = says(Errno::Notsock);
    linker.func_wrap(PREVIEW_1, "sock_accept", move |_: i32, _: i32, _: i32| none)?;
    linker.func_wrap(
        PREVIEW_1,
        "sock_recv",
        move |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32| none,
    )?;
    linker.func_wrap(PREVIEW_1, "sock_send", move |_: i32, _: i32, _: i32, _: i32, _: i32| none)?;
    linker.func_wrap(PREVIEW_1, "sock_shutdown", move |_: i32, _: i32| none)?;
    Ok(())
}

type PathOpen = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

fn files(linker: &mut Linker<Core>) -> Result<()> {
    linker.func_wrap_async(
        PREVIEW_1,
        "path_open",
        |mut caller: Caller<'_, Core>,
         (dir, look, path, len, open, base, inherit, flags, to): PathOpen| {
            Box::new(async move {
                let (bytes, core) = parts(&mut caller)?;
                if !core.book(1) {
                    return Ok(says(Errno::Mfile));
                }
                let mut memory = GuestMemory::Unshared(bytes);
                let said = upstream::path_open(
                    &mut core.wasi,
                    &mut memory,
                    dir,
                    look,
                    path,
                    len,
                    open,
                    base,
                    inherit,
                    flags,
                    to,
                );
                let said = said.await;
                core.book(0);
                said
            })
        },
    )?;
    linker.func_wrap_async(
        PREVIEW_1,
        "fd_close",
        |mut caller: Caller<'_, Core>, (file,): (i32,)| {
            Box::new(async move {
                let (bytes, core) = parts(&mut caller)?;
                let mut memory = GuestMemory::Unshared(bytes);
                let said = upstream::fd_close(&mut core.wasi, &mut memory, file).await;
                core.book(0);
                said
            })
        },
    )?;
    linker.func_wrap_async(
        PREVIEW_1,
        "fd_renumber",
        |mut caller: Caller<'_, Core>, (from, to): (i32, i32)| {
            Box::new(async move {
                let (bytes, core) = parts(&mut caller)?;
                let mut memory = GuestMemory::Unshared(bytes);
                let said = upstream::fd_renumber(&mut core.wasi, &mut memory, from, to).await;
                core.book(0);
                said
            })
        },
    )?;
    Ok(())
}

/// The first buffer of a list that is not empty, if it is too long: where its length stands, and the length.
///
/// Upstream takes this buffer and no other, and copies it.
fn too_long(bytes: &[u8], list: i32, count: i32) -> Option<(usize, [u8; 4])> {
    let (list, count) = (list.cast_unsigned() as usize, count.cast_unsigned() as usize);
    let buffers = bytes.get(list..)?.chunks_exact(8).take(count.min(CALL_BYTES / 8));
    for (at, buffer) in buffers.enumerate() {
        let &[_, _, _, _, a, b, c, d] = buffer else { return None };
        let len = u32::from_le_bytes([a, b, c, d]);
        if len != 0 {
            return (PIECE < len).then_some((list + at * 8 + 4, [a, b, c, d]));
        }
    }
    None
}

fn put(bytes: &mut [u8], at: usize, length: [u8; 4]) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&length);
    }
}

/// A call that sees at most [`PIECE`] of a buffer: the length in the program's list is a smaller one for as long.
macro_rules! in_pieces {
    ($linker:ident, $name:ident, $($more:ident: $type:ty),*) => {
        $linker.func_wrap_async(
            PREVIEW_1,
            stringify!($name),
            |mut caller: Caller<'_, Core>,
             (file, list, count, $($more),*): (i32, i32, i32, $($type),*)| {
                Box::new(async move {
                    let (bytes, core) = parts(&mut caller)?;
                    let long = too_long(bytes, list, count);
                    if let Some((at, _)) = long {
                        put(bytes, at, PIECE.to_le_bytes());
                    }
                    let mut memory = GuestMemory::Unshared(&mut *bytes);
                    let said =
                        upstream::$name(&mut core.wasi, &mut memory, file, list, count, $($more),*)
                            .await;
                    if let Some((at, length)) = long {
                        put(bytes, at, length);
                    }
                    said
                })
            },
        )?;
    };
}

fn bytes(linker: &mut Linker<Core>) -> Result<()> {
    in_pieces!(linker, fd_read, done: i32);
    in_pieces!(linker, fd_pread, offset: i64, done: i32);
    in_pieces!(linker, fd_write, done: i32);
    in_pieces!(linker, fd_pwrite, offset: i64, done: i32);
    Ok(())
}

fn lists(linker: &mut Linker<Core>) -> Result<()> {
    linker.func_wrap_async(
        PREVIEW_1,
        "fd_readdir",
        |mut caller: Caller<'_, Core>, (dir, to, len, from, done): (i32, i32, i32, i64, i32)| {
            Box::new(async move {
                let (bytes, core) = parts(&mut caller)?;
                // Upstream reads all of it, makes a second list of that, and answers from where it was asked.
                let most = core.largest_directory().saturating_mul(2 * LISTED);
                if !core.names.fits(usize::try_from(most).unwrap_or(usize::MAX)) {
                    return Ok(says(Errno::Nomem));
                }
                let mut memory = GuestMemory::Unshared(bytes);
                let said =
                    upstream::fd_readdir(&mut core.wasi, &mut memory, dir, to, len, from, done);
                let said = said.await;
                core.names.fits(0);
                said
            })
        },
    )?;
    linker.func_wrap_async(
        PREVIEW_1,
        "path_unlink_file",
        |mut caller: Caller<'_, Core>, (dir, path, len): (i32, i32, i32)| {
            Box::new(async move {
                // The one path that upstream copies however long it is.
                if CALL_BYTES < len.cast_unsigned() as usize {
                    return Ok(says(Errno::Nametoolong));
                }
                let (bytes, core) = parts(&mut caller)?;
                let mut memory = GuestMemory::Unshared(bytes);
                upstream::path_unlink_file(&mut core.wasi, &mut memory, dir, path, len).await
            })
        },
    )?;
    linker.func_wrap_async(
        PREVIEW_1,
        "poll_oneoff",
        |mut caller: Caller<'_, Core>, (list, events, count, done): (i32, i32, i32, i32)| {
            Box::new(async move {
                if !(0..=MOST_WAITED_FOR).contains(&count) {
                    return Ok(says(Errno::Inval));
                }
                let (bytes, core) = parts(&mut caller)?;
                let mut memory = GuestMemory::Unshared(bytes);
                upstream::poll_oneoff(&mut core.wasi, &mut memory, list, events, count, done).await
            })
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_preview_1_is_given() {
        let linker = linker(&Engine::default()).unwrap();
        for name in freewheel_spoke_engine::preview_1() {
            let text = format!(r#"(module (import "{PREVIEW_1}" "{name}" (func)))"#);
            let module = wat::parse_str(text).unwrap();
            let module = wasmtime::Module::new(linker.engine(), module).unwrap();
            // Most have parameters: then it is the type that does not fit.
            let outcome = linker.instantiate_pre(&module).map(|_| ());
            let text = outcome.map_err(|error| format!("{error:#}")).err().unwrap_or_default();
            assert!(!text.contains("unknown import"), "{name}: {text}");
        }
    }

    #[test]
    fn a_buffer_that_is_too_long_is_found() {
        let list = |lengths: &[u32]| -> Vec<u8> {
            let pairs = lengths.iter().flat_map(|len| [7, *len]);
            [0; 4].into_iter().chain(pairs.flat_map(u32::to_le_bytes)).collect()
        };
        let found = |lengths: &[u32], count| too_long(&list(lengths), 4, count).map(|(at, _)| at);
        assert_eq!(found(&[0, PIECE + 1, 9], 3), Some(4 + 12));
        assert_eq!(found(&[0, PIECE, PIECE + 1], 3), None, "upstream takes the first and no other");
        assert_eq!(found(&[0, PIECE + 1], 1), None);
        assert_eq!(found(&[0, 0], -1), None);
        assert_eq!(too_long(&[], 4, 1), None);
    }
}
