//! HTTP containers: `wasi:http/incoming-handler` on the pod's port, and requests that guests make.
//!
//! ```text
//! pod's port ─▶ serve: hyper, one task per connection ─▶ pool: idle instances, queue ─▶ worker: one instance
//! guest ─▶ outgoing ─▶ the pod's names and connections
//! ```
//!
//! A container is served on its first TCP containerPort, or on 8080 when it declares none. There is no instance
//! while there is no traffic.

mod outgoing;
mod pool;
mod serve;

pub(crate) use outgoing::Outgoing;
pub(crate) use pool::Pool;
pub(crate) use serve::{DEFAULT_PORT, serve};
