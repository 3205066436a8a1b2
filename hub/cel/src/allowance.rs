//! What one evaluation may still use, counted where work is made.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes of text in a unit.
const UNIT_BYTES: u64 = 128;

/// What one evaluation may still use.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    left: AtomicU64,
    /// What each turn costs beside itself: the longest value that it may look through.
    turn: AtomicU64,
    spent: AtomicBool,
}

impl Allowance {
    /// So many units, of which a turn takes `turn` beside its own.
    pub(super) fn new(units: u64, turn: u64) -> Self {
        let (left, turn) = (AtomicU64::new(units), AtomicU64::new(turn));
        Self { left, turn, spent: AtomicBool::new(false) }
    }

    /// What is left.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Whether something was asked for that was not there.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    /// Uses so many units; whether they were there.
    pub(super) fn take(&self, units: u64) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        if self.spent.load(Ordering::Relaxed) || left < units {
            self.spent.store(true, Ordering::Relaxed);
            return false;
        }
        self.left.store(left - units, Ordering::Relaxed);
        true
    }

    /// A turn of a loop whose body has so many parts.
    pub(super) fn turn(&self, parts: u64) -> bool {
        self.take(1 + parts / 4 + self.turn.load(Ordering::Relaxed))
    }

    /// Text or a list of so many bytes, or elements.
    pub(super) fn length(&self, length: usize) -> bool {
        self.take(units(length))
    }
}

/// The units that so many bytes are.
pub(super) fn units(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX) / UNIT_BYTES
}
