//! Whether a cluster has room for what a transaction brings.
//!
//! Guarantees:
//! - a bound holds whatever comes at the same time (`a_cluster_has_so_many_bytes_at_most_against_a_crowd`);
//! - it is in the way of nobody who takes no more than before, and of no other cluster
//!   (`a_full_cluster_may_shrink_and_others_grow`).

use freewheel_link::names::ClusterName;

use crate::store_state::StoreState;
use crate::stored_bytes::bytes_of;
use crate::{CommitError, Operation, counter};

/// Fails when the cluster would have more than `most`, and more than before.
pub(crate) fn check(
    state: &StoreState,
    cluster: &ClusterName,
    most: u64,
    operations: &[Operation],
) -> Result<(), CommitError> {
    let (mut come, mut go) = (0_u64, 0_u64);
    for operation in operations.iter().filter(|operation| operation.key().cluster == *cluster) {
        let key = operation.key();
        let before = state.find(key).map_or(0, |stored| bytes_of(key, &stored.object));
        let after = match operation {
            Operation::Put(_, object) => bytes_of(key, object),
            Operation::Delete(_) => 0,
            Operation::Add(_, by) => {
                let record = counter::record(state.counter_at(key)?, *by);
                record.map_or(0, |record| bytes_of(key, &record))
            }
        };
        (come, go) = (come.saturating_add(after), go.saturating_add(before));
    }
    let held = state.bytes().of(cluster);
    if come <= go || held.saturating_add(come - go) <= most {
        return Ok(());
    }
    Err(CommitError::ClusterFull { cluster: cluster.clone(), held, more: come - go, most })
}
