//! From when to when a certificate holds.

use std::time::SystemTime;

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
    pub(crate) const fn new(now: i64, seconds: i64, back: i64) -> Self {
        Self { from: now.saturating_sub(back), to: now.saturating_add(seconds) }
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
        assert!(Validity::new(1000, 5, 10).holds(990) && !Validity::new(1000, 5, 10).holds(1006));
    }
}
