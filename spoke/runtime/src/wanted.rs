//! A container that is to start. What it was given is on its memory from then on: its module may have to be loaded first,
//! and a handler has no instance before somebody asks.
//!
//! Guarantees:
//! - arguments and environment count for as long as their container is there, whatever of it runs
//!   (`what_an_idle_handler_was_given_is_on_its_memory`);
//! - one that has no room for them ends as others that exceed their memory (`arguments_and_environment_are_memory`,
//!   `a_handler_that_has_no_room_for_what_it_is_given_is_out_of_memory`).

use std::sync::Arc;

use freewheel_spoke_account::Full;
use freewheel_spoke_agent::ports::StartContainer;

use crate::memory::{ContainerMemory, Share};

/// What a text costs beside its bytes and its place: its allocation.
const TEXT_OVERHEAD_BYTES: usize = 16;

/// A container that is to start.
pub(crate) struct Wanted {
    pub(crate) start: StartContainer,
    /// Place for its arguments and environment.
    pub(crate) given: Share,
}

impl Wanted {
    /// It is to start with this memory.
    pub(crate) fn new(start: StartContainer, memory: &Arc<ContainerMemory>) -> Result<Self, Full> {
        let mut given = memory.share();
        given.set(held(&start))?;
        Ok(Self { start, given })
    }
}

/// Bytes of its arguments and environment, with the room that was made for more of them.
fn held(start: &StartContainer) -> usize {
    let StartContainer { args, env, .. } = start;
    let pairs = env.iter().flat_map(|(name, value)| [name, value]);
    let texts = args.iter().chain(pairs).map(|text| text.capacity() + TEXT_OVERHEAD_BYTES);
    texts.sum::<usize>()
        + args.capacity() * size_of::<String>()
        + env.capacity() * size_of::<(String, String)>()
}
