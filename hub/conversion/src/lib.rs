//! Conversion of custom resources by webhooks (apiextensions.k8s.io ConversionReview).
//!
//! ```text
//! definition ─ webhook: where, which reviews ─▶ converter: batches, in turn, in time ─ Caller: HTTPS ─▶ review: the answer
//! ```
//!
//! A webhook is asked where an object is in another version than is wanted: what is stored in one and read in another,
//! what is written in one and stored in another. Nobody else waits for it.

mod converter;
mod error;
mod review;
mod webhook;

pub use converter::Webhooks;
pub use error::ConversionError;
