//! Where a bench keeps what it needs and what it makes.

use std::path::PathBuf;

use freewheel_xtask_kit::command::{Stop, empty, target};

/// The folder for everything that a bench keeps.
pub fn folder() -> PathBuf {
    target().join("bench")
}

/// Programs that were built or fetched once.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// An empty folder of this name.
pub fn fresh(name: &str) -> Result<PathBuf, Stop> {
    let path = folder().join(name);
    empty(&path)?;
    Ok(path)
}
