//! What calls a session to look again, and what it has to look at; and to say again what its Node lacks.

use std::sync::atomic::{AtomicBool, Ordering};

use freewheel_hub_plan::Changes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Pods and configuration that are told apart in what waits for a session: with more of them it looks at everything,
/// which it has once.
const PENDING_KEYS_MAX: usize = 4096;

/// One session's.
#[derive(Debug)]
pub(crate) struct SyncSignal {
    raised: Notify,
    changes: Mutex<Changes>,
    /// Whether the session may go on has to be looked at.
    recheck: AtomicBool,
    /// One of its Nodes has changed.
    node: Notify,
}

impl Default for SyncSignal {
    /// A session begins by looking at everything.
    fn default() -> Self {
        let changes = Changes { everything: true, ..Changes::default() };
        let recheck = AtomicBool::new(true);
        Self { raised: Notify::new(), changes: Mutex::new(changes), recheck, node: Notify::new() }
    }
}

impl SyncSignal {
    /// Resolves once it was raised. Cancel safe.
    pub(crate) async fn raised(&self) {
        self.raised.notified().await;
    }

    pub(crate) fn raise(&self) {
        self.raised.notify_one();
    }

    /// Notes what has changed, without a sound.
    pub(crate) fn note(&self, new: Changes) {
        let mut changes = self.changes.lock();
        changes.everything |= new.everything;
        changes.images |= new.images;
        if !changes.everything {
            changes.pods.extend(new.pods);
            changes.config.extend(new.config);
            changes.everything = PENDING_KEYS_MAX < changes.pods.len() + changes.config.len();
        }
        if changes.everything {
            (changes.pods, changes.config) = Default::default();
        }
    }

    /// Notes that the session may have to end.
    pub(crate) fn recheck(&self) {
        self.recheck.store(true, Ordering::SeqCst);
    }

    /// Whether that was noted since it was last asked.
    pub(crate) fn take_recheck(&self) -> bool {
        self.recheck.swap(false, Ordering::SeqCst)
    }

    /// Notes that one of its Nodes has changed, whoever did it.
    pub(crate) fn note_node(&self) {
        self.node.notify_one();
    }

    /// Resolves once that was noted. Cancel safe.
    pub(crate) async fn node_changed(&self) {
        self.node.notified().await;
    }

    /// All that was noted since it was last taken.
    pub(crate) fn take(&self) -> Changes {
        std::mem::take(&mut *self.changes.lock())
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::{Key, Resource};
    use freewheel_link::names::ClusterName;

    use super::*;

    #[test]
    fn what_waits_for_a_session_is_bounded() {
        let signal = SyncSignal::default();
        assert!(signal.take().everything && signal.take_recheck(), "it begins by looking at all");
        assert!(!signal.take_recheck());
        let pod = |number: usize| {
            let name = number.to_string();
            Key::new(&Resource::new("", "pods"), &ClusterName::root(), "default", &name)
        };
        for number in 0..PENDING_KEYS_MAX {
            signal.note(Changes { pods: [pod(number)].into(), ..Changes::default() });
        }
        signal.note(Changes { pods: [pod(1)].into(), ..Changes::default() });
        assert_eq!(signal.changes.lock().pods.len(), PENDING_KEYS_MAX, "one counts once");
        signal.note(Changes { pods: [pod(PENDING_KEYS_MAX)].into(), ..Changes::default() });
        let all = Changes { everything: true, ..Changes::default() };
        assert_eq!((signal.take(), signal.take()), (all, Changes::default()));
    }
}
