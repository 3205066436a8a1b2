//! From when to when a certificate holds, and a clock by which none is made.
//!
//! Guarantees:
//! - whoever has no time that can be has no life for a certificate
//!   (`no_certificate_has_a_life_by_a_clock_that_was_never_set`).

use std::time::SystemTime;

use freewheel_link::tls::BUILT_UNIX_SECONDS;
use rcgen::CertificateParams;
use time::OffsetDateTime;

pub(crate) const HOUR_SECONDS: i64 = 3600;
pub(crate) const DAY_SECONDS: i64 = 24 * HOUR_SECONDS;

/// The wall clock, in Unix seconds.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The clock was never set, or has lost its time.
#[derive(Debug, thiserror::Error)]
#[error(
    "the clock shows {0}, which is before this software was made, and certificates made now would be of no use: set the \
     clock (a time service such as chrony does)"
)]
pub struct UnsetClock(String);

/// Whether certificates may be made at this Unix second.
///
/// # Errors
/// When it is before this software was made.
pub fn check_clock(now: i64) -> Result<(), UnsetClock> {
    if u64::try_from(now).unwrap_or_default() < BUILT_UNIX_SECONDS {
        return Err(UnsetClock(stamp(now)));
    }
    Ok(())
}

/// A Unix second for people.
pub(crate) fn stamp(second: i64) -> String {
    jiff::Timestamp::from_second(second).unwrap_or_default().to_string()
}

/// The first and the last second of a certificate, in Unix time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// The first.
    pub from: i64,
    /// The last.
    pub to: i64,
}

impl Validity {
    /// So long from now on, and back for the other side's clock, which may be behind.
    ///
    /// # Errors
    /// When the clock was never set.
    pub(crate) fn new(now: i64, seconds: i64, back: i64) -> Result<Self, UnsetClock> {
        check_clock(now)?;
        Ok(Self { from: now.saturating_sub(back), to: now.saturating_add(seconds) })
    }

    /// Whether a certificate has to be made anew: less than a quarter of its life is left, or it begins in what the
    /// clock now takes for the future.
    #[must_use]
    pub const fn is_due(self, now: i64) -> bool {
        now < self.from || self.to - now < (self.to - self.from) / 4
    }

    /// Whether it holds now.
    #[must_use]
    pub const fn holds(self, now: i64) -> bool {
        self.from <= now && now <= self.to
    }

    /// Whole days until its end.
    #[must_use]
    pub const fn days_left(self, now: i64) -> i64 {
        (self.to - now) / DAY_SECONDS
    }

    pub(crate) fn put(self, params: &mut CertificateParams) {
        let at = |second| {
            OffsetDateTime::from_unix_timestamp(second).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        (params.not_before, params.not_after) = (at(self.from), at(self.to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_before_its_end_a_new_one_is_due() {
        let due = |from, to, now| Validity { from, to }.is_due(now);
        assert!(!due(0, 400, 300) && due(0, 400, 301) && due(500, 900, 400));
    }

    #[test]
    fn no_certificate_has_a_life_by_a_clock_that_was_never_set() {
        let built = i64::try_from(BUILT_UNIX_SECONDS).unwrap();
        let life = Validity::new(built, 5, 10).unwrap();
        assert!(life.holds(built - 10) && !life.holds(built + 6));
        for never in [built - 1, 4, -1] {
            assert!(Validity::new(never, 5, 10).is_err(), "{never}");
        }
        let said = check_clock(4).unwrap_err().to_string();
        assert!(said.starts_with("the clock shows 1970-01-01T00:00:04Z"), "{said}");
    }
}
