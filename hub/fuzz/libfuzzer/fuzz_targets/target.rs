//! libFuzzer on the target that `FREEWHEEL_FUZZ_TARGET` names: one program for all of them, which is linked once.
#![no_main]

use std::sync::LazyLock;

use freewheel_hub_fuzz::{Target, find};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FREEWHEEL_FUZZ_TARGET").unwrap_or_default();
    find(&name).unwrap_or_else(|| panic!("FREEWHEEL_FUZZ_TARGET={name:?} is no target"))
});

fuzz_target!(|bytes: &[u8]| TARGET.run(bytes));
