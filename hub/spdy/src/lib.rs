//! SPDY/3.1 as Kubernetes' clients speak it: many streams over one connection, for `exec`, `attach` and `port-forward`.
//!
//! ```text
//! header_block  names and values, packed     (dictionary)
//! frame         what is on the wire
//! session       the server's end of a connection, over any stream of bytes
//! stream        one of its streams, as bytes both ways
//! ```
//!
//! Clients of Kubernetes send no windows and heed none, and so does this: who reads slowly stops its connection, and what
//! waits in it is bounded.

mod dictionary;
pub mod frame;
pub mod header_block;
pub mod session;
mod stream;

pub use header_block::Headers;
pub use session::{Accept, serve};
pub use stream::Stream;
