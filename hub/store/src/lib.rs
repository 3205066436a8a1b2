//! Revisions: transactions with preconditions, consistent snapshots, watches from a revision.
//!
//! ```text
//! store     the contract of all backends: txn, snapshot, watch; of scope, stored, event, revision
//! prepare   what a transaction does to a state: expectations, limits, events
//! counter   numbers that many add to at once
//! stored_bytes  how many bytes each cluster has; room: what it may have
//! store_state  the persistent ordered map of one moment, O(1) to keep
//! history   recent events, shared by all watchers; each is called by its waker
//! watch_cache  what readers see: the newest durable state and the history
//! reflector  what somebody keeps of it, brought up to date when it is looked at
//! committer checks, batches, makes durable, publishes
//! layer     a store over another, with a little of its own
//! memory    the backend for tests and simulations; nothing survives
//! redb      the default: embedded, group commit, fsync before acknowledging
//! sealer    what lies sealed on its disk
//! ```
//!
//! Guarantees:
//! - a commit is answered after it is durable (`nothing_is_answered_or_seen_before_it_is_durable`,
//!   `every_acknowledged_write_survives_kill_9`);
//! - a reader sees only durable revisions, and always a whole one
//!   (`nothing_is_answered_or_seen_before_it_is_durable`, `a_revision_is_never_torn`);
//! - whoever was answered finds what it wrote in whatever it reads or watches next
//!   (`whoever_was_answered_reads_what_it_wrote`);
//! - watches deliver each revision once, in order (`events_come_once_and_in_order`);
//! - or say that it is gone (`a_watcher_that_fell_behind_is_told`);
//! - a transaction has a size that is known beforehand (`too_much_is_refused`, `a_request_has_so_many_bytes_at_most`);
//! - revisions may have gaps, for others may write as well (`a_gap_between_revisions_is_no_loss`), and each start of a hub
//!   leaves some out, so that a store that is put back from a copy uses none of the future that is lost
//!   (`a_life_uses_no_number_of_another`).

mod committer;
mod counter;
mod event;
mod history;
mod layer;
pub mod memory;
mod prepare;
pub mod redb;
mod reflector;
mod revision;
mod room;
mod scope;
mod sealer;
mod snapshot;
mod store;
mod store_state;
mod stored;
mod stored_bytes;
mod txn;
mod waker;
mod watch;
mod watch_cache;

pub use event::Event;
pub use history::Limits;
pub use layer::Layer;
pub use reflector::{Reflected, Reflector};
pub use revision::{Compacted, Revision};
pub use scope::Scope;
pub use sealer::{Resealed, SealError, Sealer, Unsealed};
pub use snapshot::Snapshot;
pub(crate) use store::random_incarnation;
pub use store::{Fresh, Store};
pub use stored::Stored;
pub use stored_bytes::StoredBytes;
pub use txn::{
    CommitError, Committed, DELETION_EXTRA_BYTES, Expect, MAX_OBJECT_BYTES, MAX_OPERATIONS,
    MAX_REQUEST_BYTES, Operation, Txn,
};
pub use watch::Watch;
