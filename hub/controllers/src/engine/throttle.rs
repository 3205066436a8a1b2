//! How often what is written about many objects is written.
//!
//! Guarantees:
//! - the first write is never late, and what is about few is not held back; what is about many waits the longer
//!   the more they are, up to a second (`what_is_about_many_waits_and_what_is_about_few_does_not`).

use std::collections::HashMap;
use std::time::Duration;

use freewheel_hub_schema::object::Key;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Between two writes for each object that they are about: a hundred of them are told of after 25 ms.
const PAUSE_PER_OBJECT: Duration = Duration::from_micros(250);
/// Longest time between two writes.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// About fewer than so many everything is told at once.
const UNTHROTTLED_OBJECTS: usize = 40;

/// When what was last written.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<Key, Instant>>);

impl Throttle {
    /// How much longer a write about `size` objects has to wait. `None`: it is its turn, which is
    /// noted.
    pub fn wait(&self, key: &Key, size: usize) -> Option<Duration> {
        if size < UNTHROTTLED_OBJECTS {
            return None;
        }
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let least = PAUSE_PER_OBJECT.saturating_mul(size).min(PAUSE_MAX);
        let now = Instant::now();
        let mut last = self.0.lock();
        let rest = last.get(key).and_then(|at| least.checked_sub(now - *at));
        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
            return Some(rest);
        }
        last.insert(key.clone(), now);
        None
    }

    /// The object is gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    #[tokio::test(start_paused = true)]
    async fn what_is_about_many_waits_and_what_is_about_few_does_not() {
        let key = Key::new(&Resource::new("apps", "replicasets"), &ClusterName::root(), "n", "web");
        let throttle = Throttle::default();
        assert_eq!([throttle.wait(&key, 3), throttle.wait(&key, 3)], [None, None]);
        assert_eq!(throttle.wait(&key, 400), None, "the first is never late");
        assert_eq!(throttle.wait(&key, 400), Some(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(60)).await;
        assert_eq!(throttle.wait(&key, 400), Some(Duration::from_millis(40)));
        tokio::time::advance(Duration::from_millis(40)).await;
        assert_eq!(throttle.wait(&key, 400), None);
        assert_eq!(throttle.wait(&key, 1_000_000), Some(PAUSE_MAX));
        throttle.forget(&key);
        assert_eq!(throttle.wait(&key, 1_000_000), None);
    }
}
