//! Files and directories that a guest has open: each is a descriptor of the agent's process, which all pods, the
//! node's ports and the link share.
//!
//! Guarantees:
//! - a pod has no more of them than it may, and what is closed is free again
//!   (`a_pod_that_opens_files_is_told_when_it_has_enough`), nor more than it leaves for others where there are few
//!   (`a_pod_that_opens_files_leaves_its_neighbours_some`);
//! - what a list of names holds is on the container's memory (`lists_of_large_directories_are_memory`);
//! - a call that waits for its thread when its guest is killed has its file, and up to 64 KiB that were brought to it
//!   (`file_view.rs`), and both count until its turn has come
//!   (`what_waits_for_a_thread_has_its_places_when_its_container_is_gone`,
//!   `what_a_call_brings_counts_until_its_turn_has_come`).
//!
//! Not held: a call that is under way when its guest is killed has as much until it is over, and neither counts any more.
//! Of each team of threads (`file_calls.rs`) that is what its threads have.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use freewheel_spoke_account::{Full, Held, Level, MemoryAccount};
use freewheel_spoke_logs::LogSink;
use freewheel_spoke_net::FILES_LEAST;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, Host as _, HostDescriptor, HostDirectoryEntryStream, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi::p2::{FsResult, ReaddirIterator};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult,
};

use super::file_view::FileView;
use crate::file_calls::FileCalls;
use crate::memory::{ContainerMemory, Share};

/// The interface of which the calls here are ours, in the version that upstream defines it.
const FILESYSTEM: &str = "wasi:filesystem/types@0.2.12";

/// Most bytes that upstream reads from a file at once.
const READ_BYTES_MAX: usize = 64 << 10;

/// What it reads for a guest that waits for a stream.
const READ_AHEAD_BYTES: usize = 4096;

/// What a name of a list costs for each byte that its directory has on the disk, at most: short names on file
/// systems that pack them.
pub(crate) const LISTED_BYTES_PER_NAME_BYTE: u64 = 8;

/// The open files of one store.
pub(crate) struct OpenFiles {
    /// How many the pod has, and may have.
    account: Arc<MemoryAccount>,
    open: HashMap<u32, Arc<Held>>,
    lists: HashMap<u32, Share>,
    memory: Arc<ContainerMemory>,
    log: LogSink,
    is_full_logged: bool,
    calls: Arc<FileCalls>,
}

impl OpenFiles {
    pub(crate) fn new(
        account: Arc<MemoryAccount>,
        memory: Arc<ContainerMemory>,
        log: LogSink,
        calls: Arc<FileCalls>,
    ) -> Self {
        let (open, lists) = (HashMap::new(), HashMap::new());
        Self { account, open, lists, memory, log, is_full_logged: false, calls }
    }

    /// Where its calls are done.
    pub(super) fn calls(&self) -> Arc<FileCalls> {
        self.calls.clone()
    }

    fn place(&mut self) -> Option<Held> {
        let place = self.account.take_share(1, FILES_LEAST);
        if let (Err(full), false) = (&place, self.is_full_logged) {
            self.is_full_logged = true;
            tell(&self.log, full);
        }
        place.ok()
    }
}

impl Drop for OpenFiles {
    fn drop(&mut self) {
        let (open, lists) = (std::mem::take(&mut self.open), std::mem::take(&mut self.lists));
        if !open.is_empty() || !lists.is_empty() {
            self.calls.let_go((open, lists));
        }
    }
}

/// Says in the log why no file could be opened.
pub(crate) fn tell(log: &LogSink, full: &Full) {
    let of = if full.level == Level::Node { "node" } else { "pod" };
    log.note(&format!("freewheel: the {of} has {} files open, as many as it may", full.limit));
}

/// A file's stream: it keeps the file open, and upstream reads ahead of the guest and writes behind it.
struct Counted<S> {
    stream: S,
    calls: Arc<FileCalls>,
    held: Share,
    open: Option<Arc<Held>>,
    /// Nothing of it is under way any more.
    cancelled: bool,
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        if !self.cancelled {
            self.calls.let_go((self.held.take_all(), self.open.take()));
        }
    }
}

