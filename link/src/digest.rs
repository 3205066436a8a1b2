//! Content addresses, and the fingerprint of a whole set.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 content address, written `sha256:<64 hex>` as in the OCI image spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

/// Why a string is no [`Digest`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest (sha256: and 64 hex digits)")]
pub struct NotADigest(pub String);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        use std::fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut out, byte| {
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Digest {
    type Err = NotADigest;

    fn from_str(raw: &str) -> Result<Self, NotADigest> {
        let bad = || NotADigest(raw.chars().take(100).collect());
        let hex = raw.strip_prefix("sha256:").ok_or_else(bad)?.as_bytes();
        let mut out = [0; 32];
        if hex.len() != 64 {
            return Err(bad());
        }
        for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| match c {
                b'0'..=b'9' => Some(c - b'0'),
                b'a'..=b'f' => Some(c - b'a' + 10),
                _ => None,
            };
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return Err(bad()),
            }
        }
        Ok(Self(out))
    }
}

/// Fingerprint of a set of records, kept up to date by adding and removing members in any order.
///
/// The sum of the members' digests in four 64-bit lanes: equal sets have equal sums, and one
/// member more or less changes it. It finds drift; it is no defence against a hostile hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDigest([u64; 4]);

impl SetDigest {
    /// Takes a member in.
    pub fn add(&mut self, member: &Digest) {
        self.join(Self(lanes(member)));
    }

    /// Takes a member out.
    pub fn remove(&mut self, member: &Digest) {
        for (lane, value) in self.0.iter_mut().zip(lanes(member)) {
            *lane = lane.wrapping_sub(value);
        }
    }

    /// Takes all members of another set in, of which none is here.
    pub fn join(&mut self, other: Self) {
        for (lane, value) in self.0.iter_mut().zip(other.0) {
            *lane = lane.wrapping_add(value);
        }
    }
}

fn lanes(member: &Digest) -> [u64; 4] {
    let mut out = [0; 4];
    for (lane, bytes) in out.iter_mut().zip(member.0.chunks_exact(8)) {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        *lane = u64::from_le_bytes(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = Digest::of(b"freewheel");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:zz".parse::<Digest>().is_err());
        assert!("sha256:".parse::<Digest>().is_err());
    }

    #[test]
    fn a_set_digest_forgets_order_and_removed_members() {
        let member = |text: &str| Digest::of(text.as_bytes());
        let mut left = SetDigest::default();
        left.add(&member("a"));
        left.add(&member("b"));
        let mut right = SetDigest::default();
        right.add(&member("b"));
        right.add(&member("c"));
        right.add(&member("a"));
        assert_ne!(left, right);
        right.remove(&member("c"));
        assert_eq!(left, right);
        let (mut halves, mut other) = (SetDigest::default(), SetDigest::default());
        halves.add(&member("a"));
        other.add(&member("b"));
        halves.join(other);
        assert_eq!(left, halves);
    }
}
