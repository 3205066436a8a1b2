//! Keys that writes of this process are about to take.
//!
//! The store alone says who gets a key. But of a burst that may choose, all would choose by the same state, and most of
//! them would have to choose again: whoever chooses here leaves out what others are about to take.

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_hub_schema::object::Key;
use parking_lot::Mutex;

/// What is about to be taken.
#[derive(Default)]
pub(super) struct PendingClaims(Mutex<BTreeSet<Key>>);

/// Keys that nobody chooses until it is dropped: when they are taken, or given up.
pub(super) struct Reserved {
    of: Arc<PendingClaims>,
    keys: Vec<Key>,
}

impl PendingClaims {
    /// Lets `choose` see what is under way, while nobody else chooses. A state that it looks at has to be read within
    /// it: in an older one a key may still be free that was under way a moment ago.
    pub(super) fn choose<T, E>(
        self: &Arc<Self>,
        choose: impl FnOnce(&BTreeSet<Key>) -> Result<(T, Vec<Key>), E>,
    ) -> Result<(T, Reserved), E> {
        let mut all = self.0.lock();
        let (chosen, mut keys) = choose(&all)?;
        // Who asks for a key that another one is about to take does not give it free.
        keys.retain(|key| all.insert(key.clone()));
        Ok((chosen, Reserved { of: self.clone(), keys }))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut all = self.of.0.lock();
        for key in &self.keys {
            all.remove(key);
        }
    }
}
