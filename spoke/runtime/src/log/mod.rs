//! Container logs: from a guest's stdout and stderr to bounded files and out to `kubectl logs`.
//!
//! ```text
//! guest ─▶ sink (64 KiB, then the guest waits) ─▶ drain ─▶ file (CRI lines, two files of 10 MiB) ─▶ read
//! budget: how much of the disk, and how fast, for one container and for all
//! ```
//!
//! Guarantees: nothing that a guest wrote is lost while the disk takes it, and what is lost is said; what it
//! keeps in memory and on disk is bounded, whatever the guest does; a container that ended has all its lines in the
//! file; a reader that falls behind it is told that lines are missing, where they are missing.

mod budget;
mod drain;
mod read;
mod sink;
mod stamp;

pub(crate) use budget::LogBudget;
pub(crate) use drain::drain;
pub use read::{LogOptions, read};
pub use sink::Written;
pub(crate) use sink::{LogSink, Source};
