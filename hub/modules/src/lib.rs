//! The hub's modules: an OCI registry, compilation ahead of time, signatures.
//!
//! ```text
//! hub push / oras ──/v2/──▶ registry ─▶ blobs + tags ──resolve──▶ digest in a plan record
//!                                          │
//!                 compile (child process, per engine profile) ─▶ sign ─▶ artifact to the spoke
//! ```
//!
//! ```text
//! reference  what an `image:` says
//! blobs      content by digest
//! uploads    content on its way in
//! manifest   what a manifest stands on
//! tags       names and what they stand for, durable
//! inspect    is it a component, can it be started, and how much is in it
//! imports    what it asks of whoever runs it
//! registry   the OCI distribution API over all of these
//! compile_queue  whose turn it is to be compiled     compile_shares  how much each has had
//! compile    the bounded child process, and what runs inside it
//! compiled   what it made, for every profile
//! collector  gives back the disk that nobody uses any more
//! durable    files that are whole or not there
//! disk_reserve  what of the disk is the store's
//! state      what all of these share
//! sign       the fleet root and the hub's signing key
//! modules    all together, as the gateway sees it (hub-api's `Images`)
//! ```

mod blobs;
mod collector;
pub mod compile;
mod compile_queue;
mod compile_shares;
mod compiled;
mod disk_reserve;
mod durable;
mod imports;
mod inspect;
mod manifest;
mod modules;
pub mod reference;
mod registry;
mod sign;
mod state;
mod tags;
mod uploads;

pub use blobs::BLOB_BYTES_MAX;
pub use modules::{Facts, Modules, OpenError, Options, Progress};
pub use registry::RegistryOnly;
pub use sign::{FleetRoot, RootError};
