//! One process of upstream's runner over some specs, with a bound on each.
//!
//! The runner bounds a spec itself and goes on with the next one; what hangs beyond that is ended from outside.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::Stop;
use rustix::process::{Pid, Signal, kill_process_group};

use super::content::Content;
use super::outcome::{Story, short};
use super::server::Server;
use super::spec::Spec;

/// What a spec may take for tidying up after its bound, and the runner for its start.
const GRACE: Duration = Duration::from_secs(60);

/// How many times as long a spec may take that says it is slow.
const SLOW: u32 = 6;

/// What every batch is run with.
pub struct Runner<'a> {
    pub suite: PathBuf,
    pub kubectl: PathBuf,
    pub server: &'a Server,
    pub content: Content,
    pub bound: Duration,
    /// Where logs are.
    pub folder: PathBuf,
    /// How many batches there were.
    pub batches: AtomicUsize,
}

/// What became of a batch.
pub struct Told {
    pub story: Story,
    /// Why the runner ended before it was through, if it did.
    pub cut: Option<String>,
    pub log: PathBuf,
}

impl Runner<'_> {
    /// Runs these specs.
    pub fn run(&self, specs: &[Spec]) -> Result<Told, Stop> {
        child::go_on()?;
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.join(format!("{number}.log"));
        let events = self.folder.join(format!("{number}.events"));
        let slow = specs.iter().any(|spec| spec.slow());
        let bound = self.bound * if slow { SLOW } else { 1 };
        let mut child = self.start(number, specs, bound, &log, &events)?;
        let (mut seen, mut moved) = (0, Instant::now());
        let cut = loop {
            if let Ok(Some(status)) = child.try_wait() {
                // 1 is what it says when specs have failed.
                let through = matches!(status.code(), Some(0 | 1));
                break (!through).then(|| format!("the runner ended with {status}"));
            }
            let size = std::fs::metadata(&events).map_or(0, |file| file.len());
            if size != seen {
                (seen, moved) = (size, Instant::now());
            }
            if bound + GRACE < moved.elapsed() {
                end(&mut child);
                break Some(format!("it did not end within {:?}", bound + GRACE));
            }
            if let Err(stop) = child::rest(Duration::from_millis(200)) {
                end(&mut child);
                return Err(stop);
            }
        };
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let told = std::fs::read_to_string(&events).unwrap_or_default();
        // What is told is read elsewhere, too.
        let story = Story::read(&told.replace(&self.folder.display().to_string(), "…"));
        if story.ended.is_empty() && story.running.is_none() && !said().contains("Will run 0 of ") {
            let why = cut.unwrap_or_else(|| "it ran nothing".to_owned());
            let said = format!("{why}: {}; its log is {}", last_words(&said()), log.display());
            return Err(Stop(format!("the suite did not start: {said}")));
        }
        let cut = cut.map(|why| format!("{why}: {}", last_words(&said())));
        Ok(Told { story, cut, log })
    }

    fn start(
        &self,
        number: usize,
        specs: &[Spec],
        bound: Duration,
        log: &Path,
        events: &Path,
    ) -> Result<Child, Stop> {
        let failed = |e: std::io::Error| Stop(format!("cannot start the suite: {e}"));
        let file = File::create(log).map_err(failed)?;
        let scratch = self.folder.join(format!("{number}.tmp"));
        std::fs::create_dir_all(&scratch).map_err(failed)?;
        let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
        let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = Command::new(&self.suite);
        command
            .args([
                flag("kubeconfig", &self.server.kubeconfig),
                flag("kubectl-path", &self.kubectl),
                flag("e2e-output-dir", &scratch),
                self.content.flag(),
                format!("--num-nodes={}", self.server.nodes),
                format!("--ginkgo.focus={}", focus(&names)),
                // The longest a whole batch may take: each spec is bounded by itself.
                format!("--ginkgo.timeout={}h", 1 + specs.len()),
            ])
            .args([
                "--provider=skeleton",
                "--allowed-not-ready-nodes=-1",
                "--minStartupPods=-1",
                "--dump-logs-on-failure=false",
                "--ginkgo.grace-period=5s",
                "--ginkgo.no-color",
                "--ginkgo.v",
                "--ginkgo.silence-skips",
            ])
            .env("CONFORMANCE_EVENTS", events)
            .env("CONFORMANCE_SPEC_BOUND", format!("{}ms", bound.as_millis()))
            .env("TMPDIR", &scratch)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            // It starts programs of its own, which must not outlive it.
            .process_group(0);
        command.spawn().map_err(failed)
    }
}

fn end(child: &mut Child) {
    // What is gone already needs nothing.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

/// A regular expression that fits these names and nothing else.
fn focus(specs: &[&str]) -> String {
    let quoted: Vec<String> = specs.iter().map(|name| quote(name)).collect();
    format!("^Kubernetes e2e suite ({})$", quoted.join("|"))
}

fn quote(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// What a program said when it died: its panic and the line after it, or else its last line.
fn last_words(text: &str) -> String {
    let plain = without_colours(text);
    let said: Vec<&str> = plain.lines().filter(|line| !line.trim().is_empty()).collect();
    let dies = |line: &&str| line.starts_with("panic:") || line.starts_with("fatal error:");
    let words = match said.iter().position(dies) {
        Some(at) => said.iter().skip(at).take(2).copied().collect::<Vec<_>>().join(" "),
        None => said.last().copied().unwrap_or("it said nothing").to_owned(),
    };
    short(&words, 160)
}

/// A terminal's sequences have no place in a table.
fn without_colours(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{focus, last_words};

    #[test]
    fn the_panic_is_what_a_dead_program_is_told_with() {
        let text = "before\npanic: \u{1b}[1m\u{1b}[38;5;9mYour Test Panicked\u{1b}[0m\n\n\u{1b}[38;5;243mchunking.go:68\u{1b}[0m\nmore\n";
        assert_eq!(last_words(text), "panic: Your Test Panicked chunking.go:68");
        assert_eq!(last_words("one\ntwo\n\n"), "two");
        assert_eq!(last_words(""), "it said nothing");
    }

    #[test]
    fn a_focus_is_of_whole_names() {
        assert_eq!(
            focus(&["[sig-a] b. [Slow]", "c"]),
            r"^Kubernetes e2e suite (\[sig-a\] b\. \[Slow\]|c)$"
        );
    }
}
