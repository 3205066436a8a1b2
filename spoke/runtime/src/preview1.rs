//! Core programs: modules of WASI preview 1 (wasip1), as C, Go and Python compilers make them, run as they are.
//!
//! Upstream gives them all of preview 1; the calls here stand before its own, where those would take from the host
//! without a bound, say too much in the agent's log, or change an exit code. A program has arguments, an environment,
//! standard output and error, clocks, randomness and the files of its mounts. It has no sockets, and nothing tells it that
//! it is stopped.
//!
//! What a call makes the host hold is on the container's memory: a piece of [`CALL_PIECE_BYTES_MAX`] of a read or a
//! write, the names of a directory and what it waits for when it is called, two paths of [`PATH_BYTES_MAX`] bytes or a
//! piece of randomness from the start.
//!
//! Guarantees:
//! - a program ends with its own code (`core_programs_end_with_their_own_codes`);
//! - one that is stopped may finish within its grace period, with its own code
//!   (`a_core_program_that_is_stopped_may_finish_and_its_own_code_counts`), and is killed then, not before
//!   (`a_core_program_is_killed_when_its_grace_is_over_and_not_before`);
//! - its mounts are what it can reach (`a_core_program_reaches_its_mounts_and_nothing_else`,
//!   `no_path_leads_out_of_a_directory_that_was_opened`), as they were given
//!   (`a_core_program_has_the_directory_that_was_opened_whatever_stands_at_its_path`,
//!   `a_read_only_mount_stays_as_it_is_whatever_is_called`);
//! - files that it has open count as the pod's, and what is closed is free again
//!   (`a_core_program_that_opens_files_is_told_when_its_pod_has_enough`,
//!   `each_mount_counts_as_the_descriptors_that_it_has`), and neighbours have theirs
//!   (`a_core_program_that_opens_files_leaves_its_neighbours_some`);
//! - what a call holds is on its memory (`the_names_of_a_large_directory_are_on_the_programs_memory`,
//!   `a_read_is_of_what_the_programs_memory_holds`, `what_a_program_waits_for_is_on_its_memory`), and a path has an end
//!   (`a_path_beyond_all_is_refused`);
//! - a single file of a volume is read and not changed (`a_core_program_reads_a_single_file_and_changes_nothing`);
//! - what a program waits for takes the threads of its pod's files and no others
//!   (`a_program_that_waits_for_a_file_needs_no_thread_but_its_pods`);
//! - all of preview 1 is given, with its types (`all_of_preview_1_is_given`);
//! - a call says nothing to a log that [`QUIET`] filters (`what_upstream_says_of_each_call_is_what_is_kept_quiet`).

mod poll;

use std::any::Any;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use freewheel_spoke_account::{Full, Held, MemoryAccount};
use freewheel_spoke_engine::PREVIEW_1;
use freewheel_spoke_logs::LogSink;
use freewheel_spoke_net::FILES_LEAST;
use tokio::runtime::Handle;
use wasmtime::{
    AsContextMut as _, Caller, Engine, Extern, Linker, Result, Store, UpdateDeadline, bail,
};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::types::{Errno, Filetype};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as upstream, WasiSnapshotPreview1 as _};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_async};
use wasmtime_wasi::{I32Exit, WasiCtxBuilder, WasiView as _};
use wiggle::GuestMemory;

use self::poll::{Asked, SUBSCRIPTION_BYTES};
use crate::file_calls::{FileCalls, within};
use crate::memory::{ContainerMemory, Limiter, Share};
use crate::world::{
    self, CALL_BYTES_MAX, HandleCount, LISTED_BYTES_PER_NAME_BYTE, Mounts, PATH_BYTES_MAX,
    RANDOM_BYTES_PER_CALL_MAX,
};

/// What a log's filter has to say so that calls cost what they do and no more: upstream opens a span of level INFO for
/// each of them, with all that it was called with written out.
pub const QUIET: &str = "wasmtime_wasi=warn";

/// Most bytes that one call reads or writes; the program hears how many they were, and goes on.
const CALL_PIECE_BYTES_MAX: u32 = 1 << 20;

/// What it is where the container's memory has no room for more.
const CALL_PIECE_BYTES_MIN: u32 = 64 << 10;

/// Most that one call waits for: each may read ahead of the program.
const SUBSCRIPTIONS_MAX: usize = 256;

/// Bytes of randomness that are made at a time.
const RANDOM_PIECE_BYTES: u32 = 8 << 10;

/// Most that any call holds which does not say so when it is called.
pub(crate) const CALL_BYTES: usize = 2 * PATH_BYTES_MAX;
const _: () =
    assert!(RANDOM_PIECE_BYTES as usize <= CALL_BYTES, "what is given is enough for either");

