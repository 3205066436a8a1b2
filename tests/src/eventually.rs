//! Waiting for a state with a bound.

use std::time::{Duration, Instant};

/// Calls `look` until it finds what it looks for, and panics with the last thing it saw instead after `limit`.
#[track_caller]
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if limit < start.elapsed() => {
                panic!("after {limit:?} still not so: {what}. Last seen: {seen}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
