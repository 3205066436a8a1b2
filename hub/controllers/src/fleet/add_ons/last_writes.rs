//! When the Secrets of agents were written last, for as long as that keeps anybody from writing them again.
//!
//! Guarantees:
//! - of what was written longer ago nothing is kept from the next write on (`what_is_long_ago_is_forgotten`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use freewheel_hub_schema::object::Key;
use tokio::time::Instant;

/// Between two times that what others change is set right.
const SET_RIGHT_EVERY: Duration = Duration::from_secs(10);

/// The writes.
#[derive(Default)]
pub(super) struct LastWrites {
    last: HashMap<Key, Instant>,
    /// All that are kept, in their order.
    order: VecDeque<(Instant, Key)>,
}

impl LastWrites {
    /// That one is written now.
    pub fn note(&mut self, key: &Key, now: Instant) {
        while let Some((at, first)) = self.order.front()
            && SET_RIGHT_EVERY <= now.duration_since(*at)
        {
            if self.last.get(first) == Some(at) {
                self.last.remove(first);
            }
            self.order.pop_front();
        }
        self.last.insert(key.clone(), now);
        self.order.push_back((now, key.clone()));
    }

    /// How long one stays as others have changed it: it was written just now.
    pub fn left(&self, key: &Key, now: Instant) -> Option<Duration> {
        let left = SET_RIGHT_EVERY.checked_sub(now.duration_since(*self.last.get(key)?))?;
        (!left.is_zero()).then_some(left)
    }

    /// That one is gone.
    pub fn forget(&mut self, key: &Key) {
        self.last.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    use super::*;

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let resource = Resource::new("", "secrets");
        let key = |name: &str| Key::new(&resource, &ClusterName::root(), "n", name);
        let (mut writes, began) = (LastWrites::default(), Instant::now());
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        for number in 0..100 {
            writes.note(&key(&number.to_string()), at(0));
        }
        writes.note(&key("1"), at(5));
        assert_eq!(writes.left(&key("0"), at(7)), Some(Duration::from_secs(3)));
        assert_eq!(writes.left(&key("0"), at(10)), None);
        writes.note(&key("new"), at(10));
        assert_eq!((writes.last.len(), writes.order.len()), (2, 2));
        assert_eq!(writes.left(&key("1"), at(10)), Some(Duration::from_secs(5)));
        writes.forget(&key("1"));
        assert_eq!(writes.left(&key("1"), at(10)), None);
    }
}
