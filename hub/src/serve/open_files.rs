//! How many files and connections this process may have open.
//!
//! Guarantees:
//! - the hub uses what its system allows it: the soft limit, which is made for programs of the eighties, is raised to
//!   the hard one (`a_low_soft_limit_is_raised_to_the_hard_one`).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// More are of no use: the listener's places end before.
const OPEN_FILES_MAX: u64 = 1 << 20;
/// Fewer are too few for a fleet's administrators and their tools.
const OPEN_FILES_WARN_BELOW: u64 = 4096;

/// Raises the limit as far as it goes; answers how many there are now.
pub(super) fn raise() -> usize {
    let before = getrlimit(Resource::Nofile);
    let wanted = before.maximum.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX);
    let soft = before.current.unwrap_or(OPEN_FILES_MAX);
    let limit = Rlimit { current: Some(wanted), maximum: before.maximum };
    let files = if wanted <= soft {
        soft
    } else if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(error = %io::Error::from(error), "the limit of open files cannot be raised");
        soft
    } else {
        wanted
    };
    if files < OPEN_FILES_WARN_BELOW {
        warn!(
            files,
            "few files may be open, and each connection is one: raise the hard limit (LimitNOFILE= of \
             systemd, ulimit -Hn of a shell)"
        );
    } else {
        info!(files, "open files are bounded");
    }
    usize::try_from(files).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_soft_limit_is_raised_to_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit { current: Some(300), maximum: before.maximum };
        setrlimit(Resource::Nofile, low).unwrap();
        let hard = before.maximum.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX);
        assert_eq!(raise() as u64, hard);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(hard));
    }
}
