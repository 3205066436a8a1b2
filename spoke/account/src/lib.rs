//! What the host holds for guests, counted where it belongs: container within pod within node.
//!
//! ```text
//! node ◀── pod ◀── container: linear memory, tables, what its handles hold, arguments and environment
//!           └───── bytes and datagrams that wait in the pod's network
//!
//! memory_account  who holds how much, and may    full    who was refused, in the user's words
//! places          queues and tables that hold little when little is in them
//! ```
//!
//! Most accounts are of bytes; open files, mappings of memory and connections from outside are counted by the same
//! rules.

mod full;
mod memory_account;
mod places;

pub use full::{Full, Level};
pub use memory_account::{Held, MemoryAccount};
pub use places::{Queue, give_back};
