//! What is added to a frozen struct later: parts, each with its kind and its bytes.
//!
//! ```text
//! core (frozen) | parts: (kind, bytes) …      a reader takes the kinds that it knows, and leaves the others
//! ```
//!
//! A part never changes what the core says. What must be understood to honour a record is a bit of its `needs`,
//! which is read without the body.
//!
//! Guarantees:
//! - a part of an unknown kind does not keep anybody from reading the rest
//!   (`an_older_reader_takes_what_it_knows_of_newer_parts`);
//! - one that is known and cannot be read is an error, not an absence (`a_known_part_that_cannot_be_read_is_an_error`).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A struct that travels as a part. Its kind is on the wire and in the ledger: never reuse one.
pub trait InPart: Serialize + DeserializeOwned {
    /// Its number, among the parts of what it belongs to.
    const KIND: u16;
}

/// What the parts of one thing that a spoke tells may take ([`Parts::weight`]).
pub const PARTS_BYTES_MAX: usize = 16 << 10;

/// The parts of a record or a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(Vec<(u16, Vec<u8>)>);

/// Why a part could not be read.
#[derive(Debug, thiserror::Error)]
#[error("part {kind} cannot be read")]
pub struct BadPart {
    /// Its kind.
    pub kind: u16,
    /// The decoder's complaint.
    #[source]
    pub source: postcard::Error,
}

impl Parts {
    /// Puts a part in, in place of the one of its kind.
    ///
    /// # Errors
    /// When it cannot be encoded, which no part of this crate can cause.
    pub fn put<T: InPart>(&mut self, part: &T) -> Result<(), BadPart> {
        let bytes =
            postcard::to_stdvec(part).map_err(|source| BadPart { kind: T::KIND, source })?;
        self.0.retain(|(kind, _)| *kind != T::KIND);
        self.0.push((T::KIND, bytes));
        self.0.sort_by_key(|(kind, _)| *kind);
        Ok(())
    }

    /// The part of this kind, if there is one.
    ///
    /// # Errors
    /// When its bytes are no `T`, or too many.
    pub fn get<T: InPart>(&self) -> Result<Option<T>, BadPart> {
        let bad = |source| BadPart { kind: T::KIND, source };
        let Some((_, bytes)) = self.0.iter().find(|(kind, _)| *kind == T::KIND) else {
            return Ok(None);
        };
        let (part, rest) = postcard::take_from_bytes(bytes).map_err(bad)?;
        if rest.is_empty() {
            Ok(Some(part))
        } else {
            Err(bad(postcard::Error::DeserializeBadEncoding))
        }
    }

    /// What they take.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes.len() + 8).sum()
    }

    /// Leaves all of them out where they are more than [`PARTS_BYTES_MAX`]; whether they were. One of them alone would
    /// say something else than the whole.
    pub fn bound(&mut self) -> bool {
        let over = PARTS_BYTES_MAX < self.weight();
        if over {
            self.0 = Vec::new();
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Old(u8);

    impl InPart for Old {
        const KIND: u16 = 1;
    }

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct New(String);

    impl InPart for New {
        const KIND: u16 = 300;
    }

    #[test]
    fn an_older_reader_takes_what_it_knows_of_newer_parts() {
        let mut parts = Parts::default();
        parts.put(&New("later".into())).unwrap();
        parts.put(&Old(6)).unwrap();
        parts.put(&Old(7)).unwrap();
        let bytes = postcard::to_stdvec(&parts).unwrap();
        let read: Parts = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(read, parts);
        assert_eq!(read.get::<Old>().unwrap(), Some(Old(7)));
        assert_eq!(Parts::default().get::<Old>().unwrap(), None);
        assert!(bytes.len() <= 1 + read.weight());
    }

    #[test]
    fn a_known_part_that_cannot_be_read_is_an_error() {
        for bytes in [vec![], vec![7, 7]] {
            let parts = Parts(vec![(1, bytes)]);
            assert!(parts.get::<Old>().is_err());
        }
    }
}