/// Handles of one program: its files, and what a call waits for.
const HANDLES_MAX: usize = 4096;

/// The program's number for its first mount, and the bytes that say that it is one.
const FIRST_MOUNT: i32 = 3;

/// Upstream asks for alignment in this process's memory, which a plain array of bytes may have or not.
#[repr(align(8))]
#[derive(Default)]
struct Prestat([u8; 8]);

/// What a core program's store is made of.
pub(crate) struct CoreWorld<'a> {
    pub(crate) wasi: WasiCtxBuilder,
    pub(crate) mounts: &'a Mounts,
    /// The pod's open files, and who looks at them.
    pub(crate) files: &'a Arc<MemoryAccount>,
    pub(crate) calls: &'a Arc<FileCalls>,
    pub(crate) memory: &'a Arc<ContainerMemory>,
    pub(crate) log: LogSink,
    /// Where what it waits for is timed: its files' threads have no timers.
    pub(crate) timers: Handle,
    /// Place for what is in `wasi`.
    pub(crate) given: Share,
    /// Mappings of its stack, memories and tables.
    pub(crate) mappings: Held,
}

/// What a core program's store holds.
pub(crate) struct Core {
    wasi: WasiP1Ctx,
    limiter: Limiter,
    handles: HandleCount,
    /// What the call holds that is under way.
    call: Share,
    open: Held,
    calls: Arc<FileCalls>,
    /// Its mounts, which are open for as long as it runs.
    mounts: Vec<RawFd>,
    log: LogSink,
    is_full_logged: bool,
    timers: Handle,
    _given: Share,
    _mappings: Held,
}

impl Core {
    /// A store for one run, interrupted by the ticker.
    pub(crate) fn store(engine: &Engine, world: CoreWorld<'_>) -> Result<Store<Self>> {
        let CoreWorld { mut wasi, mounts, files, calls, memory, log, .. } = world;
        let CoreWorld { timers, given, mappings: mapped, .. } = world;
        let Ok(open) = files.take_share(mounts.count(), FILES_LEAST) else {
            bail!("too many open files")
        };
        mounts.preopen(&mut wasi)?;
        let mut wasi = wasi.build_p1();
        wasi.ctx().table.set_max_capacity(HANDLES_MAX);
        // Upstream makes its handles of the mounts at the first call that asks for one; here they count from the start.
        let mut place = Prestat::default();
        let mut place = GuestMemory::Unshared(&mut place.0);
        upstream::fd_prestat_get(&mut wasi, &mut place, FIRST_MOUNT, 0)?;
        let mounts = wasi.ctx().table.iter_mut().filter_map(|entry| descriptor(entry)).collect();
        let core = Self {
            wasi,
            limiter: Limiter::new(memory),
            handles: HandleCount::new(memory.share()),
            call: memory.share(),
            open,
            calls: calls.clone(),
            mounts,
            log,
            is_full_logged: false,
            timers,
            _given: given,
            _mappings: mapped,
        };
        let mut store = Store::new(engine, core);
        store.limiter_async(|core| &mut core.limiter);
        // What the calls that are all upstream's may take.
        store.set_hostcall_fuel(CALL_BYTES);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().count_handles()?;
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_epoch_deadline(1);
        Ok(store)
    }

    fn count_handles(&mut self) -> Result<(), Full> {
        self.handles.count(self.wasi.ctx().table)
    }

    /// Books the files that it has open, and `more`; whether it may have them.
    ///
    /// A mount counts for as long as it runs: it may close its handle of it, but not the mount.
    fn book(&mut self, more: usize) -> bool {
        let open = self.wasi.ctx().table.iter_mut().filter_map(|entry| descriptor(entry));
        let open = open.filter(|open| !self.mounts.contains(open)).count();
        match self.open.set_share(self.mounts.len() + open + more, FILES_LEAST) {
            Ok(()) => true,
            Err(full) => {
                if !std::mem::replace(&mut self.is_full_logged, true) {
                    world::tell(&self.log, &full);
                }
                false
            }
        }
    }

    /// Most bytes that a call may make the host hold for the names of this directory.
    async fn names(&mut self, memory: &mut GuestMemory<'_>, dir: i32) -> usize {
        match self.wasi.fd_filestat_get(memory, dir.into()).await {
            Ok(found) if found.filetype == Filetype::Directory => {
                // Upstream reads all of it, makes a second list of that, and answers from where it was asked.
                usize::try_from(found.size.saturating_mul(2 * LISTED_BYTES_PER_NAME_BYTE))
                    .unwrap_or(usize::MAX)
            }
            // What is no directory has its own answer.
            _ => 0,
        }
    }

