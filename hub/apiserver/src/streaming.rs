//! `pods/NAME/portforward`, and the proxies of pods and services: streams to a pod.
//!
//! ```text
//! handshake   what a connection is to become: SPDY/3.1, SPDY/3.1 in WebSocket, WebSocket with channels
//! upgrade     the connection changes hands, from HTTP to whom it was promised
//! websocket   a WebSocket as bytes           channels   the same as numbered channels
//! pod         which device is behind a pod
//! port_forward
//! remote_command   `kubectl exec`, `attach`
//! pod_proxy   requests that go on to a pod          backend    who is behind their path
//! ```
//!
//! A session is a part of its connection's task: it ends with the hub, with its cluster and with its user's certificate,
//! and what it holds is on its connection's account.

mod backend;
mod channels;
mod handshake;
pub(crate) mod pod;
mod pod_proxy;
mod port_forward;
mod remote_command;
pub(crate) mod upgrade;
mod websocket;

pub(crate) use pod_proxy::proxy;
pub(crate) use port_forward::port_forward;
pub(crate) use remote_command::{attach, exec};
