//! The directories that a pod gives to a container: opened once, shared by all of its instances.
//!
//! Guarantees:
//! - an instance sees the directory that was opened when its container started, whatever stands at the
//!   directory's path by then (`a_new_instance_sees_the_directory_that_its_container_was_given`);
//! - a container that finds no places for what it mounts is told so, and none of it is opened
//!   (`a_pod_that_may_open_no_more_mounts_nothing`).

use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use freewheel_spoke_account::Held;
use freewheel_spoke_agent::ports::{FilePermits, Opened};
use freewheel_spoke_agent::volumes::Mount;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime::error::Context as _;
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::{FsPerms, OpenMode, WasiCtxBuilder};

use crate::file_calls::FileCalls;

/// A container's directories and the names that its guest knows them by.
#[derive(Clone)]
pub(crate) struct Mounts(Arc<All>);

struct All {
    dirs: Vec<One>,
    places: Option<Box<dyn FilePermits>>,
    calls: Arc<FileCalls>,
}

impl Drop for All {
    fn drop(&mut self) {
        // A call that waits for its thread has one of them.
        self.calls.let_go(self.places.take());
    }
}

struct One {
    dir: Dir,
    guest: String,
}

/// Places among a pod's open files.
#[derive(Debug)]
pub(crate) struct OfPod(pub(crate) Held);

impl FilePermits for OfPod {
    fn keep(&mut self, count: usize) {
        // Less than it is always fits.
        let _ = self.0.set(count.min(self.0.bytes()));
    }
}

impl Mounts {
    /// Takes the open directories over. `calls`: of the pod.
    pub(crate) fn new(opened: Opened, calls: Arc<FileCalls>) -> Result<Self, String> {
        let one = |Mount { dir, guest, read_only }: Mount| {
            let (perms, mode) = if read_only {
                (FsPerms::ReadOnly, OpenMode::READ)
            } else {
                (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE)
            };
            let file = dir.into_file().map_err(|error| format!("cannot mount {guest}: {error}"))?;
            Ok(One { dir: Dir::new(file, perms, mode, false), guest })
        };
        let dirs = opened.dirs.into_iter().map(one).collect::<Result<_, String>>()?;
        Ok(Self(Arc::new(All { dirs, places: Some(opened.places), calls })))
    }
}

impl Mounts {
    /// Gives them to a core program. The descriptors that are open already are opened once more, never a path: what
    /// stands at the path by now is nobody's mount.
    pub(crate) fn preopen(&self, wasi: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        for mount in &self.0.dirs {
            let open = format!("/proc/self/fd/{}", mount.dir.dir.as_raw_fd());
            wasi.preopened_dir(open, &mount.guest, mount.dir.perms)
                .with_context(|| format!("cannot mount {}", mount.guest))?;
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.dirs.len()
    }
}

/// What a call works on.
pub(crate) struct MountsView<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) mounts: &'a Mounts,
}

/// A store's data with mounts in it.
pub(crate) struct HasMounts;

impl HasData for HasMounts {
    type Data<'a> = MountsView<'a>;
}

impl preopens::Host for MountsView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut out = Vec::with_capacity(self.mounts.count());
        for mount in &self.mounts.0.dirs {
            let dir = self.table.push(Descriptor::Dir(mount.dir.clone()))?;
            out.push((dir, mount.guest.clone()));
        }
        Ok(out)
    }
}