impl<S> Counted<S> {
    fn hold(&mut self, bytes: usize) -> StreamResult<()> {
        self.held.set(bytes).map_err(|full| StreamError::Trap(full.into()))
    }
}

#[async_trait::async_trait]
impl Pollable for Counted<DynInputStream> {
    async fn ready(&mut self) {
        self.calls.run(self.stream.ready()).await;
    }
}

#[async_trait::async_trait]
impl InputStream for Counted<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        // What was read before and not taken may be as much.
        self.hold(self.held.bytes().max(size.min(READ_BYTES_MAX)))?;
        let bytes = self.calls.begin(|| self.stream.read(size))?;
        if !bytes.is_empty() {
            self.hold(self.held.bytes().saturating_sub(bytes.len()).max(READ_AHEAD_BYTES))?;
        }
        Ok(bytes)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let bytes = self.calls.run(self.stream.blocking_read(size)).await?;
        self.hold(self.held.bytes().saturating_sub(bytes.len()).max(READ_AHEAD_BYTES))?;
        Ok(bytes)
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
        self.cancelled = true;
    }
}

#[async_trait::async_trait]
impl Pollable for Counted<DynOutputStream> {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Counted<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.check_write()? < bytes.len() {
            return Err(StreamError::trap("write exceeds what check-write allowed"));
        }
        self.hold(bytes.len())?;
        self.calls.begin(|| self.stream.write(bytes))
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let room = self.stream.check_write()?;
        if 0 < room {
            // What was written before is on the disk.
            self.hold(0)?;
        }
        Ok(room)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.calls.run(self.stream.blocking_write_and_flush(bytes)).await
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
        self.cancelled = true;
    }
}

/// A store's data with open files in it.
pub(crate) trait HasFiles: WasiView {
    /// What is counted of them.
    fn files(&mut self) -> &mut OpenFiles;
}

type File = Resource<Descriptor>;
type Store<'a, T> = StoreContextMut<'a, T>;
type List = Resource<ReaddirIterator>;

/// Upstream's outcome as the guest gets it.
fn for_guest<T>(state: &mut impl HasFiles, outcome: FsResult<T>) -> Result<Result<T, ErrorCode>> {
    match outcome {
        Ok(done) => Ok(Ok(done)),
        Err(error) => Ok(Err(state.filesystem().convert_error_code(error)?)),
    }
}

/// Puts the calls of this file in place of upstream's.
pub(super) fn add_to_linker<T: HasFiles + 'static>(linker: &mut Linker<T>) -> Result<()> {
    let mut types = linker.instance(FILESYSTEM)?;
    files(&mut types)?;
    streams(&mut types)?;
    lists(&mut types)
}

fn files<T: HasFiles + 'static>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |store: Store<'_, T>,
         (at, follow, path, open, flags): (File, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::new(open_at(store, at, follow, path, (open, flags)))
        },
    )?;
    types.resource(
        "descriptor",
        ResourceType::host::<Descriptor>(),
        |mut store: Store<'_, T>, handle| {
            let state = store.data_mut();
            state.files().open.remove(&handle);
            HostDescriptor::drop(&mut state.filesystem(), Resource::new_own(handle))
        },
    )?;
    Ok(())
}

fn streams<T: HasFiles + 'static>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store: Store<'_, T>, (file, offset): (File, u64)| {
            let (state, handle) = (store.data_mut(), file.rep());
            let stream = HostDescriptor::read_via_stream(&mut state.filesystem(), file, offset);
            let stream = for_guest(state, stream)?;
            if let Ok(stream) = &stream {
                count_input(state, handle, stream)?;
            }
            Ok((stream,))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: Store<'_, T>, (file, offset): (File, u64)| {
            let (state, handle) = (store.data_mut(), file.rep());
            let stream = HostDescriptor::write_via_stream(&mut state.filesystem(), file, offset);
            let stream = for_guest(state, stream)?;
            if let Ok(stream) = &stream {
                count_output(state, handle, stream)?;
            }
            Ok((stream,))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: Store<'_, T>, (file,): (File,)| {
            let (state, handle) = (store.data_mut(), file.rep());
            let stream = HostDescriptor::append_via_stream(&mut state.filesystem(), file);
            let stream = for_guest(state, stream)?;
            if let Ok(stream) = &stream {
                count_output(state, handle, stream)?;
            }
            Ok((stream,))
        },
    )?;
    Ok(())
}

