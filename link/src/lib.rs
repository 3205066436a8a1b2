//! The contract between hub and spoke: what may be said, in which bytes, in which order.
//!
//! ```text
//! names, digest, generation   the nouns both sides share; identities: as whom the API knows them
//! address_networks            whose an address may be
//! limits                      how large things may be, layer by layer
//! record_set                  the set of records, its digest, deltas
//! part                        what is added to them later
//! plan                        records the hub pushes      (frozen bytes)
//! report                      what a spoke tells back     (frozen bytes)
//! ended                       which containers have ended (frozen bytes)
//! probes                      how their health is looked at (frozen bytes)
//! allocatable                 what of a device is its guests'
//! profile, artifact           which compiled modules a device can load, and what makes one trustworthy
//! message                     envelopes on the streams    (append-only)
//! frame                       length-delimited, bounded
//! figures                     what a spoke counts, when the hub asks (frozen bytes)
//! fit                         what a device says, cut to what a message may be
//! meter                       what a connection has carried, by what it was for
//! stream_budget               how many streams of each kind a link carries
//! stop_poll                   when who does not read a stream looks whether its peer has gone
//! transport, memory_transport           the session's view of a connection, and one without a network
//! hub_session, spoke_session  who says what next: no I/O, no clock
//! backoff                     how long to wait before the next try
//! join, labels                how a device becomes a spoke; what it may not say of itself
//! heap                        memory that the allocator keeps, given back
//! tls, quic                   the only rustls configurations; the only file that names quinn
//! ```

pub mod address_networks;
pub mod allocatable;
pub mod artifact;
pub mod backoff;
pub mod digest;
pub mod ended;
pub mod figures;
mod fit;
pub mod frame;
pub mod generation;
pub mod heap;
pub mod hub_session;
pub mod identities;
pub mod join;
pub mod labels;
pub mod limits;
pub mod memory_transport;
pub mod message;
pub mod meter;
pub mod names;
pub mod part;
pub mod plan;
pub mod probes;
pub mod profile;
pub mod quic;
pub mod record_set;
pub mod report;
pub mod spoke_session;
pub mod stop_poll;
pub mod stream_budget;
pub mod tls;
pub mod transport;