    /// Makes the first buffer of a list as short as may be held, and books it: where its length stood and was, if that
    /// changed; `None`: there is no memory for any of it.
    fn shorten(
        &mut self,
        bytes: &mut [u8],
        list: i32,
        count: i32,
    ) -> Option<Option<(usize, [u8; 4])>> {
        let Some((at, length)) = first_buffer(bytes, list, count) else { return Some(None) };
        let len = u32::from_le_bytes(length);
        let piece =
            [CALL_PIECE_BYTES_MAX, CALL_PIECE_BYTES_MIN].into_iter().map(|most| len.min(most));
        let piece = piece.into_iter().find(|piece| self.call.fits(*piece as usize))?;
        if piece == len {
            return Some(None);
        }
        put(bytes, at, piece.to_le_bytes());
        Some(Some((at, length)))
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // A call that waits for its thread has some of them.
        self.calls.let_go(self.open.take_all());
    }
}

/// Of a handle, if it is a file or a directory.
fn descriptor(entry: &dyn Any) -> Option<RawFd> {
    Some(match entry.downcast_ref()? {
        Descriptor::File(file) => file.file.as_raw_fd(),
        Descriptor::Dir(dir) => dir.dir.as_raw_fd(),
    })
}

/// An answer to the program.
const fn errno(error: Errno) -> i32 {
    error as i32
}

/// The program's memory, and its store.
fn parts<'a>(caller: &'a mut Caller<'_, Core>) -> Result<(&'a mut [u8], &'a mut Core)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        bail!("the module exports no memory")
    };
    let (bytes, core) = memory.data_and_store_mut(caller.as_context_mut());
    core.wasi.set_hostcall_fuel(CALL_BYTES_MAX);
    Ok((bytes, core))
}

/// All that core programs are given.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<Core>> {
    let mut linker = Linker::new(engine);
    add_to_linker_async(&mut linker, |core: &mut Core| &mut core.wasi)?;
    linker.allow_shadowing(true);
    ends(&mut linker)?;
    sockets(&mut linker)?;
    opens(&mut linker)?;
    closes(&mut linker)?;
    bytes(&mut linker)?;
    lists(&mut linker)?;
    waits(&mut linker)?;
    randomness(&mut linker)?;
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
    let none = errno(Errno::Notsock);
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

/// A file that is opened takes a handle.
fn opens(linker: &mut Linker<Core>) -> Result<()> {
    linker.func_wrap_async(
        PREVIEW_1,
        "path_open",
        |mut caller: Caller<'_, Core>,
         (dir, look, path, len, open, base, inherit, flags, to): PathOpen| {
            Box::new(async move {
                if is_too_long(len) {
                    return Ok(errno(Errno::Nametoolong));
                }
                let (bytes, core) = parts(&mut caller)?;
                if !core.book(1) {
                    return Ok(errno(Errno::Mfile));
                }
                let mut memory = GuestMemory::Unshared(bytes);
                let outcome = upstream::path_open(
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
                let outcome = outcome.await;
                core.book(0);
                outcome
            })
        },
    )?;
    Ok(())
}

/// One that is closed, or takes another's number, gives one back.
fn closes(linker: &mut Linker<Core>) -> Result<()> {
    linker.func_wrap_async(
        PREVIEW_1,
        "fd_close",
        |mut caller: Caller<'_, Core>, (file,): (i32,)| {
            Box::new(async move {
                let (bytes, core) = parts(&mut caller)?;
                let mut memory = GuestMemory::Unshared(bytes);
                let outcome = upstream::fd_close(&mut core.wasi, &mut memory, file).await;
                core.book(0);
                outcome
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
                let outcome = upstream::fd_renumber(&mut core.wasi, &mut memory, from, to).await;
                core.book(0);
                outcome
            })
        },
    )?;
    Ok(())
}

const fn is_too_long(path: i32) -> bool {
    PATH_BYTES_MAX < path.cast_unsigned() as usize
}

/// The first buffer of a list that is not empty: where its length stands, and the length.
///
/// Upstream takes this buffer and no other, and copies it.
fn first_buffer(bytes: &[u8], list: i32, count: i32) -> Option<(usize, [u8; 4])> {
    let (list, count) = (list.cast_unsigned() as usize, count.cast_unsigned() as usize);
    let buffers = bytes.get(list..)?.chunks_exact(8).take(count.min(CALL_BYTES_MAX / 8));
    for (at, buffer) in buffers.enumerate() {
        let &[_, _, _, _, a, b, c, d] = buffer else { return None };
        if [a, b, c, d] != [0; 4] {
            return Some((list + at * 8 + 4, [a, b, c, d]));
        }
    }
    None
}

