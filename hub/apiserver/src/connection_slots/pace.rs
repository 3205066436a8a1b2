//! For how long a stranger is let be when places are short: as long as those whom we know took lately, a few times
//! over.
//!
//! What a handshake takes depends on the machine and on how many shake hands at once. After a restart thousands of
//! clients come back together, and each of them takes a second; while strangers flood an idle machine, milliseconds.
//!
//! Guarantees:
//! - who takes no longer than others is let be, whatever they take
//!   (`a_stranger_is_let_be_as_long_as_the_known_take_a_few_times_over`).

use std::collections::VecDeque;
use std::time::Duration;

/// So many of the last whom we know.
const HANDSHAKES_REMEMBERED: usize = 8;
/// Of the quickest of them, so that one over a slow link does not slow the line.
const GRACE_PER_HANDSHAKE: u32 = 4;
/// While we know nobody yet.
const STRANGER_GRACE_DEFAULT: Duration = Duration::from_millis(500);
/// Never less: a round trip or two.
const STRANGER_GRACE_MIN: Duration = Duration::from_millis(100);
/// Never more: strangers come in at most that slowly.
pub(super) const STRANGER_GRACE_MAX: Duration = Duration::from_secs(2);

/// What those took lately whom we know, from their coming.
#[derive(Default)]
pub(super) struct Pace(VecDeque<Duration>);

impl Pace {
    /// So long it was until somebody was known.
    pub(super) fn note(&mut self, took: Duration) {
        self.0.truncate(HANDSHAKES_REMEMBERED - 1);
        self.0.push_front(took);
    }

    /// No stranger is sent away earlier.
    pub(super) fn grace(&self) -> Duration {
        let quickest = self.0.iter().min();
        quickest.map_or(STRANGER_GRACE_DEFAULT, |took| {
            took.saturating_mul(GRACE_PER_HANDSHAKE).clamp(STRANGER_GRACE_MIN, STRANGER_GRACE_MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_let_be_as_long_as_the_known_take_a_few_times_over() {
        let mut pace = Pace::default();
        assert_eq!(pace.grace(), STRANGER_GRACE_DEFAULT);
        let mut takes = |millis: &[u64]| {
            millis.iter().for_each(|millis| pace.note(Duration::from_millis(*millis)));
            pace.grace().as_millis()
        };
        assert_eq!(takes(&[50]), 200);
        assert_eq!(takes(&[1_500, 60, 90]), 200, "one is slow");
        assert_eq!(takes(&[300; HANDSHAKES_REMEMBERED]), 1_200, "all are");
        assert_eq!(takes(&[10]), 100);
        assert_eq!(takes(&[9_000; HANDSHAKES_REMEMBERED]), 2_000);
    }
}
