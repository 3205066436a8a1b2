//! The pod network, in user space: every pod has an address, a loopback and ports, and no kernel knows it.
//!
//! ```text
//! fabric    one node: realms, pods by UID, doors; the agent's port `Network`
//! pod       one pod in its realm: connect, send, resolve
//! reach     a way is gone, and another one to a Service when there is none     away    endpoints not reached just now
//! realm     one realm: what it knows, asked and acted on      dns     names as pods see them
//! route     where something goes, and why not: decides, does nothing
//! tables    what a realm knows: pods, Services, addresses     service  who serves the next connection
//! ports     a pod as others meet it: its ports and budgets    sockets, listener, udp, conn, pipe    made of
//! door      a port of the node          node_port, node_port_tcp, node_port_udp    the ways in from the kernel
//! shared    what all realms share       remote    the way to other nodes
//! waiting   what waits to be read by a pod                    places  how many clients each UDP door has
//! bridge    a pod's connection to a stream outside            watched  who is told what a stream carries
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

mod away;
mod bridge;
mod conn;
mod dns;
mod door;
mod error;
mod fabric;
mod gates;
mod listener;
mod node_port;
mod node_port_tcp;
mod node_port_udp;
mod pipe;
mod places;
mod pod;
mod ports;
mod reach;
mod realm;
mod remote;
mod route;
mod service;
mod shared;
mod sockets;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod udp;
mod waiting;
mod watched;

pub use bridge::Stream;
pub use conn::{Conn, ConnIo, Connecting};
pub use door::Door;
pub use error::NetError;
pub use fabric::Fabric;
pub use listener::{Closed, Listener, MAX_BACKLOG};
pub use node_port::PortProblem;
pub use pipe::{Broken, End, NotTaken, Pipe};
pub use pod::PodNet;
pub use ports::{MAX_FILES, Ports};
pub use realm::{CONNECT_TIMEOUT, Realm};
pub use remote::Remote;
pub use service::Service;
pub use sockets::{MAX_SOCKETS, Slot};
pub use udp::{MAX_DATAGRAM, UdpPort};
pub use waiting::{BUDGET, CAPACITY, Waiting};
pub use watched::{Watched, Watcher};
