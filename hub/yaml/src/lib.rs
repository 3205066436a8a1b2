//! YAML as Kubernetes reads it, and as others read what the hub writes. Pure.
//!
//! ```text
//! read    text ─▶ a value, and the keys that it has twice
//! keys    the same keys in the words of Kubernetes' own reader
//! write   a value ─▶ text
//! ```

mod keys;
mod read;
mod write;

pub use keys::twice;
pub use read::{or_json, read};
pub use write::write;
