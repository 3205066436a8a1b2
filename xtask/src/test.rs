//! `cargo xtask test`: everything that CI runs, ending with `N passed, N failed`.
//!
//! `--all` adds the long tier: the shipped spoke's size and symbols, more simulation seeds, more
//! crash rounds, more clusters, modules of other toolchains, other people's registry clients, upstream's conformance specs, a short soak,
//! documentation, dependency policy. A tier is not a skip: both run before a release.
//!
//! Guarantees:
//! - what fails is counted, a harness that dies before it counts included, and keeps nothing from running
//!   (`what_fails_is_counted_and_the_rest_runs`).

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use freewheel_xtask_kit::command::{Stop, cargo, run, target};
use freewheel_xtask_kit::guests;

use crate::{kubectl, long, suite, tidy};

/// Passed and failed tests so far.
#[derive(Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
}

impl Tally {
    /// Counts a step that is one check.
    fn step(&mut self, name: &str, check: impl FnOnce() -> Result<(), Stop>) {
        let start = Instant::now();
        println!("== {name}");
        match check() {
            Ok(()) => self.passed += 1,
            Err(stop) => {
                self.failed += 1;
                println!("{name} failed: {stop}");
            }
        }
        println!("== {name}: {:.0} s", start.elapsed().as_secs_f64());
    }

    /// Runs a test command and counts what its harnesses print.
    pub fn harness(&mut self, name: &str, command: &mut Command) {
        let start = Instant::now();
        println!("== {name}");
        let before = self.failed;
        match self.count(command) {
            Ok(true) => {}
            // A harness that dies before it counts must not pass for green.
            Ok(false) if self.failed == before => self.failed += 1,
            Ok(false) => {}
            Err(stop) => {
                self.failed += 1;
                println!("{name} failed: {stop}");
            }
        }
        println!("== {name}: {:.0} s", start.elapsed().as_secs_f64());
    }

    /// Runs the workspace's own tests.
    fn suite(&mut self, binaries: Vec<suite::Binary>, env: &[(&str, PathBuf)]) {
        let start = Instant::now();
        println!("== tests");
        let sum = suite::run(binaries, env);
        self.passed += sum.passed;
        self.failed += sum.failed;
        println!("== tests: {:.0} s", start.elapsed().as_secs_f64());
    }

    fn count(&mut self, command: &mut Command) -> Result<bool, Stop> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Stop(format!("cannot start the tests: {e}")))?;
        let Some(out) = child.stdout.take() else {
            return Err(Stop("the tests have no output".into()));
        };
        let mut out = BufReader::new(out);
        let mut bytes = Vec::new();
        // Tests print what guests and devices say: not all of that is UTF-8.
        while out.read_until(b'\n', &mut bytes).is_ok_and(|read| read != 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            println!("{line}");
            let (passed, failed) = suite::counts(&line);
            self.passed += passed;
            self.failed += failed;
        }
        let status = child.wait().map_err(|e| Stop(format!("cannot wait for the tests: {e}")))?;
        Ok(status.success())
    }
}

/// Runs all steps, even after a failed one, and prints the tally last.
pub fn all(long_tier: bool) -> Result<(), Stop> {
    let mut tally = Tally::default();
    tally.step("fmt", || run(cargo().args(["fmt", "--all", "--check"])));
    tally.step("tidy", tidy::run);
    tally.step("clippy", || {
        run(cargo().args([
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    });
    // What only the long tier runs is none of all targets, and must not rot.
    tally.step("clippy of the long tier", || {
        run(cargo().args([
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--test",
            "long",
            "--",
            "-D",
            "warnings",
        ]))
    });
    tally.step("guests", || guests::build().map(|_| ()));
    let mut found = PathBuf::from("kubectl");
    tally.step("kubectl", || kubectl::find().map(|path| found = path));
    let mut binaries = Vec::new();
    tally.step("build", || suite::build().map(|built| binaries = built));
    tally.suite(
        binaries,
        &[
            ("FREEWHEEL_BIN", target().join("debug")),
            ("FREEWHEEL_GUESTS", target().join("guests")),
            ("FREEWHEEL_KUBECTL", found),
        ],
    );
    if long_tier {
        long::run(&mut tally);
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { Ok(()) } else { Err(Stop("not everything passed".into())) }
}

impl Tally {
    /// For the long tier's single checks.
    pub fn check(&mut self, name: &str, check: impl FnOnce() -> Result<(), Stop>) {
        self.step(name, check);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Tally;
    use freewheel_xtask_kit::command::Stop;

    #[test]
    fn what_fails_is_counted_and_the_rest_runs() {
        let mut tally = Tally::default();
        tally.step("fails", || Err(Stop("as asked".into())));
        tally.step("passes", || Ok(()));
        assert_eq!((tally.passed, tally.failed), (1, 1));
        let harness = |tally: &mut Tally, script: &str| {
            tally.harness("tests", Command::new("sh").args(["-c", script]));
        };
        harness(&mut tally, "echo 'test result: ok. 3 passed; 0 failed; 0 ignored;'");
        assert_eq!((tally.passed, tally.failed), (4, 1));
        harness(&mut tally, "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored;'; exit 101");
        assert_eq!((tally.passed, tally.failed), (6, 2));
        harness(&mut tally, "printf '\\377\\n'; echo 'test result: ok. 0 passed; 0 failed;'");
        harness(&mut tally, "exit 101");
        assert_eq!((tally.passed, tally.failed), (6, 3));
        tally.harness("nothing there", &mut Command::new("/nowhere/at/all"));
        assert_eq!((tally.passed, tally.failed), (6, 4));
    }
}
