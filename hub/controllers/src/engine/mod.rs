//! What every controller stands on.
//!
//! ```text
//! store.watch ─▶ informer ─keys─▶ queue ─key─▶ worker ─▶ Controller::reconcile ─▶ Objects
//!                                   ▲                         │ error, panic: back-off
//!                                   └───── later ◀────────────┘ Some(delay): look again
//! ```
//!
//! Guarantees:
//! - a key says *look*, never what changed: who falls behind still gets there
//!   (`controllers_that_fall_behind_still_get_there`);
//! - one key is worked on by one worker at a time (`a_key_waits_once_and_is_worked_on_by_one`);
//! - a failing key backs off alone and disturbs no other
//!   (`failures_and_panics_are_tried_again_and_disturb_nobody`), also where its failures change what it is woken by
//!   (`a_key_that_failed_rests_whoever_adds_it`);
//! - clusters take turns: one that has much to do keeps no other waiting (`one_cluster_keeps_no_other_waiting`), nor does
//!   one whose turns last, for which half of the workers are not there (`half_of_the_workers_are_left_to_others`);
//! - who panics says where and why, is counted, and goes on (`who_panics_is_counted_and_goes_on`,
//!   `what_is_logged_of_a_reconcile_says_which_it_is`).
//!
//! Two clusters whose turns last may have all workers between them, each for as long as a turn takes.
//!
//! There is no cache that may be behind the store: a snapshot is O(1) and in this process, and the
//! indexes beside it catch up before they answer, so a controller reads its own writes and needs no
//! expectations. There is no leader election: one hub runs all controllers; several hubs need a lease
//! here.

pub mod client;
pub mod clock;
pub mod controller;
pub mod error;
mod panicked;
pub mod queue;
mod queue_metrics;
pub mod throttle;
mod turns;

pub use client::Client;
pub use clock::Clock;
pub(crate) use controller::run_over;
pub use controller::{Controller, run};
pub use error::{Error, Faults};
pub use queue::Queue;
pub(crate) use queue_metrics::show;
pub use throttle::Throttle;
