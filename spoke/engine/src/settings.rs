//! What an engine is made with, by its profile.
//!
//! Guarantees:
//! - a memory that has outgrown its reservation moves rarely
//!   (`a_memory_that_has_outgrown_its_reservation_moves_rarely`);
//! - a machine can run every profile that it may choose (`every_native_candidate_makes_an_engine`).

use std::num::NonZeroUsize;

use wasmtime::{Config, WasmFeatures};

use freewheel_link::profile::{MemoryProfile, Profile};

/// Largest linear memory that the bounded profile admits without moving it.
pub const BOUNDED_RESERVATION_BYTES: u64 = 256 << 20;

/// By how much a memory that has outgrown its reservation moves on: each move copies all of it.
pub const BOUNDED_STEP_BYTES: u64 = 64 << 20;

/// Address space that one linear memory takes with guard pages: 4 GiB that a 32-bit index can reach, and
/// guards on both sides.
pub const GUARDED_RESERVATION_BYTES: u64 = (4 << 30) + (64 << 20);

/// What a guest can touch of the native stack of one call; the host's own calls take a few pages more.
pub const GUEST_STACK_BYTES: usize = 512 << 10;

/// Frames of a trap's backtrace.
const BACKTRACE_FRAMES: usize = 20;

const BOUNDED_GUARD_BYTES: u64 = 64 << 10;

/// Proposals that guests may use; all others are off on both sides, because a hub that leaves one on makes artifacts
/// that the spoke refuses, and because each was looked at for what it makes the host hold: memories and tables are
/// asked for one by one however many a module has, and the others here make the host hold nothing.
///
/// Not among them: garbage collection, exceptions, threads, stack switching and WASI 0.3's concurrency, which the
/// spoke's runtime leaves out; 64-bit memories and tables, which reach beyond what the bounds and the guard pages are
/// made for, and which no toolchain for WASI makes; custom page sizes, and what is not finished.
pub const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::COMPONENT_MODEL)
    // Belongs to the first version of all for `externref`, which takes a collector.
    .difference(WasmFeatures::GC_TYPES);

/// What the spoke's engine is made with.
///
/// # Errors
/// When this build of wasmtime does not know the profile's interpreter.
pub fn config(profile: &Profile) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .gc_support(false)
        .wasm_features(FEATURES.complement(), false)
        .epoch_interruption(true)
        // WASI 0.2 needs none of it, and it costs every store 6 KiB and every fresh instance 15 %.
        .concurrency_support(false)
        .max_wasm_stack(GUEST_STACK_BYTES)
        // A trap's frames stand in the container's log. They cost nothing until there is one.
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        .memory_init_cow(true);
    match profile.memory {
        MemoryProfile::Guard4g => {}
        MemoryProfile::Bounded => {
            config
                .memory_reservation(BOUNDED_RESERVATION_BYTES)
                .memory_guard_size(BOUNDED_GUARD_BYTES)
                .memory_reservation_for_growth(BOUNDED_STEP_BYTES);
        }
    }
    if profile.arch.is_interpreted() {
        config.target(profile.arch.triple())?;
    }
    Ok(config)
}

/// What the hub's compiler is made with: [`config`], and code for the profile's architecture at its baseline.
///
/// # Errors
/// When this build's compiler has no back end for the architecture.
pub fn compiler_config(profile: &Profile) -> wasmtime::Result<Config> {
    let mut config = config(profile)?;
    config.target(profile.arch.triple())?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use freewheel_link::profile::WASMTIME_MAJOR;

    use super::*;

    #[test]
    fn a_memory_that_has_outgrown_its_reservation_moves_rarely() {
        use wasmtime::{Engine, Memory as Linear, MemoryType, Store};
        let bounded = Profile::candidates()
            .into_iter()
            .find(|profile| profile.memory == MemoryProfile::Bounded);
        let engine = Engine::new(&config(&bounded.unwrap()).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let pages = u32::try_from(BOUNDED_RESERVATION_BYTES >> 16).unwrap() + 1;
        let memory = Linear::new(&mut store, MemoryType::new(pages, None)).unwrap();
        let mut places = std::collections::HashSet::new();
        for _ in 0..100 {
            places.insert(memory.data_ptr(&store).addr());
            memory.grow(&mut store, 1).unwrap();
        }
        assert_eq!(places.len(), 1);
    }

    #[test]
    fn the_major_is_the_one_that_is_linked() {
        let lock = std::fs::read_to_string("../../Cargo.lock").unwrap();
        let version = lock
            .split("[[package]]")
            .find_map(|package| package.strip_prefix("\nname = \"wasmtime\"\nversion = \""))
            .unwrap();
        assert!(version.starts_with(&format!("{WASMTIME_MAJOR}.")), "{version}");
    }

    #[test]
    fn every_native_candidate_makes_an_engine() {
        for profile in Profile::candidates() {
            wasmtime::Engine::new(&config(&profile).unwrap()).unwrap();
        }
    }
}
