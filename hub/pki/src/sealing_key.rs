//! A key that seals what is stored.
//!
//! ```text
//! sealed  01  key's id (8)  seed (24)  AES-256-GCM(plain, and its tag)
//! ```
//!
//! Each value is sealed with a key and a nonce of its own, which HKDF-SHA-256 makes of the key and the seed: a seed of 24
//! random bytes does not come twice, however much is sealed with one key. The place of a value and all that stands before
//! the ciphertext are sealed along.
//!
//! Guarantees:
//! - what was sealed for one place opens in no other, and no changed bit opens at all
//!   (`what_is_sealed_opens_in_its_place_and_nowhere_else`);
//! - the form is frozen (`what_was_sealed_once_opens_for_ever`).

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::secret::NoRandomness;

const SEALED_VERSION: u8 = 1;
const SEED_BYTES: usize = 24;
/// Where the ciphertext begins.
const HEAD_BYTES: usize = 1 + size_of::<KeyId>() + SEED_BYTES;
const CIPHER_KEY_BYTES: usize = 32;

/// By what a key is known: made of the key, so that no two have the same and none can be taken for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// So many bytes of HKDF.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// A key that seals.
#[derive(Clone)]
pub struct SealingKey {
    id: KeyId,
    secret: Prk,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

impl SealingKey {
    /// The key that these bytes stand for, 16 at least of good randomness.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        let secret = Salt::new(HKDF_SHA256, b"freewheel sealing key 1").extract(secret);
        let mut id = [0; size_of::<KeyId>()];
        // Were there none, all would have the same: whoever opens tries no other.
        let _ = derive(&secret, b"id", &mut id);
        Self { id: KeyId(id), secret }
    }

    /// By what it is known.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key that something was sealed with.
    #[must_use]
    pub fn of_sealed(sealed: &[u8]) -> Option<KeyId> {
        let (version, rest) = sealed.split_first()?;
        (*version == SEALED_VERSION).then_some(KeyId(*rest.first_chunk()?))
    }

    /// Adds the sealed form of `plain` to `out`. It opens in this place alone.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn seal(&self, place: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), NoRandomness> {
        let mut seed = [0; SEED_BYTES];
        SystemRandom::new().fill(&mut seed).map_err(|_| NoRandomness)?;
        self.seal_by(seed, place, plain, out).ok_or(NoRandomness)
    }

    fn seal_by(
        &self,
        seed: [u8; SEED_BYTES],
        place: &[u8],
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let begin = out.len();
        out.push(SEALED_VERSION);
        out.extend(self.id.0);
        out.extend(seed);
        let along = Aad::from([&out[begin..], place].concat());
        let body = out.len();
        out.extend(plain);
        let (cipher, nonce) = self.cipher(&seed)?;
        let tag = cipher.seal_in_place_separate_tag(nonce, along, &mut out[body..]).ok()?;
        out.extend(tag.as_ref());
        Some(())
    }

    /// What was sealed with this key for this place; `None` where it was not.
    #[must_use]
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (head, body) = sealed.split_at_checked(HEAD_BYTES)?;
        if Self::of_sealed(head) != Some(self.id) {
            return None;
        }
        let (cipher, nonce) = self.cipher(head.get(HEAD_BYTES - SEED_BYTES..)?)?;
        let (along, mut plain) = (Aad::from([head, place].concat()), body.to_vec());
        let length = cipher.open_in_place(nonce, along, &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    fn cipher(&self, seed: &[u8]) -> Option<(LessSafeKey, Nonce)> {
        let mut made = [0; CIPHER_KEY_BYTES + NONCE_LEN];
        derive(&self.secret, seed, &mut made)?;
        let (key, nonce) = made.split_at(CIPHER_KEY_BYTES);
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        Some((cipher, Nonce::try_assume_unique_for_key(nonce).ok()?))
    }
}

/// Fills `out`, which is shorter than the 8,160 bytes that HKDF can make.
fn derive(secret: &Prk, about: &[u8], out: &mut [u8]) -> Option<()> {
    let about = [about];
    secret.expand(&about, Length(out.len())).and_then(|made| made.fill(out)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &[u8] = b"secrets\0root\0default\0a";

    #[test]
    fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
        let (key, other) = (SealingKey::of(&[1; 32]), SealingKey::of(&[2; 32]));
        let mut sealed = b"before".to_vec();
        key.seal(PLACE, b"a secret of somebody", &mut sealed).unwrap();
        let sealed = sealed.strip_prefix(b"before").unwrap();
        assert_eq!(SealingKey::of_sealed(sealed), Some(key.id()));
        assert_eq!(key.open(PLACE, sealed).unwrap(), b"a secret of somebody");
        assert_eq!(key.open(b"secrets\0root\0default\0b", sealed), None);
        assert_eq!(other.open(PLACE, sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(PLACE, &flipped), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key.open(PLACE, &sealed[..length]), None, "{length} bytes");
        }
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let mut again = Vec::new();
        key.seal(PLACE, b"a secret of somebody", &mut again).unwrap();
        assert_ne!(again, sealed, "nobody sees that it is the same");
        assert_eq!(again.len(), HEAD_BYTES + 20 + AES_256_GCM.tag_len());
        for length in [0, 1, 100_000] {
            let (plain, mut sealed) = (vec![7; length], Vec::new());
            key.seal(PLACE, &plain, &mut sealed).unwrap();
            assert!(key.open(PLACE, &sealed).unwrap() == plain);
        }
    }

    #[test]
    fn what_was_sealed_once_opens_for_ever() {
        let (key, mut sealed) = (SealingKey::of(&[3; 32]), Vec::new());
        key.seal_by([4; SEED_BYTES], PLACE, b"frozen", &mut sealed).unwrap();
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, FROZEN);
        assert_eq!(key.open(PLACE, &sealed).unwrap(), b"frozen");
    }

    /// Version, id, seed, and the ciphertext with its tag.
    const FROZEN: &str = "0112306e7f0c26fcc1040404040404040404040404040404040404040404040404f1410e3968b305e12986a744fcfea7\
        d0d25b6f7f2dc6";
}
