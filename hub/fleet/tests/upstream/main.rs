//! Random questions, and what Open Cluster Management's own code answers them (`tests/clients/ocm-oracle`): how far a
//! rollout may go, whom a Placement gets, and what is said of what a work has applied.
//!
//! It is ocm v1.2.1, the newest that the Go module proxy gives whole, with sdk-go v1.3.0: `sortBy` came later, and when to
//! look at something again is compared in rollouts only, since upstream does not look at scores that end.
//!
//! Some hundred of each are committed; with `FREEWHEEL_OCM_ORACLE`, a command line that answers more, those are asked as
//! well. A question is a seed, which a difference is told with: `ocm-oracle placement -from SEED -to SEED+1`.
//!
//! Where we differ on purpose there is a line in a table with the reason (`placements::DIFFERENCES`,
//! `rollouts::expected`), and one that shows in no question any more fails as well.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod asked;
mod placements;
mod rollouts;
mod works;

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use serde_json::Value;

/// So many that differ are looked at.
const FAILURES_SHOWN: usize = 8;

/// Shows those that are committed, and more where somebody answers them; says how many.
fn each(subject: &str, committed: &[u8], mut look: impl FnMut(&Value, &str)) -> usize {
    let mut failed = Vec::new();
    let mut show = |lines: &mut dyn BufRead| {
        let mut shown = 0;
        for line in lines.lines() {
            let question: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let place = format!("{subject}, seed {}", question["seed"]);
            // One that differs is seldom alone: some of them show what they have in common.
            if failed.len() < FAILURES_SHOWN
                && catch_unwind(AssertUnwindSafe(|| look(&question, &place))).is_err()
            {
                failed.push(place);
            }
            shown += 1;
        }
        shown
    };
    let mut shown = show(&mut BufReader::new(GzDecoder::new(committed)));
    assert!(200 <= shown, "{shown} are committed");
    if let Ok(command) = std::env::var("FREEWHEEL_OCM_ORACLE") {
        let mut words = command.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        let mut child = command.arg(subject).args(words).stdout(Stdio::piped()).spawn().unwrap();
        let more = show(&mut BufReader::new(child.stdout.take().unwrap()));
        assert!(child.wait().unwrap().success());
        assert_ne!(more, 0);
        shown += more;
    }
    assert!(failed.is_empty(), "not as upstream: {failed:#?}");
    println!("{shown} of {subject}");
    shown
}
