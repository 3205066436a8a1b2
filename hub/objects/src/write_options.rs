//! How to write: who does, and what is asked of the pipeline.

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Expect;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{Actor, Notes};

/// What to do with fields that the schema does not know (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// 400 with all of them.
    Strict,
    /// Drop and warn: the server's default.
    #[default]
    Warn,
    /// Drop.
    Ignore,
}

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Who writes.
    pub actor: Actor,
    /// Go through everything but the commit.
    pub dry_run: bool,
    /// Unknown fields.
    pub field_validation: FieldValidation,
    /// Make nothing, also of a kind that an update makes: its writer was not asked whether it may.
    pub makes_nothing: bool,
    /// What must hold when the write is committed, beside what it says of its own object: that which its writer looked
    /// at first. Where it does not the write is refused, with [`OVERTAKEN`].
    pub expect: Vec<Expect>,
    /// What its writer says of it in so many words (`fieldManager`, `fieldValidation`), for those who have a say in it.
    pub options: Map<String, Value>,
    /// Where those who have a say in it may say more; nobody listens where there is none.
    pub notes: Option<Arc<Notes>>,
    /// What other objects of the same transaction count; nobody but [`Objects::write_together`](crate::Objects) fills it.
    pub counted: Counted,
}

/// What is counted by objects that are written in one transaction, so far.
#[derive(Clone, Debug, Default)]
pub struct Counted(Option<Arc<Mutex<HashMap<Key, i64>>>>);

impl Counted {
    /// Of a transaction that has nothing yet.
    pub(crate) fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// So much more.
    pub(crate) fn add(&self, counter: &Key, by: i64) {
        let Some(all) = &self.0 else { return };
        let mut all = all.lock();
        let sum = all.entry(counter.clone()).or_default();
        *sum = sum.saturating_add(by);
    }

    /// How much it is.
    pub(crate) fn of(&self, counter: &Key) -> i64 {
        self.0.as_ref().and_then(|all| all.lock().get(counter).copied()).unwrap_or_default()
    }
}

impl WriteOptions {
    /// As this one, and nothing else asked for.
    #[must_use]
    pub fn by(actor: impl Into<Actor>) -> Self {
        Self { actor: actor.into(), ..Self::default() }
    }
}

/// Reason of the refusal of a write whose writer looked at something that is another by now. No second try helps.
pub const OVERTAKEN: &str = "Overtaken";
