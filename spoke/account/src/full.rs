//! Whose account was full, and what its user reads of that.

use std::fmt;

/// Whose account it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All guests of the node.
    Node,
    /// All containers of a pod, and its network.
    Pod,
    /// One start of a container.
    Container,
}

/// An account has no room for what was asked for. The text is what the user reads in the container's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Whose account it is.
    pub level: Level,
    /// Its limit.
    pub limit: usize,
    /// What it would have held.
    pub wanted: usize,
    /// What of that was asked for.
    pub more: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, limit, wanted, more: _ } = self;
        match level {
            Level::Container => write!(
                f,
                "memory limit of {limit} bytes reached: {wanted} bytes were asked for, with what the host holds \
                 for the container"
            ),
            Level::Pod => write!(
                f,
                "memory limit of the pod of {limit} bytes reached: {wanted} bytes were asked for, with what the \
                 host holds for the pod"
            ),
            Level::Node => write!(
                f,
                "the node's memory is used up: guests may have {limit} bytes together, {wanted} were asked for"
            ),
        }
    }
}

impl std::error::Error for Full {}
