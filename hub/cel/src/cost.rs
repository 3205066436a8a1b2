//! What an expression costs at most, estimated before anybody evaluates it: in kube-apiserver's units and by its rules, from
//! how much there may be of what it speaks of. A definition is refused by that, so an estimate is what upstream's is, also where
//! another one would be better.
//!
//! ```text
//! schema ─ Declared: types, and how much of each ─┐
//! text ─ Parsed: parts and their types ───────────┴▶ walk ─ calls: what functions cost ─▶ units at most
//!   range   from so many to so many, as far as numbers go
//! ```
//!
//! Guarantees:
//! - estimates are kube-apiserver's (`estimates_are_those_of_kube_apiserver`).

mod calls;
mod declared;
mod range;
#[cfg(test)]
mod tests;
mod walk;

pub use declared::{Declared, REQUEST_BYTES_MAX};

use crate::typing::{Names, Parsed, Type};

/// Estimates what expressions about `self` cost.
pub struct Estimator<'a> {
    root: &'a Declared,
    /// Where what was before is as it is, and where it may be absent.
    names: [Names<'static>; 2],
}

impl<'a> Estimator<'a> {
    /// Of this.
    #[must_use]
    pub fn of(root: &'a Declared) -> Self {
        let of = root.type_of();
        let names = |old| Names::default().with("self", of.clone()).with("oldSelf", old);
        Self { root, names: [names(of.clone()), names(Type::optional(of.clone()))] }
    }

    /// What an expression costs at most. To be asked where there is room ([`crate::STACK_BYTES`]).
    #[must_use]
    pub fn at_most(&self, parsed: &Parsed, optional_old: bool) -> u64 {
        let [plain, optional] = &self.names;
        let types = parsed.types(if optional_old { optional } else { plain });
        walk::Walk::new(types, self.root).part(parsed.tree()).most
    }
}
