//! What is on its way out, and what holds it there.
//!
//! Guarantees:
//! - of several that are held the same one is told, whichever is looked at first
//!   (`of_several_that_are_held_the_same_one_is_told`).

use std::sync::Arc;

use freewheel_hub_store::Stored;

use crate::engine::{Error, Faults};

/// Whether all is gone that was to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    Gone,
    /// Not all; this holds it, as far as that was seen.
    Held(Option<String>),
}

impl Leaving {
    /// What failed, and what holds the rest.
    pub fn apart(outcome: Result<Self, Error>) -> (Option<Error>, Option<String>) {
        match outcome {
            Ok(Self::Gone) => (None, None),
            Ok(Self::Held(held)) => (None, held),
            Err(error) => (Some(error), None),
        }
    }
}

/// What stood in the way of some, while the others went.
#[derive(Default)]
pub(super) struct Going {
    faults: Faults,
    /// How many are there still.
    there: usize,
    /// What is said of one of them: the first by that.
    first: Option<String>,
}

impl Going {
    /// Takes what came of one; whether it is there still.
    pub fn is_there(&mut self, outcome: Result<Option<Arc<Stored>>, Error>) -> bool {
        match outcome {
            Ok(None) => false,
            Ok(Some(object)) => {
                let said = held(&object);
                self.there += 1;
                self.first = match self.first.take() {
                    Some(first) => Some(first.min(said)),
                    None => Some(said),
                };
                true
            }
            Err(error) => {
                self.faults.note(Err(error));
                true
            }
        }
    }

    /// When all were tried: what failed first, or whether all are gone.
    pub fn end(self, is_pending: bool) -> Result<Leaving, Error> {
        self.faults.end()?;
        let others = self.there.saturating_sub(1);
        let held = self
            .first
            .map(|first| if others == 0 { first } else { format!("{first}, and {others} more") });
        Ok(if is_pending { Leaving::Held(held) } else { Leaving::Gone })
    }
}

/// Why an object that is to go is there still.
fn held(object: &Stored) -> String {
    let (key, finalizers) = (&object.key, &object.object.header.finalizers);
    let namespace = if key.namespace.is_empty() { "" } else { "/" };
    let what = format!("{} {}{namespace}{}", key.resource, key.namespace, key.name);
    if finalizers.is_empty() {
        format!("{what} is on its way out")
    } else {
        format!("{what} waits for its finalizers ({})", finalizers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use serde_json::json;

    use super::*;
    use crate::testing::stored;

    fn object(name: &str, finalizers: &[&str]) -> Arc<Stored> {
        let meta = json!({"name": name, "uid": "u", "finalizers": finalizers});
        stored(&Resource::new("", "configmaps"), name, json!({"metadata": meta}))
    }

    #[test]
    fn of_several_that_are_held_the_same_one_is_told() {
        let (a, b) = (object("a", &["x.io/one", "x.io/two"]), object("b", &[]));
        let said = "configmaps default/a waits for its finalizers (x.io/one, x.io/two)";
        for order in [[&a, &b], [&b, &a]] {
            let mut going = Going::default();
            assert!(order.into_iter().all(|one| going.is_there(Ok(Some(one.clone())))));
            assert!(!going.is_there(Ok(None)));
            let told = format!("{said}, and 1 more");
            assert_eq!(going.end(true).unwrap(), Leaving::Held(Some(told)));
        }
        let mut alone = Going::default();
        assert!(alone.is_there(Ok(Some(b))));
        let told = "configmaps default/b is on its way out".to_owned();
        assert_eq!(alone.end(true).unwrap(), Leaving::Held(Some(told)));
        assert_eq!(Going::default().end(false).unwrap(), Leaving::Gone);
    }
}
