//! A swarm: thousands of spokes in one process, so that a hub can be seen with a fleet.
//!
//! ```text
//! command ─▶ swarm ─▶ spoke: agent (spoke-agent) ─▶ uplink (spoke-agent) ─▶ line ─▶ QUIC (link) ─▶ socket ─▶ hub
//!                       └─▶ hollow: containers that run at once, a network, modules and a disk that keep nothing
//! ```
//!
//! ```text
//! command   what a swarm is told, a line each      order    where its hub is, and how its spokes come in
//! swarm     all spokes: they join, flap, fall silent, and are waited for
//! devices   how they become spokes
//! spoke     one of them
//! hollow    what it has in place of a machine
//! line      its connections, one after the other: cut, counted
//! socket    a UDP socket that many share, and that can lose packets
//! seen      what it has seen of its hub, and when
//! figures   what all of them have seen together
//! error     why it cannot go on
//! ```
//!
//! What decides and what speaks is what ships on devices: the agent with its ledger, its session and its link. What is
//! missing is the Wasm engine, the pod network, the disk, and a clock of its own.

mod command;
mod devices;
mod error;
mod figures;
mod hollow;
mod line;
mod order;
mod seen;
mod socket;
mod spoke;
mod swarm;

pub use command::{Command, Goal, NotACommand, Share};
pub use error::SwarmError;
pub use order::Order;
pub use swarm::Swarm;
