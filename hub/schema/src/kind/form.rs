//! What the objects of a kind look like, where that came with the kind and is in no committed table.

use std::fmt::Debug;

use serde_json::Value;

use crate::types::TypeFacts;

/// The schema of a kind that came at run time. The walks ask it where they would ask the committed table.
pub trait Form: Send + Sync + Debug {
    /// Takes out of an object what its schema does not know, and nulls that mean nothing. Answers the paths of what was
    /// unknown, as strict decoding names them. `metadata` is everybody's, and not looked at.
    ///
    /// # Errors
    /// Why it is no object of the kind, for a 400.
    fn prune(&self, object: &mut Value) -> Result<Vec<String>, String>;

    /// Fills in defaults.
    ///
    /// # Errors
    /// They would make it larger than an object may be.
    fn default(&self, object: &mut Value) -> Result<(), String>;

    /// What merges have to know of its fields.
    fn facts(&self) -> Option<TypeFacts<'_>>;

    /// Its component in OpenAPI v3, without the name of its group, version and kind.
    fn component(&self) -> Value;
}
