//! What holds a recommendation back: the bounds, the past, and how fast it may be followed. Pure.
//!
//! ```text
//! recommended ─stabilized by the past─▶ ─within bounds and rates─▶ what there are to be
//! ```
//!
//! Guarantees:
//! - without a behavior fewer are wanted only when that was so for five minutes, and more come by doubling, or four
//!   (`without_a_behavior_it_doubles_and_waits_before_it_shrinks`);
//! - with one its windows and policies say so (`windows_hold_back_both_ways`, `policies_bound_changes_in_their_period`).

use std::time::Duration;

use super::behavior::{Behavior, DOWNSCALE_STABILIZATION, Rules, SelectPolicy, Step};
use super::past::Past;

/// Without a behavior they may double at a time, or become so many.
const SCALE_UP_REPLICAS_MIN: i64 = 4;

/// What is recommended, and between what it may be.
#[derive(Clone, Copy, Debug)]
pub struct Recommendation {
    /// How many there are.
    pub current: i32,
    /// How many the metrics ask for.
    pub wanted: i32,
    /// Fewest.
    pub least: i32,
    /// Most.
    pub most: i32,
}

/// What is left of a recommendation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// How many there are to be.
    pub replicas: i32,
    /// How the past has changed it.
    pub stabilized: Stabilized,
    /// Which bound it has met.
    pub bound: Bound,
}

/// How the past has changed a recommendation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stabilized {
    /// Not at all.
    No,
    /// Fewer were recommended just now.
    Up,
    /// More were recommended just now.
    Down,
}

/// Which bound a recommendation has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// None.
    Within,
    /// The fewest that there may be.
    Fewest,
    /// The most that there may be.
    Most,
    /// How fast there may be more.
    UpRate,
    /// How fast there may be fewer.
    DownRate,
}

impl Stabilized {
    /// Reason and message of the condition.
    #[must_use]
    pub const fn reason_and_message(self) -> (&'static str, &'static str) {
        match self {
            Self::No => ("ReadyForNewScale", "recommended size matches current size"),
            Self::Up => (
                "ScaleUpStabilized",
                "recent recommendations were lower than current one, applying the lowest recent recommendation",
            ),
            Self::Down => (
                "ScaleDownStabilized",
                "recent recommendations were higher than current one, applying the highest recent recommendation",
            ),
        }
    }
}

impl Bound {
    /// Reason and message of the condition.
    #[must_use]
    pub const fn reason_and_message(self) -> (&'static str, &'static str) {
        match self {
            Self::Within => {
                ("DesiredWithinRange", "the desired count is within the acceptable range")
            }
            Self::Fewest => (
                "TooFewReplicas",
                "the desired replica count is less than the minimum replica count",
            ),
            Self::Most => (
                "TooManyReplicas",
                "the desired replica count is more than the maximum replica count",
            ),
            Self::UpRate => (
                "ScaleUpLimit",
                "the desired replica count is increasing faster than the maximum scale rate",
            ),
            Self::DownRate => (
                "ScaleDownLimit",
                "the desired replica count is decreasing faster than the maximum scale rate",
            ),
        }
    }
}

/// What is left of it.
#[must_use]
pub fn limited(
    asked: Recommendation,
    behavior: Option<&Behavior>,
    past: &Past,
    now: Duration,
) -> Limited {
    match behavior {
        None => plain(asked, past, now),
        Some(behavior) => behaved(asked, behavior, past, now),
    }
}

fn plain(asked: Recommendation, past: &Past, now: Duration) -> Limited {
    let Recommendation { current, wanted, least, most } = asked;
    let before = past.recommended_within(DOWNSCALE_STABILIZATION, now).max();
    let stable = before.map_or(wanted, |before| before.max(wanted));
    let stabilized = if stable == wanted { Stabilized::No } else { Stabilized::Down };
    let rate = clamped((2 * i64::from(current)).max(SCALE_UP_REPLICAS_MIN));
    let (most, above) = if rate < most { (rate, Bound::UpRate) } else { (most, Bound::Most) };
    let (replicas, bound) = if stable < least {
        (least, Bound::Fewest)
    } else if most < stable {
        (most, above)
    } else {
        (stable, Bound::Within)
    };
    Limited { replicas, stabilized, bound }
}

fn behaved(asked: Recommendation, behavior: &Behavior, past: &Past, now: Duration) -> Limited {
    let Recommendation { current, wanted, least, most } = asked;
    let lowest = past.recommended_since(behavior.up.window, now).fold(wanted, i32::min);
    let highest = past.recommended_since(behavior.down.window, now).fold(wanted, i32::max);
    // Between what was recommended at least for more, and at most for fewer.
    let stable = current.max(lowest).min(highest);
    let stabilized = if stable == wanted {
        Stabilized::No
    } else if current <= wanted {
        Stabilized::Up
    } else {
        Stabilized::Down
    };
    let when = (current, past, now);
    let (replicas, bound) = if current < stable {
        let rate = up_limit(&behavior.up, when).max(current);
        let (most, bound) = if rate < most { (rate, Bound::UpRate) } else { (most, Bound::Most) };
        if most < stable { (most, bound) } else { (stable, Bound::Within) }
    } else if stable < current {
        let rate = down_limit(&behavior.down, when).min(current);
        let (least, bound) =
            if least < rate { (rate, Bound::DownRate) } else { (least, Bound::Fewest) };
        if stable < least { (least, bound) } else { (stable, Bound::Within) }
    } else {
        (stable, Bound::Within)
    };
    Limited { replicas, stabilized, bound }
}

/// So many there may be at most.
fn up_limit(rules: &Rules, (current, past, now): (i32, &Past, Duration)) -> i32 {
    let limits = rules.policies.iter().map(|policy| {
        let before = past.replicas_before(current, policy.period, now);
        match policy.step {
            Step::Pods(pods) => before.saturating_add(pods.into()),
            // Rounded up: a change that adds none would never end.
            Step::Percent(percent) => share(before, 1.0 + f64::from(percent) / 100.0, f64::ceil),
        }
    });
    match rules.select {
        SelectPolicy::Disabled => current,
        SelectPolicy::Max => limits.max().map_or(current, clamped),
        SelectPolicy::Min => limits.min().map_or(i32::MAX, clamped),
    }
}

/// So many there have to be at least.
fn down_limit(rules: &Rules, (current, past, now): (i32, &Past, Duration)) -> i32 {
    let limits = rules.policies.iter().map(|policy| {
        let before = past.replicas_before(current, policy.period, now);
        match policy.step {
            Step::Pods(pods) => before.saturating_sub(pods.into()),
            Step::Percent(percent) => share(before, 1.0 - f64::from(percent) / 100.0, f64::trunc),
        }
    });
    match rules.select {
        SelectPolicy::Disabled => current,
        SelectPolicy::Max => limits.min().map_or(current, clamped),
        SelectPolicy::Min => limits.max().map_or(i32::MIN, clamped),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "as upstream counts shares of pods: in floating point"
)]
fn share(of: i64, factor: f64, round: fn(f64) -> f64) -> i64 {
    round(of as f64 * factor) as i64
}

fn clamped(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
