//! How many files and connections this process may have open, and whose they are.
//!
//! ```text
//! all = half for guests (their files and mounts) + quarter for clients of node ports + eighth for node ports that are open
//!       + eighth for the agent
//! ```
//!
//! Of clients there are as many as the kernel has memory for, if that is fewer (`connections_from_outside`).
//!
//! Guarantees:
//! - the spoke uses what its system allows it (`a_low_soft_limit_is_raised_to_the_hard_one`);
//! - no guest takes a descriptor of the agent's, no client, and no node port (`pods_are_as_many_as_have_descriptors`,
//!   `a_pod_that_opens_files_is_told_when_it_has_enough`,
//!   `a_door_that_has_taken_all_descriptors_leaves_the_others_a_few`,
//!   `a_node_has_no_more_ports_open_than_it_has_descriptors_for`);
//! - the node offers no more pods than can each have a few (`a_node_offers_no_more_pods_than_it_has_descriptors_for`).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// More are of no use.
const OPEN_FILES_MAX: u64 = 1 << 20;
/// What a pod may need of the guests' half without opening a file: two mounts.
const POD_FILES: u64 = 2;

/// Raises the soft limit, which is made for programs of the eighties, to the hard one.
pub(crate) fn raise() {
    let before = getrlimit(Resource::Nofile);
    let wanted = hard();
    if before.current.is_none_or(|soft| wanted <= soft) {
        return;
    }
    let limit = Rlimit { current: Some(wanted), maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(error = %io::Error::from(error), "the limit of open files cannot be raised");
    }
}

/// What this process may have open now.
pub(crate) fn allowed() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX)
}

/// What it could have.
pub(crate) fn hard() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX)
}

/// What of it is the guests'.
pub(crate) const fn for_guests(all: u64) -> u64 {
    all / 2
}

/// What of it is for connections from outside, each of which is one.
pub(crate) const fn for_clients(all: u64) -> u64 {
    all / 4
}

/// What of it is for node ports, each of which is one while it is open.
pub(crate) const fn for_node_ports(all: u64) -> u64 {
    all / 8
}

/// Pods that can all run with it.
pub(crate) fn pods(all: u64) -> u32 {
    u32::try_from(for_guests(all) / POD_FILES).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_soft_limit_is_raised_to_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit { current: Some(300), maximum: before.maximum };
        setrlimit(Resource::Nofile, low).unwrap();
        assert_eq!(allowed(), 300);
        raise();
        assert_eq!(allowed(), hard());
    }

    #[test]
    fn pods_are_as_many_as_have_descriptors() {
        assert_eq!((for_guests(1024), for_clients(1024), pods(1024)), (512, 256, 256));
        assert_eq!((for_node_ports(1024), pods(2)), (128, 1));
        assert!(5000 < pods(1 << 20));
    }
}
