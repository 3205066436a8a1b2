//! Compiled modules on the device: fetched by digest, verified, kept, dropped.
//!
//! ```text
//! want ─▶ on disk? verify again ─────────────────────────▶ Input::Module(path)
//!           └─ no ─▶ fetch ─▶ envelope holds? ─▶ unpack ─▶ bytes fit? ─▶ fsync, rename
//! files   names and writes in DATA/modules
//! unpack  zstd → artifact, bounded by what was signed
//! download  compressed bytes as they come in
//! partial_downloads  of transfers that broke off
//! fetch   where they come from
//! ```
//!
//! Guarantees:
//! - a path is offered only after the artifact's bytes were checked in this life of the process against an envelope
//!   that descends from the pinned fleet root (`a_module_is_fetched_verified_and_kept`,
//!   `bad_modules_are_refused_with_their_reason`);
//! - an artifact that has changed on disk is fetched again (`what_changed_on_disk_is_never_offered`);
//! - modules that lie here are checked one after the other, and hold up no other work with files meanwhile
//!   (`modules_that_are_to_be_checked_wait_without_a_thread`);
//! - a cut transfer goes on where it ended, also in the next life
//!   (`a_transfer_goes_on_where_it_stopped_in_the_life_before`);
//! - what the plan needs is kept, and of the rest what was needed last, within a bound
//!   (`what_the_last_life_left_is_counted_once_the_plan_is_known`,
//!   `a_module_that_was_needed_until_now_outlives_one_that_came_later`).

mod download;
mod fetch;
mod files;
mod partial_downloads;
mod store;
mod unpack;

pub use fetch::Fetch;
pub use store::{Setup, Store};

/// Largest artifact that a device takes.
pub const ARTIFACT_BYTES_MAX: u64 = 256 << 20;
/// Modules that no pod needs any more stay while they are together smaller than this: the next rollback
/// finds them here. On a disk under pressure they go.
pub const UNUSED_BYTES_KEPT: u64 = 128 << 20;

/// Why a module is not here.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The hub has none, or says why not.
    #[error("{message}")]
    Refused {
        /// The hub's reason.
        reason: String,
        /// The hub's words.
        message: String,
    },
    /// The hub could not be asked, or broke off.
    #[error("cannot fetch the module: {0}")]
    Fetch(String),
    /// What came is not what the fleet's hubs signed.
    #[error("the module is refused: {0}")]
    Untrusted(#[from] freewheel_link::artifact::Untrusted),
    /// It says that it is too large for a device.
    #[error("the module has {0} bytes, a device takes up to {ARTIFACT_BYTES_MAX}")]
    TooLarge(u64),
    /// It cannot be unpacked.
    #[error("the module cannot be unpacked: {0}")]
    Packed(String),
    /// The disk refuses.
    #[error("cannot keep the module on disk: {0}")]
    Disk(#[source] std::io::Error),
}

impl ModuleError {
    /// Whether the disk has no room.
    fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Disk(error) if matches!(error.kind(), StorageFull | QuotaExceeded))
    }

    /// Waiting reason that `kubectl get pods` shows.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Refused { reason, .. } if !reason.is_empty() => reason.clone(),
            Self::Untrusted(_) => "ErrImageVerify".to_owned(),
            _ => "ErrImagePull".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
