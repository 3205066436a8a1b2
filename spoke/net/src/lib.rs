//! The pod network, in user space: every pod has an address, a loopback and ports, and no kernel knows it.
//!
//! ```text
//! fabric    one node: realms, pods by UID, node ports; the agent's port `Network`
//! pod       one pod in its realm: connect, send, resolve
//! service_dial  a way is gone, and another one to a Service when there is none     endpoint_health    endpoints not reached just now
//! realm     one realm: what it knows, asked and acted on      dns     names as pods see them
//! route     where something goes, and why not: decides, does nothing
//! tables    what a realm knows: pods, Services, addresses     service  who serves the next connection
//! ports     a pod as others meet it: its ports and budgets    sockets, listener, udp, conn, pipe    made of
//! node_port_listener  a port of the node          node_port, node_port_tcp, node_port_udp    the ways in from the kernel
//! node_port_places  how many of them are open, and whose
//! shared    what all realms share       remote    the way to other nodes
//! link_places  whose the connections to other nodes are, and who makes room there
//! receive_memory  what waits to be read by a pod                    udp_client_quota  how many clients each UDP node port has
//! unread    what waits for a pod in the link
//! bridge    a pod's connection to a stream outside            watched_stream  who is told what a stream carries
//! send_queue  what the kernel holds of what was written to a stream     made_room  full pods for which somebody was sent away
//! kernel_buffers  how much it may hold
//! gates     what is counted, where connections and datagrams go through
//! ```
//!
//! Knows no wasmtime: hyper, probes, port-forward and tunnels speak [`ConnIo`].
//!
//! Guarantees:
//! - no address leads from one realm into another (`realms_with_the_same_addresses_and_names_do_not_meet`);
//! - whatever a pod leaves unread is bounded (`a_pod_that_reads_nothing_holds_little_more_than_its_budget`,
//!   `datagrams_that_nobody_reads_are_within_one_budget_for_all_ports_of_a_pod`);
//! - nothing leads out of the cluster (`what_cannot_be_reached_says_why`).

mod bridge;
mod conn;
mod dns;
mod endpoint_health;
mod error;
mod fabric;
mod gates;
mod kernel_buffers;
mod link_places;
mod listener;
mod made_room;
mod node_port;
mod node_port_listener;
mod node_port_places;
mod node_port_tcp;
mod node_port_udp;
mod pipe;
mod pod;
mod ports;
mod realm;
mod receive_memory;
mod remote;
mod route;
mod send_queue;
mod service;
mod service_dial;
mod shared;
mod sockets;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod udp;
mod udp_client_quota;
mod unread;
mod watched_stream;

pub use bridge::Stream;
pub use conn::{Conn, ConnIo, Connecting};
pub use error::{Bottleneck, NetError};
pub use fabric::Fabric;
pub use kernel_buffers::connections_from_outside;
pub use listener::{Closed, Listener, MAX_BACKLOG};
pub use node_port::PortProblem;
pub use node_port_listener::NodePort;
pub use pipe::{Broken, End, NotTaken, Pipe};
pub use pod::PodNet;
pub use ports::{FILES_LEAST, MAX_FILES, Ports};
pub use realm::{CONNECT_TIMEOUT, Realm};
pub use receive_memory::{PIPE_BYTES_MAX, POD_RECEIVE_BYTES_MAX, ReceiveMemory};
pub use remote::Remote;
pub use service::Service;
pub use sockets::{MAX_SOCKETS, Slot};
pub use udp::{DATAGRAM_BYTES_MAX, UdpPort};
pub use watched_stream::{Watched, Watcher};
