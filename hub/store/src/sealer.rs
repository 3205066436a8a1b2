//! What lies sealed on the disk of a durable backend, seen from the backend. In memory, in watches and in answers
//! everything is as it was written.

/// Why a value cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was sealed with a key that is not there; with what a person can do.
    #[error("{0}")]
    NoKey(String),
    /// It is not what was sealed, or it was sealed for another place.
    #[error("a sealed value is not what was written under its key")]
    Altered,
    /// The system gives no random bytes.
    #[error("the system's randomness failed")]
    NoRandomness,
}

/// Seals values on their way to the disk, and opens them when a store is opened. `place` is the bytes of the key that a
/// value lies under: sealed for one place it cannot be opened in another.
pub trait Sealer: Send + Sync + 'static {
    /// Whether values of this resource are to be sealed.
    fn seals(&self, resource: &str) -> bool;

    /// Adds the sealed form of `plain` to `out`.
    ///
    /// # Errors
    /// When there is no key, or no randomness.
    fn seal(
        &self,
        resource: &str,
        place: &[u8],
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError>;

    /// What was sealed.
    ///
    /// # Errors
    /// When its key is not there, or it is not what was sealed for this place.
    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Whether a value lies as it would be written now; `sealed` is `None` for one that lies open.
    fn is_current(&self, resource: &str, sealed: Option<&[u8]>) -> bool;
}

/// Nothing is sealed, and nothing that is sealed can be opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsealed;

impl Sealer for Unsealed {
    fn seals(&self, _: &str) -> bool {
        false
    }

    fn seal(&self, _: &str, _: &[u8], _: &[u8], _: &mut Vec<u8>) -> Result<(), SealError> {
        Err(no_keys())
    }

    fn open(&self, _: &[u8], _: &[u8]) -> Result<Vec<u8>, SealError> {
        Err(no_keys())
    }

    fn is_current(&self, _: &str, sealed: Option<&[u8]>) -> bool {
        sealed.is_none()
    }
}

fn no_keys() -> SealError {
    SealError::NoKey("values are sealed, and there are no keys".to_owned())
}

/// What one step of [resealing](crate::redb::RedbStore::reseal) has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Where the next step begins; `None` when everything was looked at.
    pub next: Option<Vec<u8>>,
    /// Values that were written anew.
    pub rewritten: usize,
    /// Why one could not be, whose key is gone: it lies as it lay.
    pub lost: Option<String>,
}
