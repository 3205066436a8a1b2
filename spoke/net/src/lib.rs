//! The pod network, in user space: every pod has an address, a loopback and ports, and no kernel knows it.
//!
//! ```text
//! fabric    one node: realms, pods by UID, doors; the agent's port `Network`
//! realm     one realm: pods by address, Services, where a connection goes
//! reach     the way to a Service, and to another of its endpoints when there is none
//! away      endpoints that were not reached just now
//! service   who serves the next connection          dns    names as pods see them
//! pod       one pod: ports, connect, resolve        listener, udp, conn, pipe    what it is made of
//! remote    the way to other nodes                  node_port, node_port_udp     the way in from the kernel
//! waiting   what waits to be read by a pod             places    how many clients each UDP door has
//! bridge    a pod's connection to a stream outside     watched   who is told what a stream carries
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
mod error;
mod fabric;
mod listener;
mod node_port;
mod node_port_tcp;
mod node_port_udp;
mod pipe;
mod places;
mod pod;
mod reach;
mod realm;
mod remote;
mod service;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod udp;
mod waiting;
mod watched;

pub use conn::{Conn, ConnIo};
pub use error::NetError;
pub use fabric::Fabric;
pub use listener::{Closed, Listener, MAX_BACKLOG};
pub use node_port::{Door, PortProblem};
pub use pipe::{Broken, End, NotTaken, Pipe};
pub use pod::{Connecting, MAX_FILES, MAX_SOCKETS, PodNet, Slot};
pub use realm::{CONNECT_TIMEOUT, Realm};
pub use remote::{Remote, Stream};
pub use service::Service;
pub use udp::{MAX_DATAGRAM, UdpPort};
pub use waiting::{BUDGET, CAPACITY, Waiting};
pub use watched::{Watched, Watcher};
