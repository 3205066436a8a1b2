//! A sealer that keeps nothing from anybody and shows what the store does with one.

use std::sync::atomic::{AtomicU8, Ordering};

use freewheel_hub_store::{SealError, Sealer};

/// Seals secrets with its key, by turning bits; with key 0 they lie open. It opens what any key up to the largest has
/// sealed.
pub(crate) struct Toy {
    pub(crate) key: AtomicU8,
    pub(crate) largest: u8,
}

impl Toy {
    pub(crate) fn with(key: u8) -> Self {
        Self { key: AtomicU8::new(key), largest: u8::MAX }
    }

    fn key(&self) -> u8 {
        self.key.load(Ordering::SeqCst)
    }
}

/// What a sealed value says of its place.
fn mark(place: &[u8]) -> u8 {
    place.iter().fold(7, |mark: u8, byte| mark.wrapping_mul(31).wrapping_add(*byte))
}

impl Sealer for Toy {
    fn seals(&self, resource: &str) -> bool {
        resource == "secrets" && self.key() != 0
    }

    fn seal(
        &self,
        _: &str,
        place: &[u8],
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let key = self.key();
        out.extend([key, mark(place)]);
        out.extend(plain.iter().map(|byte| byte ^ key));
        Ok(())
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        match sealed {
            [key, ..] if self.largest < *key => {
                Err(SealError::NoKey(format!("key {key} is not in the keyring")))
            }
            [key, marked, rest @ ..] if *marked == mark(place) => {
                Ok(rest.iter().map(|byte| byte ^ key).collect())
            }
            _ => Err(SealError::Altered),
        }
    }

    fn is_current(&self, resource: &str, sealed: Option<&[u8]>) -> bool {
        let sealed_with = sealed.and_then(|sealed| sealed.first().copied());
        self.seals(resource).then(|| self.key()) == sealed_with
    }
}
