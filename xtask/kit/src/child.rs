//! Processes that a chore starts: they end with it, also after Ctrl-C.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::command::Stop;

static STOPPED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C ends the chore in order.
pub fn listen() -> Result<(), Stop> {
    ctrlc::set_handler(|| STOPPED.store(true, Ordering::SeqCst))
        .map_err(|e| Stop(format!("cannot listen for Ctrl-C: {e}")))
}

/// An error after Ctrl-C.
pub fn go_on() -> Result<(), Stop> {
    if STOPPED.load(Ordering::SeqCst) { Err(Stop("stopped by Ctrl-C".into())) } else { Ok(()) }
}

/// Sleeps, unless Ctrl-C comes.
pub fn rest(time: Duration) -> Result<(), Stop> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        go_on()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    go_on()
}

/// A server, until it is dropped.
pub struct Child {
    name: String,
    child: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `program` with as many open files as allowed; what it says goes to `log`.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self, Stop> {
        go_on()?;
        let failed = |e: std::io::Error| Stop(format!("cannot start {name}: {e}"));
        let file = File::create(log).map_err(failed)?;
        // A thousand watches are a thousand sockets; each side gets the same bound.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\""])
            .arg(command.get_program());
        shell.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        let child = shell
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .spawn()
            .map_err(failed)?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: it has no chance to finish anything.
    pub fn kill(&mut self) {
        // One that is gone already needs nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a state with a bound.
    pub fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut reached: impl FnMut() -> bool,
    ) -> Result<(), Stop> {
        let start = Instant::now();
        while !reached() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Stop(format!(
                    "{} ended with {status} before {what}: {}",
                    self.name,
                    self.last_words()
                )));
            }
            if patience < start.elapsed() {
                return Err(Stop(format!(
                    "waited {patience:?} until {what}; {} says: {}",
                    self.name,
                    self.last_words()
                )));
            }
            rest(Duration::from_millis(100))?;
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut std::process::Child) {
    // One that is gone already needs nothing.
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::TERM,
    );
    let until = Instant::now() + Duration::from_secs(10);
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Runs a program to its end, with a bound, and gives back what it printed.
pub fn finish(command: &mut Command, patience: Duration) -> Result<String, Stop> {
    go_on()?;
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Stop(format!("cannot start {name}: {e}")))?;
    // Reading in threads: a full pipe would hold the program up.
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                // What was read until it broke is what there is.
                let _ = pipe.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|p| Box::new(p) as Box<_>));
    let err = read(child.stderr.take().map(|p| Box::new(p) as Box<_>));
    let until = Instant::now() + patience;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until && go_on().is_ok() => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => {
                end(&mut child);
                go_on()?;
                return Err(Stop(format!("{name} did not end within {patience:?}")));
            }
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if status.success() {
        Ok(out)
    } else {
        Err(Stop(format!("{name} ended with {status}: {}", err.trim())))
    }
}
