//! How many commands a container runs at a time beside its program.
//!
//! Guarantees:
//! - whoever runs commands in a container keeps none of its probes from looking
//!   (`commands_leave_places_for_the_probes_of_their_container`).

use std::sync::Arc;

use freewheel_link::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Commands that somebody asks for. A probe that finds no place of its own takes one of these.
pub(crate) const COMMANDS_MAX: usize = limits::CONTAINER_COMMANDS_MAX;
/// Commands of probes beside those: liveness and readiness are looked at by one each.
const PROBE_COMMANDS_MAX: usize = 2;

/// Who runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandOf {
    /// A client of the API.
    User,
    /// A probe of the container.
    Probe,
}

/// Those of one container.
#[derive(Clone)]
pub(crate) struct CommandPlaces {
    users: Arc<Semaphore>,
    probes: Arc<Semaphore>,
}

impl CommandPlaces {
    pub(crate) fn new() -> Self {
        let places = |most| Arc::new(Semaphore::new(most));
        Self { users: places(COMMANDS_MAX), probes: places(PROBE_COMMANDS_MAX) }
    }

    /// A place that comes back when it is dropped; `None`: all are taken.
    pub(crate) fn take(&self, of: CommandOf) -> Option<OwnedSemaphorePermit> {
        let own = match of {
            CommandOf::User => None,
            CommandOf::Probe => self.probes.clone().try_acquire_owned().ok(),
        };
        own.or_else(|| self.users.clone().try_acquire_owned().ok())
    }
}
