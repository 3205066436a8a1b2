//! ConfigMaps and Secrets that a pod names, each read once however often it is named.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use freewheel_link::plan::{ConfigV1, Kind};

type Read<'a> = &'a dyn Fn(Kind, &str) -> Option<ConfigV1>;

/// Those of one pod.
pub(crate) struct Configs<'a> {
    read: Read<'a>,
    known: RefCell<HashMap<(Kind, String), Known>>,
}

/// `None`: there is none.
type Known = Option<Rc<Config>>;

/// One of them, its keys in order.
pub(crate) struct Config(Vec<(String, Vec<u8>)>);

impl<'a> Configs<'a> {
    pub(crate) fn new(read: Read<'a>) -> Self {
        Self { read, known: RefCell::default() }
    }

    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<Rc<Config>> {
        let mut known = self.known.borrow_mut();
        let read = || {
            let mut data = (self.read)(kind, name)?.data;
            data.sort_unstable();
            Some(Rc::new(Config(data)))
        };
        known.entry((kind, name.to_owned())).or_insert_with(read).clone()
    }
}

impl Config {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    pub(crate) fn value(&self, key: &str) -> Option<&[u8]> {
        let at = self.0.binary_search_by(|(have, _)| have.as_str().cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value.as_slice())
    }
}
