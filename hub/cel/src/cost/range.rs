//! From so many to so many; beyond the largest number there is none.

/// How much there is, or what it costs, at least and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) least: u64,
    pub(super) most: u64,
}

impl Range {
    /// Nobody knows.
    pub(super) const UNKNOWN: Self = Self { least: 0, most: u64::MAX };
    /// Nothing yet: what is added by [`Range::union`] counts alone.
    pub(super) const NONE: Self = Self { least: u64::MAX, most: 0 };

    pub(super) const fn of(least: u64, most: u64) -> Self {
        Self { least, most }
    }

    /// So many and no other.
    pub(super) const fn exactly(count: u64) -> Self {
        Self { least: count, most: count }
    }

    pub(super) const fn add(self, other: Self) -> Self {
        let least = self.least.saturating_add(other.least);
        Self { least, most: self.most.saturating_add(other.most) }
    }

    pub(super) const fn times(self, other: Self) -> Self {
        let least = self.least.saturating_mul(other.least);
        Self { least, most: self.most.saturating_mul(other.most) }
    }

    /// With what one of them costs, rounded up.
    pub(super) fn at(self, each: f64) -> Self {
        Self { least: at(self.least, each), most: at(self.most, each) }
    }

    /// What holds both.
    pub(super) fn union(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

/// In floating point, as upstream: 70 at 0.1 are 8.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast stops at the largest number, and nothing here is negative"
)]
fn at(count: u64, each: f64) -> u64 {
    (count as f64 * each).ceil() as u64
}