fn lists<T: HasFiles + 'static>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |store: Store<'_, T>, (dir,): (File,)| Box::new(read_directory(store, dir)),
    )?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<ReaddirIterator>(),
        |mut store: Store<'_, T>, handle| {
            let state = store.data_mut();
            state.files().lists.remove(&handle);
            HostDirectoryEntryStream::drop(&mut state.filesystem(), Resource::new_own(handle))
        },
    )?;
    Ok(())
}

/// Upstream's calls on a store's files.
pub(super) fn file_view<T: HasFiles>(state: &mut T) -> FileView<'_> {
    let files = state.files();
    let (calls, memory) = (files.calls(), files.memory.clone());
    FileView::new(state.filesystem(), calls, memory)
}

async fn open_at<T: HasFiles>(
    mut store: Store<'_, T>,
    at: File,
    follow: PathFlags,
    path: String,
    (open, flags): (OpenFlags, DescriptorFlags),
) -> Result<(Result<File, ErrorCode>,)> {
    let state = store.data_mut();
    let Some(place) = state.files().place() else { return Ok((Err(ErrorCode::Quota),)) };
    let mut view = file_view(state);
    let opened = HostDescriptor::open_at(&mut view, at, follow, path, open, flags).await;
    let opened = for_guest(state, opened)?;
    if let Ok(file) = &opened {
        state.files().open.insert(file.rep(), Arc::new(place));
    }
    Ok((opened,))
}

async fn read_directory<T: HasFiles>(
    mut store: Store<'_, T>,
    dir: File,
) -> Result<(Result<List, ErrorCode>,)> {
    let state = store.data_mut();
    let on_disk = match state.ctx().table.get(&dir)? {
        // One system call on what is open already.
        Descriptor::Dir(dir) => dir.dir.metadata().map_or(0, |found| found.len()),
        Descriptor::File(_) => 0,
    };
    let mut held = state.files().memory.share();
    // Told, not ended: a directory that once was large may be listed as well by a guest of little memory.
    if !held.fits(
        usize::try_from(on_disk.saturating_mul(LISTED_BYTES_PER_NAME_BYTE)).unwrap_or(usize::MAX),
    ) {
        return Ok((Err(ErrorCode::InsufficientMemory),));
    }
    let list = HostDescriptor::read_directory(&mut file_view(state), dir).await;
    let list = for_guest(state, list)?;
    if let Ok(list) = &list {
        state.files().lists.insert(list.rep(), held);
    }
    Ok((list,))
}

fn count_input(
    state: &mut impl HasFiles,
    file: u32,
    stream: &Resource<DynInputStream>,
) -> Result<()> {
    let files = state.files();
    let (mut held, open) = (files.memory.share(), files.open.get(&file).cloned());
    let calls = files.calls();
    held.set(READ_AHEAD_BYTES)?;
    let slot = state.ctx().table.get_mut(stream)?;
    let stream = std::mem::replace(slot, Box::new(ClosedInputStream));
    *slot = Box::new(Counted { stream, calls, held, open, cancelled: false });
    Ok(())
}

fn count_output(
    state: &mut impl HasFiles,
    file: u32,
    stream: &Resource<DynOutputStream>,
) -> Result<()> {
    let files = state.files();
    let (held, open) = (files.memory.share(), files.open.get(&file).cloned());
    let calls = files.calls();
    let slot = state.ctx().table.get_mut(stream)?;
    let stream = std::mem::replace(slot, Box::new(ClosedOutputStream));
    *slot = Box::new(Counted { stream, calls, held, open, cancelled: false });
    Ok(())
}
