//! Why the hub has no keys or certificates, in words for whoever runs it.

use std::io;
use std::path::PathBuf;

use crate::authority::AuthorityError;
use crate::validity::UnsetClock;

/// Why the keys are not there.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of {what}")]
    Certificate {
        /// Whose.
        what: &'static str,
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// A file of the CA is gone but the data is there.
    #[error(
        "{0} is missing though the hub holds data: put it back from a copy of the data folder (every spoke and kubeconfig \
         trusts that CA), or move the whole folder away to begin an empty fleet"
    )]
    CaLost(PathBuf),
    /// A file of the CA is not what was written.
    #[error(
        "{0} is damaged: put it back from a copy of the data folder (every spoke and kubeconfig trusts that CA), or move \
         the whole folder away to begin an empty fleet"
    )]
    CaDamaged(PathBuf),
    /// The file of keys that values are sealed with is not what was written.
    #[error(
        "{0} is damaged: put it back from a copy of the data folder (without it nobody can read the Secrets and the keys \
         of tokens that the store holds), or move the whole folder away to begin an empty fleet"
    )]
    SealingKeysDamaged(PathBuf),
    /// The clock was never set.
    #[error("{0}, then start the hub again")]
    Clock(UnsetClock),
    /// The CA's time and the clock's do not meet.
    #[error(
        "the fleet's CA in {path} is valid from {from} to {to}, and the clock shows {now}: set the clock (a time service \
         such as chrony does), then start the hub again. Only where the clock is right is the CA of no use any more; an \
         empty folder then begins another fleet, which every device has to join anew"
    )]
    CaTime {
        /// Which.
        path: PathBuf,
        /// Its first second.
        from: String,
        /// Its last second.
        to: String,
        /// The clock.
        now: String,
    },
    /// A PEM file holds something else.
    #[error("{0} does not hold what its name says")]
    Malformed(PathBuf),
}
