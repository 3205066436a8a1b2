//! What was acknowledged, as a second opinion beside the database.
//!
//! redb repairs a database by going back to the commit before, which is right after a power cut and wrong
//! when the newest pages have rotted: what was acknowledged would be gone without a word. So the revision of
//! every acknowledged batch is written into a small file of its own. It is not synced, or every commit would
//! wait twice: after a power cut it may be behind, and is never ahead.
//!
//! Guarantees:
//! - a witness that does not make sense is none (`a_witness_that_was_cut_or_flipped_is_none`).

use super::encoding::sum_of;
use crate::Revision;

/// Bytes of it: the revision and its sum.
pub(super) const WITNESS_BYTES: usize = 16;

pub(super) fn encode(revision: Revision) -> [u8; WITNESS_BYTES] {
    let mut out = [0; WITNESS_BYTES];
    out[..8].copy_from_slice(&revision.to_le_bytes());
    out[8..].copy_from_slice(&sum_of(&[revision]).to_le_bytes());
    out
}

pub(super) fn decode(bytes: &[u8]) -> Option<Revision> {
    let (revision, sum) = bytes.split_at_checked(8)?;
    let revision = u64::from_le_bytes(revision.try_into().ok()?);
    (u64::from_le_bytes(sum.try_into().ok()?) == sum_of(&[revision])).then_some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_that_was_cut_or_flipped_is_none() {
        let whole = encode(300);
        assert_eq!(decode(&whole), Some(300));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        for length in 0..WITNESS_BYTES {
            assert_eq!(decode(&whole[..length]), None);
        }
        assert_eq!(decode(&[0; WITNESS_BYTES]), None);
    }
}