fn put(bytes: &mut [u8], at: usize, length: [u8; 4]) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&length);
    }
}

/// A call that sees at most [`CALL_PIECE_BYTES_MAX`] of a buffer: the length in the program's list is a smaller one for
/// as long.
macro_rules! in_pieces {
    ($linker:ident, $name:ident, $($more:ident: $type:ty),*) => {
        $linker.func_wrap_async(
            PREVIEW_1,
            stringify!($name),
            |mut caller: Caller<'_, Core>,
             (file, list, count, $($more),*): (i32, i32, i32, $($type),*)| {
                Box::new(async move {
                    let (bytes, core) = parts(&mut caller)?;
                    let Some(long) = core.shorten(bytes, list, count) else {
                        return Ok(errno(Errno::Nomem));
                    };
                    let mut memory = GuestMemory::Unshared(&mut *bytes);
                    let outcome =
                        upstream::$name(&mut core.wasi, &mut memory, file, list, count, $($more),*)
                            .await;
                    if let Some((at, length)) = long {
                        put(bytes, at, length);
                    }
                    core.call.fits(0);
                    outcome
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
                let mut memory = GuestMemory::Unshared(bytes);
                let names = core.names(&mut memory, dir).await;
                if !core.call.fits(names) {
                    return Ok(errno(Errno::Nomem));
                }
                let outcome =
                    upstream::fd_readdir(&mut core.wasi, &mut memory, dir, to, len, from, done);
                let outcome = outcome.await;
                core.call.fits(0);
                outcome
            })
        },
    )?;
    linker.func_wrap_async(
        PREVIEW_1,
        "path_unlink_file",
        |mut caller: Caller<'_, Core>, (dir, path, len): (i32, i32, i32)| {
            Box::new(async move {
                // The one path that upstream copies however long it is.
                if is_too_long(len) {
                    return Ok(errno(Errno::Nametoolong));
                }
                let (bytes, core) = parts(&mut caller)?;
                let mut memory = GuestMemory::Unshared(bytes);
                upstream::path_unlink_file(&mut core.wasi, &mut memory, dir, path, len).await
            })
        },
    )?;
    Ok(())
}

fn waits(linker: &mut Linker<Core>) -> Result<()> {
    linker.func_wrap_async(
        PREVIEW_1,
        "poll_oneoff",
        |mut caller: Caller<'_, Core>, (list, events, count, done): (i32, i32, i32, i32)| {
            Box::new(async move {
                let all = count.cast_unsigned() as usize;
                if SUBSCRIPTIONS_MAX < all {
                    return Ok(errno(Errno::Inval));
                }
                let (bytes, core) = parts(&mut caller)?;
                if !core.call.fits(all * SUBSCRIPTION_BYTES) {
                    return Ok(errno(Errno::Nomem));
                }
                let asked = Asked::read(bytes, list, all);
                let outcome = if asked.is_mixed() {
                    asked.wait(&mut core.wasi, &core.timers, bytes, (events, done)).await
                } else {
                    let timers = asked.has_clocks().then(|| core.timers.clone());
                    let (wasi, mut memory) = (&mut core.wasi, GuestMemory::Unshared(bytes));
                    let outcome =
                        upstream::poll_oneoff(wasi, &mut memory, list, events, count, done);
                    match timers {
                        Some(timers) => within(&timers, outcome).await,
                        // Files are looked at on the pod's own threads, as in all other calls.
                        None => outcome.await,
                    }
                };
                core.call.fits(0);
                outcome
            })
        },
    )?;
    Ok(())
}

/// Upstream makes all that is asked for at once, and copies it then.
fn randomness(linker: &mut Linker<Core>) -> Result<()> {
    linker.func_wrap(
        PREVIEW_1,
        "random_get",
        |mut caller: Caller<'_, Core>, to: i32, len: i32| -> Result<i32> {
            let (to, len) = (to.cast_unsigned(), len.cast_unsigned());
            if RANDOM_BYTES_PER_CALL_MAX < u64::from(len) || to.checked_add(len).is_none() {
                return Ok(errno(Errno::Inval));
            }
            let (bytes, core) = parts(&mut caller)?;
            let mut memory = GuestMemory::Unshared(bytes);
            let mut done = 0;
            while done < len {
                let piece = RANDOM_PIECE_BYTES.min(len - done);
                let (at, length) = ((to + done).cast_signed(), piece.cast_signed());
                let outcome = upstream::random_get(&mut core.wasi, &mut memory, at, length)?;
                if outcome != errno(Errno::Success) {
                    return Ok(outcome);
                }
                done += piece;
            }
            Ok(errno(Errno::Success))
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
