//! Custom resources, without I/O: what their definitions say, and what follows from that for their objects.
//!
//! ```text
//! definition ─ check ─▶ may it be stored?          ─ kinds ─▶ Kind, one for each version
//!                                                               │
//! schema     the tree of a version's schema                     ├ form      prunes, fills in
//! check      every mistake against it                           └ resource  validates, shows, stores
//! cel        rules that people write
//! prune, defaults, lists, embedded      what else follows from it
//! before     what a value was before a change
//! columns, json_path                    what `kubectl get` shows
//! component                             what OpenAPI says
//! format                                formats of text
//! work                                  how much of it a check may make
//! ```

pub mod before;
pub mod cel;
pub mod check;
pub mod columns;
mod component;
pub mod defaults;
pub mod definition;
pub mod embedded;
mod form;
pub mod format;
pub mod json_path;
pub mod lists;
pub mod prune;
mod resource;
pub mod schema;
mod work;
