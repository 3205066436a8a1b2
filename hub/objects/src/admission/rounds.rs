//! The two rounds in which a write is changed: when one plugin has changed what others saw before it, all are asked once
//! more, and of what a plugin asks others about, that which wants to be asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

/// Where a write is.
#[derive(Debug, Default)]
pub struct Rounds {
    is_second: AtomicBool,
    is_wanted: AtomicBool,
    invoked: Mutex<BTreeMap<&'static str, Invoked>>,
    asks_since: OnceLock<Instant>,
}

impl Rounds {
    /// Whether all were asked before.
    #[must_use]
    pub fn is_second(&self) -> bool {
        self.is_second.load(Ordering::Relaxed)
    }

    /// All are to be asked once more.
    pub fn ask_again(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// When somebody outside was first asked about this write, which is now unless that was before: all who are asked
    /// may have one time together.
    pub fn asks_since(&self, now: Instant) -> Instant {
        *self.asks_since.get_or_init(|| now)
    }

    /// What a plugin remembers of this write.
    pub fn of(&self, plugin: &'static str) -> Invoked {
        self.invoked.lock().get(plugin).cloned().unwrap_or_default()
    }

    /// What a plugin is to remember of it.
    pub fn remember(&self, plugin: &'static str, invoked: Invoked) {
        self.invoked.lock().insert(plugin, invoked);
    }

    /// Whether there is another round, which begins then.
    pub(super) fn begins_again(&self) -> bool {
        let first = !self.is_second.swap(true, Ordering::Relaxed);
        first && self.is_wanted.load(Ordering::Relaxed)
    }
}

/// Of what a plugin asks others about: who was asked, and who is to be asked again.
#[derive(Clone, Debug, Default)]
pub struct Invoked {
    output: Option<Value>,
    eligible: BTreeSet<String>,
    again: BTreeSet<String>,
}

impl Invoked {
    /// It is the plugin's turn, in this round, with this object.
    pub fn begin(&mut self, is_second: bool, object: &Value) {
        if is_second && self.output.as_ref() != Some(object) {
            self.changed();
        }
    }

    /// Whether one of those is to be asked in this round.
    #[must_use]
    pub fn is_due(&self, is_second: bool, name: &str) -> bool {
        !is_second || self.again.contains(name)
    }

    /// The object is another: those that were asked, and want to be asked again then, are.
    pub fn changed(&mut self) {
        self.again.append(&mut self.eligible);
    }

    /// One was asked that wants to be asked again when others change the object.
    pub fn asked(&mut self, name: &str) {
        self.eligible.insert(name.to_owned());
    }

    /// This came of it.
    pub fn end(&mut self, object: &Value) {
        self.output = Some(object.clone());
    }
}
