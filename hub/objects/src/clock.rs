//! Time and chance as traits, so that a whole fleet can run again exactly from one seed.

use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Wall-clock time.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the Unix epoch.
    fn unix_nanos(&self) -> i128;

    /// Whole seconds since the Unix epoch.
    fn unix_seconds(&self) -> i64 {
        i64::try_from(self.unix_nanos().div_euclid(1_000_000_000)).unwrap_or(i64::MAX)
    }

    /// Whole milliseconds since the Unix epoch; 0 before it.
    fn unix_millis(&self) -> u64 {
        u64::try_from(self.unix_nanos().div_euclid(1_000_000)).unwrap_or_default()
    }
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_nanos(&self) -> i128 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
    }
}

/// Random bytes for UIDs, generated names and allocated addresses.
pub trait Random: Send + Sync {
    /// 16 random bytes.
    fn bytes(&self) -> [u8; 16];

    /// A random number below `limit`, which must not be 0.
    fn below(&self, limit: u32) -> u32 {
        let [a, b, c, d, ..] = self.bytes();
        u32::from_le_bytes([a, b, c, d]) % limit.max(1)
    }
}

/// The host's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn bytes(&self) -> [u8; 16] {
        // A version 4 UUID has six fixed bits; two of them together leave none fixed.
        let (one, two) = (uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes());
        let mut mixed = one;
        mixed.iter_mut().zip(two.iter().rev()).for_each(|(a, b)| *a ^= b);
        mixed
    }
}

/// The same numbers from the same seed.
#[derive(Debug)]
pub struct SeededRandom(Mutex<fastrand::Rng>);

impl SeededRandom {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Random for SeededRandom {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.lock().fill(&mut bytes);
        bytes
    }
}
