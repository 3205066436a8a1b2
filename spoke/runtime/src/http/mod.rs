//! HTTP containers: `wasi:http/incoming-handler` on the pod's port, and requests that guests make.
//!
//! ```text
//! pod's port ─▶ serve ─▶ connection: hyper, one task each ─▶ answer ─▶ pool: idle instances, queue ─▶ one instance
//!                seats: who sits on a connection and for how long     heads: what has come of a request
//!                handler: what instances are made from
//! guest ─▶ outgoing ─▶ the pod's names and connections
//! ```
//!
//! A container is served on its first TCP containerPort, or on 8080 when it declares none. There is no instance
//! while there is no traffic.

mod answer;
mod connection;
mod handler;
mod heads;
mod outgoing;
mod pool;
mod received;
mod seats;
mod serve;
mod troubles;

pub(crate) use handler::Handler;
pub(crate) use outgoing::Outgoing;
pub(crate) use pool::Pool;
pub(crate) use serve::{DEFAULT_PORT, serve};
