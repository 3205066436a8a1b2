//! Which sessions look again when a ConfigMap or a Secret changes: those whose pods name it.
//!
//! ```text
//! a look finds that a pod names it ─▶ ConfigSubscription ─▶ index ◀─ changed ─ the fan-out
//! ```
//!
//! Guarantees:
//! - a write that nobody names wakes nobody, and any other those alone who do
//!   (`configuration_wakes_those_alone_whose_pods_name_it`);
//! - a session that is over is told of nothing any more (`who_is_gone_is_told_of_nothing`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_plan::Changes;
use freewheel_link::plan::RecordKey;
use parking_lot::Mutex;

use crate::sync_signal::SyncSignal;

/// Of all sessions.
#[derive(Default)]
pub(crate) struct ConfigReaders(Mutex<Readers>);

#[derive(Default)]
struct Readers {
    last: u64,
    /// By what they read, each session by a number.
    sessions: BTreeMap<Arc<RecordKey>, BTreeMap<u64, Arc<SyncSignal>>>,
}

/// What one session reads, until it is over.
pub(crate) struct ConfigSubscription<'a> {
    readers: &'a ConfigReaders,
    number: u64,
    signal: Arc<SyncSignal>,
    keys: BTreeSet<Arc<RecordKey>>,
}

impl ConfigReaders {
    /// A session that reads nothing yet.
    pub(crate) fn subscribe(&self, signal: &Arc<SyncSignal>) -> ConfigSubscription<'_> {
        let mut readers = self.0.lock();
        readers.last += 1;
        let (number, signal) = (readers.last, signal.clone());
        ConfigSubscription { readers: self, number, signal, keys: BTreeSet::new() }
    }

    /// Tells those that read it that it has changed.
    pub(crate) fn notify(&self, key: &RecordKey) {
        let readers = self.0.lock();
        for signal in readers.sessions.get(key).into_iter().flat_map(BTreeMap::values) {
            signal.note(Changes { config: [key.clone()].into(), ..Changes::default() });
            signal.raise();
        }
    }
}

impl ConfigSubscription<'_> {
    /// From now on it is told of these.
    pub(crate) fn begin(&mut self, keys: &[RecordKey]) {
        let mut readers = self.readers.0.lock();
        for key in keys {
            let known = readers.sessions.get_key_value(key).map(|(known, _)| known.clone());
            let key = known.unwrap_or_else(|| Arc::new(key.clone()));
            let sessions = readers.sessions.entry(key.clone()).or_default();
            sessions.insert(self.number, self.signal.clone());
            self.keys.insert(key);
        }
    }

    /// And of these no more.
    pub(crate) fn end(&mut self, keys: &[RecordKey]) {
        let mut readers = self.readers.0.lock();
        for key in keys {
            self.keys.remove(key);
            readers.remove(key, self.number);
        }
    }
}

impl Readers {
    fn remove(&mut self, key: &RecordKey, number: u64) {
        let Some(sessions) = self.sessions.get_mut(key) else { return };
        sessions.remove(&number);
        if sessions.is_empty() {
            self.sessions.remove(key);
        }
    }
}

impl Drop for ConfigSubscription<'_> {
    fn drop(&mut self) {
        let mut readers = self.readers.0.lock();
        self.keys.iter().for_each(|key| readers.remove(key, self.number));
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;
    use freewheel_link::plan::Kind;

    use super::*;

    #[test]
    fn who_is_gone_is_told_of_nothing() {
        let key = |name: &str| {
            let realm = ClusterName::root();
            RecordKey { realm, kind: Kind::CONFIG_MAP_V1, key: format!("default/{name}") }
        };
        let readers = ConfigReaders::default();
        let [one, two] = [(); 2].map(|()| Arc::<SyncSignal>::default());
        let noted = |signal: &Arc<SyncSignal>| signal.take().config.len();
        [&one, &two].into_iter().for_each(|signal| drop(signal.take()));
        let (mut first, mut second) = (readers.subscribe(&one), readers.subscribe(&two));
        first.begin(&[key("a"), key("b")]);
        second.begin(&[key("a")]);
        readers.notify(&key("a"));
        assert_eq!((noted(&one), noted(&two)), (1, 1));
        second.end(&[key("a")]);
        readers.notify(&key("a"));
        assert_eq!((noted(&one), noted(&two)), (1, 0));
        drop(first);
        readers.notify(&key("b"));
        assert_eq!((noted(&one), readers.0.lock().sessions.len()), (0, 0));
    }
}
