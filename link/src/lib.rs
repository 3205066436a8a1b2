//! The contract between hub and spoke: what may be said, in which bytes, in which order.
//!
//! ```text
//! names, digest, generation   the nouns both sides share
//! plan                        records the hub pushes      (frozen bytes)
//! report                      what a spoke tells back     (frozen bytes)
//! message                     envelopes on the streams    (append-only)
//! frame                       length-delimited, bounded
//! transport, memory           the session's view of a connection, and one without a network
//! hub_session, spoke_session  who says what next: no I/O, no clock
//! tls, quic                   the only rustls configurations; the only file that names quinn
//! ```

pub mod artifact;
pub mod digest;
pub mod generation;
pub mod names;
pub mod plan;
pub mod report;
