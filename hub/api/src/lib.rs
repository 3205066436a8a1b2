//! The object machinery without I/O: what objects are, which kinds there are, what is allowed.
//!
//! ```text
//! conditions which conditions the hub writes, whose they are, and how one is put
//! error      a Kubernetes Status on its way to the caller
//! object     key, header, canonical JSON: what the store holds
//! uid        what tells one object from the next of its name
//! namespace  where it lives
//! gvk        what kinds are called
//! kind       one descriptor per kind, and the Strategy that is special about it
//! kinds/     one file per kind
//! registry   which of them a logical cluster serves: built in, and its own
//! schema/    the committed table of facts: fields, defaults, keys, proto numbers; what reads it
//! protobuf/  the built-in kinds in Kubernetes' protobuf
//! openapi/   the documents that kubectl validates and explains by
//! patch/     JSON, merge and strategic merge patches
//! selector   label and field selectors
//! quantity, time, name    the scalar formats
//! table      server-side columns
//! images     what an `image:` stands for, as a trait
//! pins       what it stood for when it was looked up
//! streams    how a request reaches a spoke, as a trait
//! ```

pub mod conditions;
pub mod error;
pub mod gvk;
pub mod images;
pub mod kind;
pub mod kinds;
pub mod metadata;
pub mod name;
pub mod namespace;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod pins;
pub mod protobuf;
pub mod quantity;
pub mod registry;
pub mod schema;
pub mod selector;
mod shared_text;
pub mod streams;
pub mod table;
pub mod time;
pub mod uid;

/// The version of Kubernetes whose API this is: what the server and its nodes say, and kubectl compares.
pub const KUBERNETES_VERSION: &str = "v1.36.2";
