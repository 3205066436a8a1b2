//! With `stacks` the only unsafe code of this crate: what no safe wrapper covers.

#![expect(unsafe_code, reason = "maps memory, and loads native code that others have verified")]

use std::io;
use std::ops::Range;
use std::path::Path;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::param::page_size;
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

/// Memory of one's own, with a page below it that nobody can touch.
pub(crate) struct Guarded {
    /// Of the guard page.
    start: usize,
    /// Without it.
    bytes: usize,
}

impl Guarded {
    /// Maps so many bytes, rounded up to pages. They take memory when they are touched.
    pub(crate) fn map(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(page_size());
        let whole = bytes.saturating_add(page_size());
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), whole, access, flags) }?;
        let guarded = Self { start: start.expose_provenance(), bytes };
        // SAFETY: the first page of the mapping from above, to which no reference was ever made.
        unsafe { mprotect(start, page_size(), MprotectFlags::empty()) }?;
        Ok(guarded)
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it is, without the guard.
    pub(crate) fn range(&self) -> Range<usize> {
        let start = self.guard().end;
        start..start + self.bytes
    }

    /// The page below it.
    pub(crate) fn guard(&self) -> Range<usize> {
        self.start..self.start + page_size()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let start = std::ptr::with_exposed_provenance_mut(self.start);
        // SAFETY: exactly what was mapped, and whoever used it is gone: they had it by a value that owns this one.
        let _ = unsafe { munmap(start, self.bytes + page_size()) };
    }
}

/// What an artifact holds.
pub(crate) enum Loaded {
    Component(Component),
    Core(Module),
}

/// Maps a compiled component or core module.
///
/// The caller promises that the file is an artifact that a hub of the fleet has signed, that its bytes were
/// checked against the signature, and that nobody writes to it: a changed artifact is arbitrary native code.
pub(crate) fn load(engine: &Engine, artifact: &Path) -> wasmtime::Result<Loaded> {
    if let Some(Precompiled::Module) = Engine::detect_precompiled_file(artifact)? {
        // SAFETY: as below.
        let module = unsafe { Module::deserialize_file(engine, artifact) };
        return module.map(Loaded::Core);
    }
    // SAFETY: the artifact comes out of this compiler unchanged, as the caller promises; wasmtime itself
    // refuses artifacts of other versions, settings and machines.
    let component = unsafe { Component::deserialize_file(engine, artifact) };
    component.map(Loaded::Component)
}
