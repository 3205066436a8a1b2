//! The one engine configuration that the hub's compiler and the spoke's loader share.
//!
//! ```text
//! spoke: probe ─▶ Profile ─▶ hub: compiler_config(profile) ─▶ artifact ─▶ spoke: config(profile)
//!
//! settings   what an engine is made with
//! imports    what pods are given to import         footprint    what stands behind an artifact
//! ```
//!
//! Two sides that agree on the [`Profile`] accept each other's artifacts: whoever changes the shape of compiled code
//! (wasm features, metering, memory layout), or what stands behind it ([`footprint`]), changes [`FEATURES_REV`] with
//! it.
//!
//! [`Profile`]: freewheel_link::profile::Profile
//! [`FEATURES_REV`]: freewheel_link::profile::FEATURES_REV
//!
//! Guarantees:
//! - a profile names the engine that is linked (`the_major_is_the_one_that_is_linked`);
//! - no proposal is on that is not [named](FEATURES), whatever an engine's release turns on
//!   (`what_devices_do_not_run_is_named_at_push_and_the_compiler_refuses_it_too`);
//! - a machine can run every profile that it may choose (`every_native_candidate_makes_an_engine`).

pub mod footprint;
mod imports;
mod settings;

pub use imports::{PREVIEW_1, given, is_given, preview_1};
pub use settings::{
    BOUNDED_RESERVATION_BYTES, BOUNDED_STEP_BYTES, FEATURES, GUARDED_RESERVATION_BYTES,
    GUEST_STACK_BYTES, compiler_config, config,
};
