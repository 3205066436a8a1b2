//! Upstream's calls on files, each on the threads of its pod.
//!
//! Guarantees:
//! - what a call brings with it is on the container's memory until its turn has come, also when its guest is killed before
//!   (`what_a_call_brings_counts_until_its_turn_has_come`);
//! - a path has an end (`no_path_is_longer_than_the_kernel_takes`).

use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
    Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult, ReaddirIterator};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::given::PATH_BYTES_MAX;
use crate::file_calls::FileCalls;
use crate::memory::{ContainerMemory, Share};

/// Most bytes that one call writes; the guest hears how many they were, and goes on.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// What a call works on.
pub(super) struct FileView<'a> {
    upstream: WasiFilesystemCtxView<'a>,
    calls: Arc<FileCalls>,
    memory: Arc<ContainerMemory>,
}

impl<'a> FileView<'a> {
    pub(super) const fn new(
        upstream: WasiFilesystemCtxView<'a>,
        calls: Arc<FileCalls>,
        memory: Arc<ContainerMemory>,
    ) -> Self {
        Self { upstream, calls, memory }
    }

    /// Books what a call brings with it.
    fn brings(&self, bytes: usize) -> FsResult<Brought> {
        let mut held = self.memory.share();
        if !held.fits(bytes) {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        Ok(Brought { held, calls: self.calls.clone(), had_its_turn: false })
    }

    fn brings_paths(&self, paths: &[usize]) -> FsResult<Brought> {
        if paths.iter().any(|bytes| PATH_BYTES_MAX < *bytes) {
            return Err(ErrorCode::NameTooLong.into());
        }
        self.brings(paths.iter().sum())
    }
}

/// What a call has brought with it.
struct Brought {
    held: Share,
    calls: Arc<FileCalls>,
    had_its_turn: bool,
}

impl Drop for Brought {
    fn drop(&mut self) {
        if !self.had_its_turn {
            self.calls.let_go(self.held.take_all());
        }
    }
}

/// A store's data with calls on files in it.
pub(super) struct HasFileView;

impl HasData for HasFileView {
    type Data<'a> = FileView<'a>;
}

type File = Resource<Descriptor>;
type List = Resource<ReaddirIterator>;

impl Host for FileView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> Result<ErrorCode> {
        self.upstream.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> Result<Option<ErrorCode>> {
        Host::filesystem_error_code(&mut self.upstream, error)
    }
}

macro_rules! on_its_threads {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {
        $(async fn $name(&mut self, file: File, $($arg: $type),*) -> $out {
            self.calls.run(HostDescriptor::$name(&mut self.upstream, file, $($arg),*)).await
        })*
    };
}

/// Those with paths.
macro_rules! at_paths {
    ($($name:ident($($arg:ident: $type:ty),*; $($path:ident),*) -> $out:ty;)*) => {
        $(async fn $name(&mut self, file: File, $($arg: $type),*) -> FsResult<$out> {
            let mut brought = self.brings_paths(&[$($path.len()),*])?;
            let call = HostDescriptor::$name(&mut self.upstream, file, $($arg),*);
            let done = self.calls.run(call).await;
            brought.had_its_turn = true;
            done
        })*
    };
}

/// What waits for nothing: a stream's calls go to the threads when they are made.
macro_rules! at_once {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {
        $(fn $name(&mut self, file: File, $($arg: $type),*) -> $out {
            HostDescriptor::$name(&mut self.upstream, file, $($arg),*)
        })*
    };
}

impl HostDescriptor for FileView<'_> {
    on_its_threads! {
        advise(offset: Filesize, len: Filesize, advice: Advice) -> FsResult<()>;
        sync_data() -> FsResult<()>;
        get_flags() -> FsResult<DescriptorFlags>;
        get_type() -> FsResult<DescriptorType>;
        set_size(size: Filesize) -> FsResult<()>;
        set_times(accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()>;
        read(len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        read_directory() -> FsResult<List>;
        sync() -> FsResult<()>;
        stat() -> FsResult<DescriptorStat>;
        is_same_object(other: File) -> Result<bool>;
        metadata_hash() -> FsResult<MetadataHashValue>;
    }

    at_paths! {
        create_directory_at(path: String; path) -> ();
        stat_at(follow: PathFlags, path: String; path) -> DescriptorStat;
        set_times_at(follow: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp; path) -> ();
        link_at(follow: PathFlags, path: String, to: File, at: String; path, at) -> ();
        open_at(follow: PathFlags, path: String, open: OpenFlags, flags: DescriptorFlags; path) -> File;
        readlink_at(path: String; path) -> String;
        remove_directory_at(path: String; path) -> ();
        rename_at(path: String, to: File, at: String; path, at) -> ();
        symlink_at(target: String, path: String; target, path) -> ();
        unlink_file_at(path: String; path) -> ();
        metadata_hash_at(follow: PathFlags, path: String; path) -> MetadataHashValue;
    }

    async fn write(
        &mut self,
        file: File,
        mut bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        bytes.truncate(WRITE_BYTES_MAX);
        bytes.shrink_to_fit();
        let mut brought = self.brings(bytes.len())?;
        let call = HostDescriptor::write(&mut self.upstream, file, bytes, offset);
        let done = self.calls.run(call).await;
        brought.had_its_turn = true;
        done
    }

    at_once! {
        read_via_stream(offset: Filesize) -> FsResult<Resource<DynInputStream>>;
        write_via_stream(offset: Filesize) -> FsResult<Resource<DynOutputStream>>;
        append_via_stream() -> FsResult<Resource<DynOutputStream>>;
        drop() -> Result<()>;
    }
}

impl HostDirectoryEntryStream for FileView<'_> {
    async fn read_directory_entry(&mut self, list: List) -> FsResult<Option<DirectoryEntry>> {
        // All of it was read when the list was made.
        self.upstream.read_directory_entry(list).await
    }

    fn drop(&mut self, list: List) -> Result<()> {
        HostDirectoryEntryStream::drop(&mut self.upstream, list)
    }
}
