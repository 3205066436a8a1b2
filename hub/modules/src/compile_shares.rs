//! How long each of those who ask has had a compiler of late, so that the compilers are shared evenly among them.
//!
//! Guarantees:
//! - what somebody has had counts for half after some minutes, and is forgotten in the end
//!   (`what_somebody_has_had_is_forgotten_in_the_end`).

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_hub_api::images::Tenant;
use tokio::time::Instant;

/// After so long, half of it counts.
const HALF_LIFE: Duration = Duration::from_secs(10 * 60);
/// Differences of less than this count for nothing: then the smaller module is first. It is what a few usual modules
/// take.
const EQUAL_WITHIN: Duration = Duration::from_secs(10);
/// Less than this is forgotten.
const FORGOTTEN_BELOW: Duration = Duration::from_secs(1);

/// Whom something is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    /// Pods that wait for it.
    Pods(Tenant),
    /// Somebody who has pushed it, whoever it is.
    Push,
}

/// What each has had.
#[derive(Debug, Default)]
pub(crate) struct CompileShares(BTreeMap<Client, (Duration, Instant)>);

impl CompileShares {
    /// This one has had a compiler for so long.
    pub(crate) fn charge(&mut self, client: &Client, time: Duration, now: Instant) {
        let had = self.had(client, now) + time;
        self.0.retain(|_, had| FORGOTTEN_BELOW <= left(*had, now));
        self.0.insert(client.clone(), (had, now));
    }

    /// How long this one has had a compiler.
    pub(crate) fn had(&self, client: &Client, now: Instant) -> Duration {
        self.0.get(client).map_or(Duration::ZERO, |had| left(*had, now))
    }
}

/// What counts of that by now.
fn left((had, at): (Duration, Instant), now: Instant) -> Duration {
    let lives = now.duration_since(at).as_secs_f64() / HALF_LIFE.as_secs_f64();
    had.mul_f64(0.5_f64.powf(lives))
}

/// What of that counts for whose turn it is: the less, the sooner.
pub(crate) const fn rank(had: Duration) -> u64 {
    had.as_secs() / EQUAL_WITHIN.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_had_is_forgotten_in_the_end() {
        let (mut shares, start) = (CompileShares::default(), Instant::now());
        let of = |name: &str| Client::Pods(Tenant::Namespace(name.to_owned()));
        shares.charge(&of("a"), Duration::from_secs(60), start);
        shares.charge(&of("a"), Duration::from_secs(20), start);
        let had = |shares: &CompileShares, after| shares.had(&of("a"), start + after).as_secs_f64();
        assert!((had(&shares, Duration::ZERO) - 80.0).abs() < 0.01);
        assert!((had(&shares, HALF_LIFE) - 40.0).abs() < 0.01);
        assert_eq!(shares.had(&of("b"), start), Duration::ZERO);
        shares.charge(&Client::Push, Duration::from_secs(5), start + 12 * HALF_LIFE);
        assert_eq!(shares.0.len(), 1);
    }
}
