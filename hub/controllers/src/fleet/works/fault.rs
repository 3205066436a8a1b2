//! Why a manifest is not applied, as its work says it.

use freewheel_hub_fleet::work::ignored::WrongPath;
use freewheel_hub_schema::error::ApiError;

use super::executor::NotAllowed;

/// No text of another takes more than so many bytes of a work's status.
pub(super) const FAULT_BYTES_MAX: usize = 1024;

/// Why a manifest could not be applied.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub reason: &'static str,
    pub message: String,
    /// Somebody lacks the rights, and may have them soon.
    pub is_of_rights: bool,
}

impl Fault {
    pub fn failed(why: &str) -> Self {
        let message = format!("Failed to apply manifest: {}", cut(why));
        Self { reason: "AppliedManifestFailed", message, is_of_rights: false }
    }

    pub fn denied(why: &NotAllowed) -> Self {
        Self { is_of_rights: true, ..Self::failed(&why.to_string()) }
    }

    pub fn not_ignored(wrong: &WrongPath) -> Self {
        let message = format!("Failed to process ignoreFields: {}", cut(&wrong.to_string()));
        Self { reason: "AppliedManifestSSAIgnoreFieldError", message, is_of_rights: false }
    }
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Self {
        Self::failed(&error.message)
    }
}

/// A text of another, as far as there is room for it.
pub(super) fn cut(why: &str) -> String {
    let end = why.floor_char_boundary(FAULT_BYTES_MAX);
    let (text, dots) = (&why[..end], if end < why.len() { "..." } else { "" });
    format!("{text}{dots}")
}
