//! What one evaluation may still use: work, and bytes of values that are there at a time. It is counted where work and
//! values are made.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::common::value::Val;

use crate::failed::{Failed, MADE_BYTES_MAX};
use crate::weight::{Misfit, compared, weight};

/// Bytes of a value in a unit.
const UNIT_BYTES: u64 = 128;

/// What one evaluation may still use.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    left: AtomicU64,
    /// Bytes of what was made and is there, and of what stays until all is over.
    made: AtomicU64,
    kept: AtomicU64,
    ended: OnceLock<Failed>,
}

impl Allowance {
    /// So many units, beside values of so many bytes that stay.
    pub(super) fn new(units: u64, kept: u64) -> Self {
        Self { left: units.into(), kept: kept.into(), ..Self::default() }
    }

    /// What is left.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Bytes that stay.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// What was asked for that was not there.
    pub(super) fn ended(&self) -> Option<&Failed> {
        self.ended.get()
    }

    fn end<T>(&self, why: Failed) -> Option<T> {
        let _ = self.ended.set(why);
        None
    }

    /// Uses so many units; whether they were there.
    pub(super) fn take(&self, units: u64) -> bool {
        let left = self.left();
        if self.ended().is_some() {
            return false;
        }
        if left < units {
            return self.end::<()>(Failed::TooMuchWork).is_some();
        }
        self.left.store(left - units, Ordering::Relaxed);
        true
    }

    /// A turn of a loop whose body has so many parts.
    pub(super) fn turn(&self, parts: u64) -> bool {
        self.take(1 + parts / 4)
    }

    /// Looks at so many bytes.
    pub(super) fn walk(&self, bytes: usize) -> bool {
        self.take(units(bytes))
    }

    /// Whether there is room for values of so many bytes, which are looked at.
    pub(super) fn room(&self, bytes: usize) -> bool {
        self.walk(bytes) && self.fits(bytes)
    }

    fn fits(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let there = self.mark().saturating_add(self.kept());
        let fits = there.saturating_add(bytes) <= MADE_BYTES_MAX;
        fits || self.end::<()>(Failed::TooMuchMade).is_some()
    }

    /// Makes values of so many bytes, which were looked at.
    pub(super) fn make(&self, bytes: usize) -> bool {
        let fits = self.fits(bytes);
        if fits {
            self.made.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        fits
    }

    /// Bytes that a value has, when there is work left to look at it.
    pub(super) fn weigh(&self, value: &(dyn Val + '_)) -> Option<usize> {
        match weight(value, self.reach()) {
            Ok(bytes) => self.walk(bytes).then_some(bytes),
            Err(Misfit::TooLong) => self.end(Failed::TooMuchWork),
            Err(Misfit::TooDeep) => self.end(Failed::TooMuchMade),
        }
    }

    /// Whether there is work left to compare two values.
    pub(super) fn compares(&self, one: &(dyn Val + '_), other: &(dyn Val + '_)) -> bool {
        match compared(one, other, self.reach()) {
            Some(bytes) => self.walk(bytes),
            None => self.end::<()>(Failed::TooMuchWork).is_some(),
        }
    }

    /// Bytes that may still be looked at.
    fn reach(&self) -> usize {
        let most = self.left().saturating_add(1).saturating_mul(UNIT_BYTES);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// What was made until now.
    pub(super) fn mark(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Of what was made since then, this much is still there.
    pub(super) fn back_to(&self, mark: u64, bytes: usize) -> bool {
        self.made.store(mark.min(self.mark()), Ordering::Relaxed);
        self.make(bytes)
    }

    /// A value of so many bytes stays until all is over.
    pub(super) fn keep(&self, bytes: usize) -> bool {
        let fits = self.room(bytes);
        if fits {
            self.kept.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        fits
    }
}

/// The units that so many bytes are.
pub(super) fn units(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX) / UNIT_BYTES
}
