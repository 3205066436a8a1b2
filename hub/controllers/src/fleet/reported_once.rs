//! What was told of an object last: an event that says the same again, each time the object is looked at, says nothing.
//!
//! Guarantees:
//! - the same is told once, and again when it was over meanwhile (`the_same_is_told_once`).

use std::collections::HashMap;

use freewheel_hub_schema::object::Key;
use parking_lot::Mutex;

/// By object. There is one for each object that there is something to tell of, as long as it is there.
#[derive(Debug, Default)]
pub(super) struct ReportedOnce(Mutex<HashMap<Key, String>>);

impl ReportedOnce {
    /// Whether this is to be told of the object now; with nothing to tell it is over.
    pub fn is_news(&self, key: &Key, text: Option<&str>) -> bool {
        let mut all = self.0.lock();
        let Some(text) = text else {
            all.remove(key);
            return false;
        };
        all.insert(key.clone(), text.to_owned()).is_none_or(|before| before != text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    #[test]
    fn the_same_is_told_once() {
        let key = Key::new(&Resource::new("", "nodes"), &ClusterName::root(), "", "pi-1");
        let told = ReportedOnce::default();
        assert!(told.is_news(&key, Some("a")) && !told.is_news(&key, Some("a")));
        assert!(told.is_news(&key, Some("b")) && !told.is_news(&key, None));
        assert!(told.is_news(&key, Some("b")));
    }
}
