//! Whether objects are written, and kept, by the name of a kind.
//!
//! ```text
//! written   most kinds, in each of their versions that says itself how it is stored
//! view      another kind's objects by other names: who writes them writes those (`view.rs`)
//! answered  a binding, a scale, figures: nobody reads what was stored of them
//! ```

use super::Kind;

impl Kind {
    /// Whether it shows what another kind stores, and has to be written as that one.
    #[must_use]
    pub fn is_view(&self) -> bool {
        self.stored_as.is_some() && self.form().is_none()
    }

    /// Whether objects are written by its name: nobody lays a view over what it shows, or stores what is only answered.
    #[must_use]
    pub fn is_written(&self) -> bool {
        !self.is_view() && ["create", "get"].iter().all(|verb| self.verbs.contains(verb))
    }

    /// Whether what lies in the store by its name, or by the name of what it is a view of, are its objects: what is only
    /// answered, figures of what another kind stores among it, nobody can follow.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        ["get", "list", "watch"].iter().all(|verb| self.verbs.contains(verb))
    }
}
