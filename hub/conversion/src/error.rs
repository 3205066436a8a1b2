//! Why objects were not converted.

use freewheel_hub_schema::error::ApiError;

/// Why objects were not converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConversionError {
    /// The definition asks for what is not there.
    #[error("conversion webhook for {kind} failed: {why}")]
    Unusable {
        /// Version and kind, as Kubernetes prints them.
        kind: String,
        /// What is missing.
        why: String,
    },
    /// It was not reached, or said that it failed.
    #[error("conversion webhook for {kind} failed: {why}")]
    Failed {
        /// Version and kind.
        kind: String,
        /// Why.
        why: String,
    },
    /// It has not answered in time.
    #[error("conversion webhook for {kind} failed: Post {url:?}: context deadline exceeded")]
    TimedOut {
        /// Version and kind.
        kind: String,
        /// Where it was asked.
        url: String,
    },
    /// It was not asked, as it has not answered just before.
    #[error(
        "conversion webhook for {kind} failed: it has just not answered; it is asked again in some seconds"
    )]
    Resting {
        /// Version and kind.
        kind: String,
    },
    /// It was not asked, as as many are as may be.
    #[error("conversion webhook for {kind} was not asked: as many are as may be; try again")]
    Busy {
        /// Version and kind.
        kind: String,
    },
    /// What it answered is not what it was given in another version.
    #[error("conversion webhook for {kind} returned {why}")]
    Wrong {
        /// Version and kind.
        kind: String,
        /// What is wrong with it.
        why: String,
    },
}

impl From<ConversionError> for ApiError {
    /// As kube-apiserver answers: 500, with no reason that a client could act on; and where nobody was asked, that it may
    /// try again.
    fn from(error: ConversionError) -> Self {
        match error {
            ConversionError::Busy { .. } => Self::busy(error.to_string()),
            error => Self::new(500, "", error.to_string()),
        }
    }
}
