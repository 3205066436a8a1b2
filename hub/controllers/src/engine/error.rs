//! Why a reconcile did not come to its end.

use std::time::Duration;

use freewheel_hub_objects::OVERTAKEN;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::CommitError;

/// A failed step. The engine logs it and tries the key again with back-off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The commit pipeline refused.
    #[error("{doing}")]
    Api {
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        #[source]
        source: ApiError,
    },
    /// The store refused a direct transaction.
    #[error("{doing}")]
    Commit {
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        #[source]
        source: CommitError,
    },
    /// The CA cannot sign at the moment.
    #[error("cannot sign a certificate")]
    SigningError(#[source] crate::signing::SigningError),
    /// The hub does not serve a kind that the controller needs.
    #[error("the hub serves no {0}")]
    NoSuchKind(&'static str),
    /// The object says something that cannot be acted on; a change of it enqueues it again.
    #[error("{0}")]
    Refused(String),
    /// What there is could not be looked at.
    #[error("cannot look at it: {0}")]
    Look(String),
    /// It is not the key's turn: whoever counts turns brings it again.
    #[error("it is not its turn")]
    Later,
    /// Something was left undone: it is tried again after its back-off, and looked at before when it is to be anyway.
    #[error("not all could be removed")]
    Left {
        /// Why.
        #[source]
        left: Box<Error>,
        /// When it is to be looked at anyway.
        look_again: Option<Duration>,
    },
    /// Some of it could not be done, and its status says what: it is tried again without a warning, after its back-off or
    /// when it is to be looked at anyway.
    #[error("{why}")]
    Partly {
        /// What could not be done.
        why: &'static str,
        /// When it is to be looked at anyway.
        look_again: Option<Duration>,
    },
}

/// The first of what failed while the rest went on: one object that resists holds up no other.
#[derive(Debug, Default)]
pub struct Faults(Option<Error>);

impl Faults {
    /// Keeps what failed, if it did; whether it did not.
    pub fn note(&mut self, outcome: Result<(), Error>) -> bool {
        let Err(error) = outcome else { return true };
        self.0.get_or_insert(error);
        false
    }

    /// To be called when everything was tried.
    pub fn end(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), Err)
    }
}

impl Error {
    /// Wraps an answer of the pipeline.
    pub(crate) fn api(doing: &'static str) -> impl FnOnce(ApiError) -> Self {
        move |source| Self::Api { doing, source }
    }

    /// Somebody else was faster, or the status says it all: tried again without a warning.
    #[must_use]
    pub fn is_race(&self) -> bool {
        match self {
            Self::Api { source, .. } => {
                source.code == 404
                    || (source.code == 409 && ["Conflict", OVERTAKEN].contains(&source.reason))
            }
            Self::Commit { source, .. } => matches!(source, CommitError::Unmet { .. }),
            Self::Left { left, .. } => left.is_race(),
            Self::Partly { .. } => true,
            Self::NoSuchKind(_)
            | Self::Refused(_)
            | Self::Look(_)
            | Self::Later
            | Self::SigningError(_) => false,
        }
    }

    /// The HTTP code behind it, when there is one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Left { left, .. } => left.code(),
            Self::Api { source, .. } => Some(source.code),
            Self::Commit { .. }
            | Self::SigningError(_)
            | Self::NoSuchKind(_)
            | Self::Refused(_)
            | Self::Look(_)
            | Self::Later
            | Self::Partly { .. } => None,
        }
    }

    /// The whole chain in one line, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}
