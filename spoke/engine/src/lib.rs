//! The one engine configuration that the hub's compiler and the spoke's loader share.
//!
//! ```text
//! spoke: probe ─▶ Profile ──key──▶ hub: compiler_config(profile) ─▶ artifact ─▶ spoke: config(profile)
//!
//! profile    what artifacts are known by           settings   what an engine is made with
//! imports    what pods are given to import         footprint    what stands behind an artifact
//! ```
//!
//! Two sides that agree on [`Profile::key`] accept each other's artifacts: whoever changes the shape of compiled code
//! (wasm features, metering, memory layout), or what stands behind it ([`footprint`]), changes [`FEATURES_REV`] with
//! it.
//!
//! Guarantees:
//! - the key names the engine that is linked (`the_major_is_the_one_that_is_linked`);
//! - no proposal is on that is not [named](FEATURES), whatever an engine's release turns on
//!   (`what_devices_do_not_run_is_named_at_push_and_the_compiler_refuses_it_too`);
//! - a machine can run every profile that it may choose (`every_native_candidate_makes_an_engine`);
//! - a profile of another engine is not compiled for (`keys_of_another_engine_are_readable_but_not_current`).

pub mod footprint;
mod imports;
mod profile;
mod settings;

pub use imports::{PREVIEW_1, given, is_given, preview_1};
pub use profile::{Arch, BadProfile, FEATURES_REV, MemoryProfile, Profile, WASMTIME_MAJOR};
pub use settings::{
    BOUNDED_RESERVATION_BYTES, BOUNDED_STEP_BYTES, FEATURES, GUARDED_RESERVATION_BYTES,
    GUEST_STACK_BYTES, compiler_config, config,
};
