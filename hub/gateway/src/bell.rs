//! What calls a session to look again, and what it has to look at; and to say again what its Node lacks.

use std::sync::atomic::{AtomicBool, Ordering};

use freewheel_hub_plan::Changes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Pods and configuration that are told apart in what waits for a session: with more of them it looks at everything,
/// which it has once.
const TOLD_APART: usize = 4096;

/// One session's.
#[derive(Debug)]
pub(crate) struct Bell {
    rung: Notify,
    changes: Mutex<Changes>,
    /// Whether the session may go on has to be looked at.
    standing: AtomicBool,
    /// Its Node is gone, or another one than before.
    node: Notify,
}

impl Default for Bell {
    /// A session begins by looking at everything.
    fn default() -> Self {
        let changes = Changes { everything: true, ..Changes::default() };
        let standing = AtomicBool::new(true);
        Self { rung: Notify::new(), changes: Mutex::new(changes), standing, node: Notify::new() }
    }
}

impl Bell {
    /// Resolves once it was rung. Cancel safe.
    pub(crate) async fn rung(&self) {
        self.rung.notified().await;
    }

    pub(crate) fn ring(&self) {
        self.rung.notify_one();
    }

    /// Notes what has changed, without a sound.
    pub(crate) fn note(&self, new: Changes) {
        let mut changes = self.changes.lock();
        changes.everything |= new.everything;
        changes.images |= new.images;
        if !changes.everything {
            changes.pods.extend(new.pods);
            changes.config.extend(new.config);
            changes.everything = TOLD_APART < changes.pods.len() + changes.config.len();
        }
        if changes.everything {
            (changes.pods, changes.config) = Default::default();
        }
    }

    /// Notes that the session may have to end.
    pub(crate) fn doubt(&self) {
        self.standing.store(true, Ordering::SeqCst);
    }

    /// Whether that was noted since it was last asked.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.standing.swap(false, Ordering::SeqCst)
    }

    /// Notes that its Node is gone, or another one than before.
    pub(crate) fn miss_node(&self) {
        self.node.notify_one();
    }

    /// Resolves once that was noted. Cancel safe.
    pub(crate) async fn node_missed(&self) {
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
        let bell = Bell::default();
        assert!(bell.take().everything && bell.is_in_doubt(), "it begins by looking at all");
        assert!(!bell.is_in_doubt());
        let pod = |number: usize| {
            let name = number.to_string();
            Key::new(&Resource::new("", "pods"), &ClusterName::root(), "default", &name)
        };
        for number in 0..TOLD_APART {
            bell.note(Changes { pods: [pod(number)].into(), ..Changes::default() });
        }
        bell.note(Changes { pods: [pod(1)].into(), ..Changes::default() });
        assert_eq!(bell.changes.lock().pods.len(), TOLD_APART, "one counts once");
        bell.note(Changes { pods: [pod(TOLD_APART)].into(), ..Changes::default() });
        let all = Changes { everything: true, ..Changes::default() };
        assert_eq!((bell.take(), bell.take()), (all, Changes::default()));
    }
}
