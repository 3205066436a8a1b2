//! Waiting for a state with a bound.

use std::time::{Duration, Instant};

/// Shortest and longest rest between two looks.
const RESTS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// Calls `look` until it finds what it looks for, and panics with the last thing it saw instead after `limit`.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, look: impl FnMut() -> Result<T, String>) -> T {
    eventually_or(what, limit, look, String::new)
}

/// The same, where it takes more than a look to tell `why` it has not come to that.
#[track_caller]
pub fn eventually_or<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
    why: impl FnOnce() -> String,
) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if limit < start.elapsed() => {
                panic!("after {limit:?} still not so: {what}. Last seen: {seen}{}", why())
            }
            Err(_) => std::thread::sleep(rest(start.elapsed())),
        }
    }
}

/// A tenth of what was waited. A look is a kubectl most of the time: without a rest that grows, those that wait take the
/// processor from those that they wait for.
fn rest(waited: Duration) -> Duration {
    (waited / 10).clamp(RESTS.0, RESTS.1)
}
