//! The directories that a pod gives to a container: opened once, shared by all of its instances.
//!
//! Guarantees:
//! - an instance sees the directory that was opened when its container started, whatever stands at the
//!   directory's path by then (`a_new_instance_sees_the_directory_that_its_container_was_given`).

use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use freewheel_spoke_agent::volumes::Mount;
use freewheel_spoke_net::{Account, Held};
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime::error::Context as _;
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::{FsPerms, OpenMode, WasiCtxBuilder};

/// A container's directories and the names that its guest knows them by.
#[derive(Clone)]
pub(crate) struct Mounts(Arc<[One]>);

struct One {
    dir: Dir,
    guest: String,
    _place: Held,
}

impl Mounts {
    /// Takes the open directories over, which count among the files that the pod has open.
    pub(crate) fn new(mounts: Vec<Mount>, files: &Arc<Account>) -> Result<Self, String> {
        let one = |mount: Mount| {
            let failed = |why: &str| format!("cannot mount {}: {why}", mount.guest);
            let place = files.take(1).map_err(|_| failed("too many open files"))?;
            let (perms, mode) = if mount.read_only {
                (FsPerms::ReadOnly, OpenMode::READ)
            } else {
                (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE)
            };
            let file = mount.dir.clone().into_file().map_err(|error| failed(&error.to_string()))?;
            let dir = Dir::new(file, perms, mode, false);
            Ok(One { dir, guest: mount.guest, _place: place })
        };
        Ok(Self(mounts.into_iter().map(one).collect::<Result<_, String>>()?))
    }
}

impl Mounts {
    /// Gives them to a core program. The descriptors that are open already are opened once more, never a path: what
    /// stands at the path by now is nobody's mount.
    pub(crate) fn preopen(&self, wasi: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        for mount in self.0.iter() {
            let open = format!("/proc/self/fd/{}", mount.dir.dir.as_raw_fd());
            wasi.preopened_dir(open, &mount.guest, mount.dir.perms)
                .with_context(|| format!("cannot mount {}", mount.guest))?;
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
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
        let mut out = Vec::with_capacity(self.mounts.0.len());
        for mount in self.mounts.0.iter() {
            let dir = self.table.push(Descriptor::Dir(mount.dir.clone()))?;
            out.push((dir, mount.guest.clone()));
        }
        Ok(out)
    }
}
