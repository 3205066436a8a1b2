//! The only unsafe code of the spoke: what no safe wrapper covers.

#![expect(unsafe_code, reason = "maps memory, and loads native code that others have verified")]

use std::path::Path;

use freewheel_spoke_engine::footing;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use wasmtime::component::Component;
use wasmtime::{Engine, Module, Precompiled};

/// Whether this much address space can be reserved at once. Nothing is kept and no memory is used.
#[must_use]
pub(crate) fn can_reserve(bytes: usize) -> bool {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists, and without
    // access rights nothing can be read or written through it.
    let Ok(start) =
        (unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::empty(), flags) })
    else {
        return false;
    };
    // SAFETY: exactly the mapping from above, to which no reference was ever made.
    unsafe { munmap(start, bytes) }.is_ok()
}

/// What an artifact holds.
pub(crate) enum Loaded {
    Component(Component),
    Core(Module),
}

/// Maps a compiled component or core module; and the bytes that each instance of it takes beside its memories.
///
/// The caller promises that the file is an artifact that a hub of the fleet has signed, that its bytes were
/// checked against the signature, and that nobody writes to it: a changed artifact is arbitrary native code.
pub(crate) fn load(engine: &Engine, artifact: &Path) -> wasmtime::Result<(Loaded, u64)> {
    let footing = footing::read(artifact)?;
    if let Some(Precompiled::Module) = Engine::detect_precompiled_file(artifact)? {
        // SAFETY: as below.
        let module = unsafe { Module::deserialize_file(engine, artifact) };
        return module.map(|module| (Loaded::Core(module), footing));
    }
    // SAFETY: the artifact comes out of this compiler unchanged, as the caller promises; wasmtime itself
    // refuses artifacts of other versions, settings and machines.
    let component = unsafe { Component::deserialize_file(engine, artifact) };
    component.map(|component| (Loaded::Component(component), footing))
}
