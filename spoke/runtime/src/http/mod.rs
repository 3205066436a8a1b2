//! HTTP containers: `wasi:http/incoming-handler` on the pod's port. The requests that guests make are in `world`.
//!
//! ```text
//! pod's port ─▶ serve ─▶ connection: hyper, one task each ─▶ answer ─▶ pool: idle instances, queue ─▶ one instance
//!                server: what all connections of a port share       connection_slots: who is there and for how long
//!                request_heads: what has come of a request          request_body: its body, on its way to the guest
//!                client_memory: what clients may hold               failure: why there is no answer of the guest's
//!                answer_memory: what is held of an answer          hyper_buffers: what hyper has for a connection
//! ```
//!
//! A container is served on its first TCP containerPort, or on 8080 when it declares none. There is no instance
//! while there is no traffic.

mod answer;
mod answer_memory;
mod client_memory;
mod connection;
mod connection_slots;
mod failure;
mod failure_counts;
mod hyper_buffers;
mod pool;
mod request_body;
mod request_heads;
mod serve;
mod server;

pub(crate) use pool::Pool;
pub(crate) use serve::{DEFAULT_PORT, serve};
