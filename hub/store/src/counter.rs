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

use freewheel_hub_schema::object::{Header, Object};

/// The number that a counter's record says; `None` when it is no counter's.
pub(crate) fn read(record: &Object) -> Option<u64> {
    std::str::from_utf8(&record.body).ok()?.parse().ok()
}

/// What it comes to when so much is added; `None` at 0.
pub(crate) fn record(count: u64, by: i64) -> Option<Object> {
    let sum = count.saturating_add_signed(by);
    let body = sum.to_string().into();
    (sum != 0).then(|| Object { header: Header::default(), body })
}
