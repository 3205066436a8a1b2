//! Why a swarm cannot go on.

use std::io;
use std::time::Duration;

use freewheel_link::names::ClusterName;
use freewheel_link::tls::TlsError;
use freewheel_link::transport::DialError;
use freewheel_spoke_agent::ledger::LedgerError;
use freewheel_spoke_agent::uplink::join::NoIdentity;

use crate::command::Goal;

/// Why a swarm cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// A socket.
    #[error("no UDP socket")]
    Socket(#[source] io::Error),
    /// Keys or certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A key.
    #[error("cannot make a key")]
    Key(#[from] rcgen::Error),
    /// The prefix of names makes none.
    #[error("{0:?} is no name of a cluster")]
    Name(String),
    /// Nobody joins without one.
    #[error("there is no token to join with")]
    NoToken,
    /// The hub is not there.
    #[error("cannot reach the hub to join")]
    Dial(#[source] DialError),
    /// The hub took no device.
    #[error("{0} cannot join")]
    Join(ClusterName, #[source] NoIdentity),
    /// A ledger in memory.
    #[error("an agent cannot start")]
    Ledger(#[from] LedgerError),
    /// A device ended while it joined.
    #[error("a device ended while it joined")]
    Task(#[from] tokio::task::JoinError),
    /// Waited long enough.
    #[error("after {within:?} {reached} of {of} are where they should be: {goal:?}")]
    Late {
        /// What for.
        goal: Goal,
        /// How many were there.
        reached: u64,
        /// Of how many.
        of: u64,
        /// How long.
        within: Duration,
    },
}
