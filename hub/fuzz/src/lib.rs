//! Whatever bytes: a target for each thing in the hub that reads what people write, and what holds for all that it makes of
//! them. None of it ships.
//!
//! ```text
//! targets.txt, seeds/ ─ tests/seeded.rs: mutated by a number, in every run of the tests ──┐
//!                     └ libfuzzer/: led by what is reached (`cargo xtask fuzz`) ──────────┴▶ Target::run
//!
//! json, yaml, protobuf   bodies          object     what holds for every object that was let in
//! json_patch, merge_patch, strategic_patch
//! selectors, cel, definition
//! apply, apply_schemas   server-side apply, of built-in kinds and of random schemas   (pipeline, shape)
//! parts                  an input of several texts     choices    one that makes decisions
//! ```
//!
//! Guarantees:
//! - each target runs with each change (`no_mutation_of_a_seed_breaks_a_target`);
//! - none takes longer than [`SLOW`] for an input (`no_mutation_of_a_seed_breaks_a_target`).
//!
//! How much memory one may take, libFuzzer is told by `cargo xtask fuzz`.

#![expect(clippy::panic, reason = "a property that does not hold ends the run")]

mod apply;
mod apply_schemas;
mod cel;
mod choices;
mod definition;
mod json;
mod json_patch;
mod merge_patch;
mod object;
mod parts;
mod pipeline;
mod protobuf;
mod selectors;
mod shape;
mod strategic_patch;
mod yaml;

use std::time::{Duration, Instant};

/// Longer than this no input may take, whatever else the machine does.
pub const SLOW: Duration = Duration::from_secs(20);

/// One thing that reads what people write.
#[derive(Debug)]
pub struct Target {
    /// Its name in `targets.txt`, where the folders of its seeds stand, too.
    pub name: &'static str,
    property: fn(&[u8]),
}

/// All of them, by name.
pub const TARGETS: &[Target] = &[
    Target { name: "apply", property: apply::run },
    Target { name: "apply-schemas", property: apply_schemas::run },
    Target { name: "cel", property: cel::run },
    Target { name: "definition", property: definition::run },
    Target { name: "json", property: json::run },
    Target { name: "json-patch", property: json_patch::run },
    Target { name: "merge-patch", property: merge_patch::run },
    Target { name: "protobuf", property: protobuf::run },
    Target { name: "selectors", property: selectors::run },
    Target { name: "strategic-patch", property: strategic_patch::run },
    Target { name: "yaml", property: yaml::run },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Looks at what becomes of these bytes; panics where that is not as it has to be.
    pub fn run(&self, bytes: &[u8]) {
        let began = Instant::now();
        (self.property)(bytes);
        let took = began.elapsed();
        assert!(took < SLOW, "{} took {took:?}", self.name);
    }
}
