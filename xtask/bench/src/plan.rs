//! How long and how often a bench measures.

/// How long and how often.
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: u32,
    pub quick: bool,
    /// Build nothing of ours.
    pub built: bool,
    /// Of a swarm, to begin with and at most.
    pub spokes: (u32, u32),
}
