//! What an expression comes to before anybody evaluates it: the type of its value, and where it says of values what cannot
//! be said of them, in the words of kube-apiserver.
//!
//! ```text
//! text ─ Parsed ─┐
//! Names ─ Work ──┴▶ walk ─▶ Checked { is: type, mistakes: "ERROR: <input>:1:7: undefined field 'x' …" }
//!   value_type  what a value may be, and which types agree
//!   fields      what objects have, by the facts of their types
//!   signature   what functions take and answer: signatures.txt
//!   mistake     a mistake by its place in the text
//!   work        how much of it may be done
//! ```
//!
//! What is not known for sure is anything, of which nothing is wrong. Whether names and functions are there at all
//! [`Expression`](crate::Expression) says.
//!
//! Guarantees:
//! - what is wrong for sure is told by its place, in upstream's words (`mistakes_are_told_by_their_place`);
//! - of what evaluation may make sense of, nothing is said (`what_may_be_right_is_no_mistake`);
//! - no expression makes more work than is given for it, whatever it says (`work_has_an_end`).

mod fields;
mod mistake;
mod names;
mod signature;
#[cfg(test)]
mod tests;
mod value_type;
mod walk;
mod work;

use std::collections::HashMap;

use cel::IdedExpr;
use cel::common::ast::SourceInfo;

use crate::expression::{Expression, Known, parse_placed};
use crate::unread::Unread;

pub use fields::Record;
pub use names::Names;
pub(crate) use signature::first_of_overloads;
pub use value_type::Type;
pub use work::Work;

/// What is known of an expression.
#[derive(Clone, Debug)]
pub struct Checked<'a> {
    /// What its value is.
    pub is: Type<'a>,
    /// What is wrong with it; empty, where that is nothing.
    pub mistakes: String,
}

/// An expression with the places of its parts.
#[derive(Debug)]
pub struct Parsed {
    tree: IdedExpr,
    places: SourceInfo,
}

impl Parsed {
    /// From its text.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(text: &str) -> Result<Self, Unread> {
        let (tree, places) = parse_placed(text)?;
        Ok(Self { tree, places })
    }

    /// What it comes to where it speaks of these. To be asked where there is room ([`crate::STACK_BYTES`]).
    #[must_use]
    pub fn check<'a>(&self, names: &Names<'a>, work: &Work) -> Checked<'a> {
        let mut walk = walk::Walk::new(names, work);
        let is = walk.part(&self.tree);
        Checked { is, mistakes: walk.mistakes().into_text(&self.places) }
    }

    /// What is evaluated of it.
    ///
    /// # Errors
    /// Why it is none.
    pub fn expression(&self, known: &Known<'_>) -> Result<Expression, String> {
        Expression::of(self.tree.clone(), known).map(|read| read.with_text(&self.places.source))
    }

    pub(crate) const fn tree(&self) -> &IdedExpr {
        &self.tree
    }

    /// What each part is.
    pub(crate) fn types<'a>(&self, names: &Names<'a>) -> HashMap<u64, Type<'a>> {
        // Types have a bound, and an expression has one: whoever asks counts its bytes.
        let work = Work::of(u64::MAX);
        let mut walk = walk::Walk::keeping(names, &work);
        walk.part(&self.tree);
        walk.types()
    }
}
