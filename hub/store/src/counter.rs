//! Numbers that many transactions add to at once: what a ledger counts.
//!
//! On disk a counter is a record like others, whose body is the number in digits; at 0 there is none. What is added in
//! one transaction is added to whatever is there when it commits, so none has to read it before, or to try again.
//!
//! Guarantees:
//! - additions of many at once all count, and none of them fails because of another
//!   (`additions_at_once_all_count`);
//! - a guard holds whatever comes at the same time (`a_guard_holds_against_a_crowd`);
//! - a counter that is 0 leaves no record (`a_counter_at_zero_leaves_nothing`);
//! - what is no counter is not made one (`what_is_no_counter_is_left_alone`).

use freewheel_hub_schema::object::{Header, Key, Object};

use crate::store_state::StoreState;
use crate::{CommitError, Operation};

/// The number that a counter's record says; `None` when it is no counter's.
pub(crate) fn read(record: &Object) -> Option<u64> {
    std::str::from_utf8(&record.body).ok()?.parse().ok()
}

/// The counter at this state.
pub(crate) fn at(state: &StoreState, key: &Key) -> Result<u64, CommitError> {
    let is_none = || {
        CommitError::Malformed(format!("there is no counter at {} {:?}", key.resource, key.name))
    };
    if !key.resource.is_internal() {
        return Err(is_none());
    }
    state.find(key).map_or(Ok(0), |stored| read(&stored.object).ok_or_else(is_none))
}

/// What it comes to when so much is added; `None` at 0.
pub(crate) fn record(count: u64, by: i64) -> Option<Object> {
    let sum = count.saturating_add_signed(by);
    let body = sum.to_string().into();
    (sum != 0).then(|| Object { header: Header::default(), body })
}

/// Whether the counter stays within `most` with what the operations add to it.
pub(crate) fn fits(
    state: &StoreState,
    key: &Key,
    most: u64,
    operations: &[Operation],
) -> Result<bool, CommitError> {
    let added = operations.iter().find_map(|operation| match operation {
        Operation::Add(counter, by) if counter == key => Some(*by),
        Operation::Add(..) | Operation::Put(..) | Operation::Delete(_) => None,
    });
    Ok(at(state, key)?.saturating_add_signed(added.unwrap_or_default()) <= most)
}
