//! The two binaries the way a user gets them from a checkout.

use crate::command::{Stop, cargo, run};

/// Builds them.
pub fn build() -> Result<(), Stop> {
    run(cargo().args([
        "build",
        "--locked",
        "--package",
        "freewheel-hub",
        "--package",
        "freewheel-spoke",
    ]))
}
