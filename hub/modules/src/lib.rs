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
//! blobs      content by digest, uploads in progress
//! tags       names and what they stand for, durable
//! inspect    is it a component, and which world does it export
//! registry   the OCI distribution API over both
//! compile    the bounded child process, and what runs inside it
//! sign       the fleet root and the hub's signing key
//! modules    all together, as the gateway sees it (hub-api's `Images`)
//! ```

mod blobs;
pub mod compile;
mod inspect;
mod modules;
pub mod reference;
mod registry;
mod sign;
mod tags;

pub use modules::{Modules, OpenError, Options};
pub use sign::FleetRoot;
