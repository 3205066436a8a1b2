//! The number that orders all states of a store, and what is said of one that is kept no more.

/// The state after a transaction that changed something. Later ones are larger, and nothing else follows from the
/// number: where others write as well, theirs lie in between. 0 is the state before anything was written.
pub type Revision = u64;

/// The revision asked for is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Compacted {
    /// Where the watch wanted to go on.
    pub asked: Revision,
    /// The oldest revision that can be watched from.
    pub oldest: Revision,
}
