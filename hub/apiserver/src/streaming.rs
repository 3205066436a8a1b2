//! Streams from and to a pod: `pods/NAME/log`, `portforward`, `exec`, `attach`, and the proxies of pods and services.
//!
//! ```text
//! handshake   what a connection is to become: SPDY/3.1, SPDY/3.1 in WebSocket, WebSocket with channels
//! upgrade     the connection changes hands, from HTTP to whom it was promised
//! websocket   a WebSocket as bytes           channels   the same as numbered channels
//! pod         which device is behind a pod       stream_end when what goes on has to end
//! log         `pods/NAME/log`
//! port_forward
//! remote_command   `kubectl exec`, `attach`   (wants, command_streams)
//! pod_proxy   requests that go on to a pod       backend    who is behind their path   (addressed)
//! service_dialer   the same for parts of the hub
//! ```
//!
//! A session is a part of its connection's task: it ends with the hub, with its cluster and with its user's certificate,
//! and what it holds is on its connection's account.

mod addressed;
mod backend;
mod channels;
mod command_streams;
mod handshake;
mod log;
mod pod;
mod pod_proxy;
mod port_forward;
mod remote_command;
mod service_dialer;
mod stream_end;
pub(crate) mod upgrade;
mod wants;
mod websocket;

pub(crate) use addressed::Addressed;
pub(crate) use log::log;
pub(crate) use pod_proxy::proxy;
pub(crate) use port_forward::port_forward;
pub(crate) use remote_command::{attach, exec};
pub use service_dialer::ServiceDialer;
