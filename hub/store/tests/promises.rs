//! What every backend promises, run on each of them.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod bytes;
mod commits;
mod counters;
pub(crate) mod disk;
pub(crate) mod kit;
mod reads;
pub(crate) mod toy;
mod watches;

use kit::{Memory, Redb, Sparse};

macro_rules! on_every_backend {
    ($($module:ident :: $promise:ident,)*) => {
        mod memory {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
                async fn $promise() { $module::$promise(&Memory).await; }
            )*
        }
        mod sparse {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
                async fn $promise() { $module::$promise(&Sparse).await; }
            )*
        }
        mod redb {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
                async fn $promise() { $module::$promise(&Redb::new()).await; }
            )*
        }
    };
}

on_every_backend! {
    commits::a_transaction_is_all_or_nothing,
    commits::one_transaction_is_one_revision,
    commits::every_precondition_is_kept,
    commits::expectations_are_checked_in_order,
    commits::a_write_that_changes_nothing_keeps_the_revision,
    commits::deleting_what_is_absent_is_no_error,
    commits::a_key_twice_in_a_transaction_is_refused,
    commits::too_much_is_refused,
    commits::a_request_has_so_many_bytes_at_most,
    commits::of_many_writers_of_one_revision_one_wins,
    commits::concurrent_writers_each_get_a_revision,
    commits::created_stays_and_a_second_life_starts_anew,
    bytes::bytes_are_those_of_what_is_there_after_a_restart,
    bytes::what_is_rebuilt_of_the_past_has_nobodys_bytes,
    bytes::a_cluster_has_so_many_bytes_at_most_against_a_crowd,
    bytes::a_full_cluster_may_shrink_and_others_grow,
    counters::additions_at_once_all_count,
    counters::a_guard_holds_against_a_crowd,
    counters::a_counter_at_zero_leaves_nothing,
    counters::what_is_no_counter_is_left_alone,
    counters::a_counter_is_nothing_to_who_watches_objects,
    reads::a_snapshot_never_changes,
    reads::ranges_are_ordered_and_stay_in_their_scope,
    reads::a_range_goes_on_after_a_key,
    reads::older_revisions_are_exact,
    reads::a_revision_out_of_reach_is_an_error,
    reads::whoever_was_answered_reads_what_it_wrote,
    reads::a_revision_ahead_is_waited_for,
    reads::internal_records_are_followed_from_what_is_there,
    watches::events_come_once_and_in_order,
    watches::a_watch_starts_at_any_revision,
    watches::a_scope_sees_its_own_events_only,
    watches::overlapping_scopes_see_an_event_once,
    watches::a_revision_is_never_torn,
    watches::progress_moves_when_nothing_matched,
    watches::a_watcher_that_fell_behind_is_told,
    watches::a_busy_resource_takes_nobody_elses_past,
    watches::a_busy_cluster_takes_no_other_cluster_s_past,
    watches::an_idle_watcher_is_not_behind,
    watches::a_cancelled_wait_loses_nothing,
    watches::what_a_watch_says_a_snapshot_shows,
    watches::nobody_goes_on_from_revisions_that_were_skipped,
    watches::who_watches_is_told_of_a_skip,
    watches::every_watcher_sees_every_revision_under_load,
}
