//! Whose turn it is: pods about which there is news, and those that asked to be looked at again.
//!
//! Guarantees:
//! - what a pod asked for last is what counts, and it asks for one moment at a time
//!   (`what_a_pod_asked_for_last_is_what_counts`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// UIDs of pods that are to be decided anew, now or later.
#[derive(Debug, Default)]
pub(super) struct Turns {
    now: BTreeSet<String>,
    /// When each asked to be looked at, and the same in the order of time.
    asked: BTreeMap<String, Duration>,
    timers: BTreeSet<(Duration, String)>,
}

impl Turns {
    /// There is news about a pod.
    pub(super) fn touch(&mut self, uid: &str) {
        self.now.insert(uid.to_owned());
    }

    /// A pod asks to be looked at then, and no more when it asked before.
    pub(super) fn set(&mut self, uid: &str, at: Option<Duration>) {
        let before = match at {
            Some(at) => self.asked.insert(uid.to_owned(), at),
            None => self.asked.remove(uid),
        };
        if let Some(before) = before {
            self.timers.remove(&(before, uid.to_owned()));
        }
        if let Some(at) = at {
            self.timers.insert((at, uid.to_owned()));
        }
    }

    /// When the next one asked to be looked at.
    pub(super) fn next(&self) -> Option<Duration> {
        let asked = self.timers.first().map(|(at, _)| *at);
        if self.are_due() { Some(Duration::ZERO) } else { asked }
    }

    /// Whether there is news about any.
    pub(super) fn are_due(&self) -> bool {
        !self.now.is_empty()
    }

    /// All whose turn it is.
    pub(super) fn take(&mut self, now: Duration) -> BTreeSet<String> {
        while let Some((at, uid)) = self.timers.pop_first() {
            if now < at {
                self.timers.insert((at, uid));
                break;
            }
            self.asked.remove(&uid);
            self.now.insert(uid);
        }
        std::mem::take(&mut self.now)
    }

    /// Whether nobody has asked for anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.now.is_empty() && self.asked.is_empty() && self.timers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_asked_for_last_is_what_counts() {
        let (mut turns, at) = (Turns::default(), Duration::from_secs);
        turns.set("a", Some(at(5)));
        turns.set("b", Some(at(3)));
        turns.set("a", Some(at(9)));
        assert_eq!(turns.next(), Some(at(3)));
        turns.touch("c");
        assert_eq!(turns.next(), Some(at(0)), "there is news");
        assert_eq!(turns.take(at(8)), ["b", "c"].map(str::to_owned).into());
        turns.set("a", Some(at(9)));
        assert_eq!((turns.take(at(8)).len(), turns.next()), (0, Some(at(9))));
        turns.set("a", None);
        assert!(turns.is_empty());
    }
}
