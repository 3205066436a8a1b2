//! The workspace's test binaries: one command builds them, two run at a time, and what each prints stands together.
//!
//! ```text
//! cargo build --all-targets ─▶ binaries ─▶ two lanes, the longest first ─▶ those alone ─▶ what failed has printed
//! ```
//!
//! One lane is not enough: a test of processes waits most of the time, and the machine with it. Nothing is run twice: what
//! has failed once has failed.
//!
//! Guarantees:
//! - every target that cargo would test is run, and no other (`what_cargo_tests_is_run`);
//! - what has to have the machine to itself runs after the lanes (`who_runs_alone_comes_last`);
//! - the longest begin first (`the_longest_begin_first`);
//! - what fails is counted, and what it has printed stands at the end as well (`what_fails_is_counted_and_told_last`).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use freewheel_xtask_kit::command::{Stop, cargo, output, root};
use serde_json::Value;

/// At a time.
const LANES: usize = 2;

/// The longest first, by how their names begin: who begins one of these last waits for it alone.
const FIRST: [&str; 7] = [
    "tests/fleet",
    "hub/controllers/controllers",
    "spoke/runtime/runtime",
    "hub/apiserver/api",
    "hub/plan/",
    "hub/custom/",
    "hub/store/",
];

/// Its tests wait for processes of theirs most of the time: more of them run than there are cores.
const WAITS: &str = "tests/fleet";

/// So many more.
const WAITING: usize = 2;

/// Each looks at the memory of its whole process, or at how long something waits for its turn.
const ALONE: [&str; 4] =
    ["hub/objects/trees", "spoke/runtime/lanes", "spoke/runtime/mappings", "spoke/runtime/soak"];

/// One of cargo's targets with tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// Its package's folder, and the target.
    name: String,
    folder: PathBuf,
    program: PathBuf,
}

/// How one ended.
struct Ended {
    name: String,
    took: Duration,
    text: String,
    /// As its process says.
    well: bool,
}

/// How the whole suite went.
#[derive(Debug, Default, PartialEq)]
pub struct Sum {
    pub passed: u64,
    pub failed: u64,
}

/// Builds all that the workspace has.
pub fn build() -> Result<Vec<Binary>, Stop> {
    let said = output(
        cargo()
            .args(["build", "--quiet", "--locked", "--workspace", "--all-targets"])
            .arg("--message-format=json-render-diagnostics"),
    )?;
    let found = binaries(&root(), &said);
    for name in FIRST.iter().chain(&ALONE) {
        if !found.iter().any(|binary| binary.name.starts_with(name)) {
            return Err(Stop(format!("no test binary is called {name}: xtask/src/suite.rs")));
        }
    }
    Ok(found)
}

/// Its place among those that begin first.
fn place(binary: &Binary) -> usize {
    FIRST.iter().position(|name| binary.name.starts_with(name)).unwrap_or(FIRST.len())
}

/// Those among what cargo has made.
fn binaries(root: &Path, said: &str) -> Vec<Binary> {
    let artifacts = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let one = |artifact: Value| {
        let is_tested = artifact["profile"]["test"] == true && artifact["target"]["test"] == true;
        let program = PathBuf::from(artifact["executable"].as_str().filter(|_| is_tested)?);
        let manifest = Path::new(artifact["manifest_path"].as_str()?);
        let folder = manifest.parent()?.to_path_buf();
        let inner = folder.strip_prefix(root).ok()?.display().to_string();
        let name = format!("{inner}/{}", artifact["target"]["name"].as_str()?);
        Some(Binary { name, folder, program })
    };
    artifacts.filter_map(one).collect()
}

/// Runs them all, whatever fails.
pub fn run(binaries: Vec<Binary>, env: &[(&str, PathBuf)]) -> Sum {
    let start = |binary: &Binary| ended(binary, env);
    all(binaries, &start, &mut |text| println!("{text}"))
}

fn all(
    binaries: Vec<Binary>,
    start: &(impl Fn(&Binary) -> Ended + Sync),
    tell: &mut impl FnMut(&str),
) -> Sum {
    let (alone, mut others): (Vec<_>, Vec<_>) =
        binaries.into_iter().partition(|binary| ALONE.contains(&&*binary.name));
    others.sort_by_key(place);
    let (mut sum, mut failed) = (Sum::default(), Vec::new());
    for (queue, lanes) in [(others, LANES), (alone, 1)] {
        in_lanes(queue.into(), lanes, start, &mut |ended| {
            tell(&format!("== {}: {:.0} s\n{}", ended.name, ended.took.as_secs_f64(), ended.text));
            let (passed, counted) = counts(&ended.text);
            // One that dies before it counts must not pass for green.
            let lost = u64::from(!ended.well && counted == 0);
            sum.passed += passed;
            sum.failed += counted + lost;
            failed.extend((0 < counted + lost).then_some(ended));
        });
    }
    for ended in failed {
        tell(&format!("== failed above: {}\n{}", ended.name, ended.text));
    }
    sum
}

/// Takes one after the other into each lane, and says how it ended.
fn in_lanes(
    queue: VecDeque<Binary>,
    lanes: usize,
    start: &(impl Fn(&Binary) -> Ended + Sync),
    end: &mut impl FnMut(Ended),
) {
    let queue = Mutex::new(queue);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let (say, said) = mpsc::channel();
    std::thread::scope(|side_by_side| {
        for _ in 0..lanes {
            let (say, next) = (say.clone(), &next);
            side_by_side.spawn(move || {
                while let Some(binary) = next() {
                    // Whoever listens does so to the end.
                    let _ = say.send(start(&binary));
                }
            });
        }
        drop(say);
        said.iter().for_each(&mut *end);
    });
}

