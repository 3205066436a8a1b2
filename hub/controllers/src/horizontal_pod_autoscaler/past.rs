//! What was recommended and done before: it is in memory alone, and begins with the number that there is.
//!
//! Times are told from any one moment by a clock that nobody sets.
//!
//! Guarantees:
//! - who remembers nothing recommends what there is, so that nothing is scaled down at once after a restart
//!   (`who_remembers_nothing_recommends_what_there_is`);
//! - what counts no more is forgotten (`what_counts_no_more_is_forgotten`).

use std::time::Duration;

use super::behavior::Behavior;

/// What is remembered of one autoscaler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// What was recommended, before anything held it back.
    recommended: Vec<Moment>,
    /// By how many there came to be more.
    added: Vec<Moment>,
    /// By how many there came to be fewer.
    removed: Vec<Moment>,
}

/// A number, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    number: i32,
    at: Duration,
}

impl Past {
    /// Of one that is seen for the first time, while its target has so many.
    #[must_use]
    pub fn beginning(replicas: i32, now: Duration) -> Self {
        let recommended = vec![Moment { number: replicas, at: now }];
        Self { recommended, added: Vec::new(), removed: Vec::new() }
    }

    /// Recommendations that are not older than the window.
    pub fn recommended_within(
        &self,
        window: Duration,
        now: Duration,
    ) -> impl Iterator<Item = i32> + '_ {
        let young = move |one: &&Moment| now.saturating_sub(one.at) <= window;
        self.recommended.iter().filter(young).map(|one| one.number)
    }

    /// Recommendations that are younger than the window.
    pub fn recommended_since(
        &self,
        window: Duration,
        now: Duration,
    ) -> impl Iterator<Item = i32> + '_ {
        let young = move |one: &&Moment| now.saturating_sub(one.at) < window;
        self.recommended.iter().filter(young).map(|one| one.number)
    }

    /// How many there were a while ago, when there are so many now.
    #[must_use]
    pub fn replicas_before(&self, current: i32, period: Duration, now: Duration) -> i64 {
        let young = |one: &&Moment| now.saturating_sub(one.at) < period;
        let sum = |all: &[Moment]| -> i64 {
            all.iter().filter(young).map(|one| i64::from(one.number)).sum()
        };
        i64::from(current) - sum(&self.added) + sum(&self.removed)
    }

    /// Remembers what is recommended now, and forgets what counts no more.
    pub fn recommend(&mut self, replicas: i32, window: Duration, now: Duration) {
        self.recommended.retain(|one| now.saturating_sub(one.at) <= window);
        self.recommended.push(Moment { number: replicas, at: now });
    }

    /// Remembers that there come to be so many in place of so many; without a behavior nobody asks for that.
    pub fn rescaled(&mut self, (before, after): (i32, i32), behavior: &Behavior, now: Duration) {
        let young = |period: Duration| move |one: &Moment| now.saturating_sub(one.at) < period;
        self.added.retain(young(behavior.longest_period()));
        self.removed.retain(young(behavior.longest_period()));
        let change = after.saturating_sub(before);
        let (list, number) = if 0 < change {
            (&mut self.added, change)
        } else {
            (&mut self.removed, change.saturating_neg())
        };
        list.push(Moment { number, at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn within(past: &Past, window: u64, now: u64) -> Vec<i32> {
        past.recommended_within(secs(window), secs(now)).collect()
    }

    #[test]
    fn who_remembers_nothing_recommends_what_there_is() {
        let past = Past::beginning(7, secs(100));
        assert_eq!(within(&past, 300, 400), [7]);
        assert_eq!(within(&past, 300, 401), [] as [i32; 0]);
        assert_eq!(past.recommended_since(secs(300), secs(400)).count(), 0);
        assert_eq!(past.replicas_before(7, secs(60), secs(100)), 7);
    }

    #[test]
    fn what_counts_no_more_is_forgotten() {
        let mut past = Past::beginning(1, secs(0));
        for second in 1..1000 {
            past.recommend(2, secs(60), secs(second));
        }
        assert_eq!(past.recommended.len(), 61);
        let usual = Behavior::read(&Default::default());
        for second in 1..1000 {
            past.rescaled((1, 3), &usual, secs(second));
            past.rescaled((3, 2), &usual, secs(second));
        }
        assert_eq!((past.added.len(), past.removed.len()), (15, 15));
        // Those of the last fifteen seconds: two more and one fewer in each.
        assert_eq!(past.replicas_before(50, secs(15), secs(999)), 50 - 30 + 15);
    }
}
