//! Container logs: from a guest's stdout and stderr to bounded files and out to `kubectl logs`.
//!
//! ```text
//! guest ─▶ sink (64 KiB, then the guest waits) ─▶ drain ─▶ file (CRI lines, two files of 10 MiB) ─▶ read
//! budget    how much of the disk, and how fast, for one container and for all
//! log_files  which files go with their pod               stamp    times as they stand in the files
//! ended     which of them make room
//! ```
//!
//! Knows no wasmtime: whoever runs guests gives them a [`LogStream`] in the form that they write to.
//!
//! Guarantees:
//! - nothing that a guest wrote is lost while the disk takes it, and a container that ended has all its lines in
//!   the file (`a_flood_of_lines_is_whole_in_the_log`), also when it ends with the agent
//!   (`what_guests_wrote_before_the_agent_ends_is_in_their_logs`);
//! - what is lost is said (`a_full_disk_leaves_whole_lines_and_the_loss_is_said`);
//! - what it keeps in memory and on disk is bounded, whatever the guest does
//!   (`what_waits_for_the_disk_is_bounded`, `what_waits_for_the_disk_is_on_the_account`,
//!   `handles_of_a_stream_share_what_they_are_promised`, `a_note_is_bounded`,
//!   `all_logs_together_have_what_the_node_gives`, `logs_of_what_has_ended_make_room_the_oldest_first`);
//! - a reader that falls behind it is told that lines are missing, where they are missing
//!   (`a_reader_that_falls_behind_is_told_where_lines_are_missing_and_only_then`).

mod budget;
mod drain;
mod ended;
mod log_files;
mod read;
mod sink;
mod stamp;

pub use budget::{LogBudget, WRITES_AT_ONCE};
pub use drain::{LINE_BYTES_MAX, drain};
pub use log_files::KeptLogs;
pub use read::{LogOptions, READS_AT_ONCE, at_turn, read};
pub use sink::{LogSink, LogStream, PROMISED_BYTES_MAX, Source, Unasked, Written};
