//! What a store holds: a guest's view of the world, a file for each thing that it may be able to do.
//!
//! ```text
//! given        arguments, environment, output, clocks, randomness    output     standard output and error
//! mounts       directories of the pod's spec                         files      what is open of them
//! sockets      wasi:sockets on the pod's network                     lifecycle  its own stop, codes of its own
//! fields       header fields of wasi:http                            requests   what is sent and answered with them
//! outgoing     where its requests go                                 handles    the table of all, with their bounds
//! file_view    calls on files, on the threads of its pod             splice       from one stream to another
//! ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────
//! store_data   all of that in one store, with its limits             linker     what of it a module may import
//! ```
//!
//! A file of the upper part knows no store: it asks for what it works on by a trait of its own (`HasFiles`, `HasNet`),
//! and says what it makes the host hold. One thing more that guests can do is one file more, with a line in `state` and
//! one in `linker`.

mod fields;
mod file_view;
mod files;
mod given;
mod handles;
mod lifecycle;
mod linker;
mod mounts;
mod outgoing;
mod output;
mod requests;
mod sockets;
mod splice;
mod store_data;

pub(crate) use fields::{FIELD_BYTES, HasFields};
pub(crate) use files::{LISTED_BYTES_PER_NAME_BYTE, tell};
pub(crate) use given::{CALL_BYTES_MAX, PATH_BYTES_MAX, RANDOM_BYTES_PER_CALL_MAX, give, size};
pub(crate) use handles::{BODY_PIECE_BYTES, HandleCount, SENT_BODY_BYTES, WRITTEN_BODY_BYTES};
pub(crate) use linker::linker;
pub(crate) use mounts::{Mounts, OfPod};
pub(crate) use store_data::{StoreData, StoreParts};
