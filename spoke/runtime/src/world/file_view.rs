//! Upstream's calls on files, each on the threads of its pod.

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

use crate::file_calls::FileCalls;

/// What a call works on.
pub(super) struct FileView<'a> {
    upstream: WasiFilesystemCtxView<'a>,
    calls: Arc<FileCalls>,
}

impl<'a> FileView<'a> {
    pub(super) const fn new(upstream: WasiFilesystemCtxView<'a>, calls: Arc<FileCalls>) -> Self {
        Self { upstream, calls }
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
        write(bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize>;
        read_directory() -> FsResult<List>;
        sync() -> FsResult<()>;
        create_directory_at(path: String) -> FsResult<()>;
        stat() -> FsResult<DescriptorStat>;
        stat_at(follow: PathFlags, path: String) -> FsResult<DescriptorStat>;
        set_times_at(follow: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()>;
        link_at(follow: PathFlags, path: String, to: File, at: String) -> FsResult<()>;
        open_at(follow: PathFlags, path: String, open: OpenFlags, flags: DescriptorFlags) -> FsResult<File>;
        readlink_at(path: String) -> FsResult<String>;
        remove_directory_at(path: String) -> FsResult<()>;
        rename_at(path: String, to: File, at: String) -> FsResult<()>;
        symlink_at(target: String, path: String) -> FsResult<()>;
        unlink_file_at(path: String) -> FsResult<()>;
        is_same_object(other: File) -> Result<bool>;
        metadata_hash() -> FsResult<MetadataHashValue>;
        metadata_hash_at(follow: PathFlags, path: String) -> FsResult<MetadataHashValue>;
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
