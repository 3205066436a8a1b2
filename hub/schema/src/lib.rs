//! The object machinery without I/O: what objects are, what their fields are, what is made of them. It knows no kind by
//! its name: whoever puts a hub together gives it the kinds (`freewheel-hub-api` has those that are built in).
//!
//! ```text
//! error      a Kubernetes Status on its way to the caller
//! field_errors  mistakes of an object as they are found; path: where they are; truncated_text: how much of what is long
//! object     key, header, canonical JSON: what the store holds
//! uid        what tells one object from the next of its name
//! depth      how many levels it may have
//! namespace  where it lives
//! metadata   what its metadata must look like, whatever its kind
//! gvk        what kinds are called
//! kind       one descriptor per kind, and the Strategy that is special about it
//! layer      some kinds together
//! registry   which of them a logical cluster serves: the layer that all share, and its own
//! view       the kind that is served over the one that is written
//! types/     the committed table of facts: fields, defaults, keys, proto numbers; what reads it
//! protobuf/  objects in Kubernetes' protobuf
//! openapi/   the documents that kubectl validates and explains by
//! patch/     JSON, merge and strategic merge patches
//! selector   label and field selectors
//! quantity, time, duration, name    the scalar formats
//! table      server-side columns
//! ```

pub mod depth;
pub mod duration;
pub mod error;
pub mod field_errors;
pub mod gvk;
pub mod kind;
pub mod layer;
pub mod metadata;
pub mod name;
pub mod namespace;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod path;
pub mod protobuf;
pub mod quantity;
pub mod registry;
pub mod selector;
mod shared_text;
pub mod table;
pub mod time;
pub mod truncated_text;
pub mod types;
pub mod uid;
pub mod view;