/// Runs one to its end, where cargo would.
fn ended(binary: &Binary, env: &[(&str, PathBuf)]) -> Ended {
    let begun = Instant::now();
    let mut command = Command::new(&binary.program);
    command
        .arg("--quiet")
        .current_dir(&binary.folder)
        .env("CARGO_MANIFEST_DIR", &binary.folder)
        .envs(env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null());
    if binary.name == WAITS {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.arg(format!("--test-threads={}", cores + WAITING));
    }
    let (well, text) = match command.output() {
        Ok(out) => {
            // Tests print what guests and devices say: not all of that is UTF-8.
            let said = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
            let end =
                if out.status.success() { String::new() } else { format!("{}\n", out.status) };
            (out.status.success(), format!("{}{}{end}", said[0], said[1]))
        }
        Err(error) => (false, format!("cannot start {}: {error}", binary.program.display())),
    };
    Ended { name: binary.name.clone(), took: begun.elapsed(), text, well }
}

/// What a harness has counted: passed and failed.
pub fn counts(text: &str) -> (u64, u64) {
    let (mut passed, mut failed) = (0, 0);
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("test result: ") else { continue };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            match (words.next().and_then(|n| n.parse::<u64>().ok()), words.next()) {
                (Some(n), Some("passed")) => passed += n,
                (Some(n), Some("failed")) => failed += n,
                _ => {}
            }
        }
    }
    (passed, failed)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::{ALONE, Binary, Ended, FIRST, Sum, all, binaries, ended, place};

    fn binary(name: &str) -> Binary {
        Binary { name: name.to_owned(), folder: "/".into(), program: "/nowhere/at/all".into() }
    }

    fn said(binary: &Binary, well: bool, text: &str) -> Ended {
        Ended { name: binary.name.clone(), took: Duration::ZERO, text: text.to_owned(), well }
    }

    #[test]
    fn what_cargo_tests_is_run() {
        let artifact = |name: &str, executable: &str, built: bool, listed: bool| {
            serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": "/r/hub/x/Cargo.toml",
                "target": {"name": name, "test": listed}, "profile": {"test": built},
                "executable": (!executable.is_empty()).then_some(executable),
            })
            .to_string()
        };
        let lines = [
            artifact("x", "", false, true),
            artifact("x", "/r/target/x-1", true, true),
            artifact("serve", "/r/target/serve", false, true),
            artifact("kit", "/r/target/kit-1", true, true),
            artifact("long", "/r/target/long-1", true, false),
            "{\"reason\":\"build-finished\",\"success\":true}".to_owned(),
        ];
        let found = binaries(Path::new("/r"), &lines.join("\n"));
        let one = |name: &str, program: &str| Binary {
            name: name.to_owned(),
            folder: "/r/hub/x".into(),
            program: program.into(),
        };
        assert_eq!(found, [one("hub/x/x", "/r/target/x-1"), one("hub/x/kit", "/r/target/kit-1")]);
    }

    #[test]
    fn who_runs_alone_comes_last() {
        let names = [ALONE[0], "a", ALONE[1], "b", FIRST[0]];
        let order = Mutex::new(Vec::new());
        let start = |binary: &Binary| {
            order.lock().unwrap().push(binary.name.clone());
            said(binary, true, "test result: ok. 1 passed; 0 failed; 0 ignored;")
        };
        let sum = all(names.map(binary).into(), &start, &mut |_| {});
        assert_eq!(sum, Sum { passed: 5, failed: 0 });
        let order = order.into_inner().unwrap();
        assert_eq!(order[3..], [ALONE[0], ALONE[1]]);
        assert!(order[..2].contains(&FIRST[0].to_owned()), "{order:?}");
    }

    #[test]
    fn the_longest_begin_first() {
        let mut all = ["hub/a/a", "hub/plan/freewheel_hub_plan", FIRST[1], "hub/plan2/x", FIRST[0]]
            .map(binary);
        all.sort_by_key(place);
        let names = all.each_ref().map(|binary| &*binary.name);
        assert_eq!(
            names,
            [FIRST[0], FIRST[1], "hub/plan/freewheel_hub_plan", "hub/a/a", "hub/plan2/x"]
        );
    }

    #[test]
    fn what_fails_is_counted_and_told_last() {
        let start = |binary: &Binary| match &*binary.name {
            "counts" => {
                said(binary, false, "why\ntest result: FAILED. 2 passed; 3 failed; 0 ignored;")
            }
            "dies" => said(binary, false, "a signal"),
            "is missing" => ended(binary, &[]),
            _ => said(binary, true, "test result: ok. 7 passed; 0 failed; 0 ignored;"),
        };
        let mut told = Vec::new();
        let sum =
            all(["counts", "dies", "is missing", "well"].map(binary).into(), &start, &mut |text| {
                told.push(text.to_owned());
            });
        assert_eq!(sum, Sum { passed: 9, failed: 5 });
        assert_eq!(told.len(), 7);
        let last = told[4..].concat();
        assert!(last.contains("counts\nwhy\n") && last.contains("a signal"), "{last}");
        assert!(last.contains("cannot start /nowhere/at/all") && !last.contains('7'), "{last}");
    }
}
