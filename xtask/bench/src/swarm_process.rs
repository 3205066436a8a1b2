//! A swarm of simulated spokes (`tests/swarm`) as a process: told line by line, it answers in lines of JSON.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::{Stop, cargo, run, target};
use serde_json::{Value, json};

/// How long its goodbyes may take.
const END_PATIENCE: Duration = Duration::from_secs(25);

/// A running swarm; its end is that of its spokes.
pub struct SwarmProcess {
    child: Child,
    told: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// Builds the program as a release.
pub fn build() -> Result<(), Stop> {
    println!("building the swarm (release) …");
    run(cargo().args(["build", "--quiet", "--release", "--locked", "--package", "freewheel-swarm"]))
}

impl SwarmProcess {
    /// Starts one that does what the script says, and then, if it is to listen, what it is told.
    pub fn start(order: &Value, script: &[String], listen: bool, log: &Path) -> Result<Self, Stop> {
        child::go_on()?;
        let failed = |e: std::io::Error| Stop(format!("cannot start the swarm: {e}"));
        let order = json!({"order": order, "script": script, "listen": listen});
        let mut child = Command::new(target().join("release/freewheel-swarm"))
            .arg(order.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let (said, answers) = channel();
        if let Some(out) = child.stdout.take() {
            // It ends with its pipe, or with whoever listens.
            std::thread::spawn(move || {
                let lines = BufReader::new(out).lines().map_while(Result::ok);
                lines.map(|line| said.send(line)).take_while(Result::is_ok).for_each(drop);
            });
        }
        let told = child.stdin.take();
        Ok(Self { child, told, answers })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it a line; what comes of it.
    pub fn tell(&mut self, line: &str, patience: Duration) -> Result<Value, Stop> {
        let told =
            self.told.as_mut().map(|told| writeln!(told, "{line}").and_then(|()| told.flush()));
        // Why it is gone is in its last answer.
        let _ = told;
        let answer = self.answer(patience)?;
        answer
            .map(|answer| answer["answer"].clone())
            .ok_or_else(|| Stop("the swarm has ended".into()))
    }

    /// Its next answer; `None`: it has ended.
    pub fn answer(&mut self, patience: Duration) -> Result<Option<Value>, Stop> {
        let start = Instant::now();
        let line = loop {
            match self.answers.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => break line,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => child::go_on()?,
            }
            if patience < start.elapsed() {
                return Err(Stop(format!("the swarm said nothing for {patience:?}")));
            }
        };
        let answer: Value = serde_json::from_str(&line)
            .map_err(|e| Stop(format!("the swarm said {line:?}: {e}")))?;
        match answer["error"].as_str() {
            Some(error) => Err(Stop(format!("the swarm: {error}"))),
            None => Ok(Some(answer)),
        }
    }
}

impl Drop for SwarmProcess {
    fn drop(&mut self) {
        drop(self.told.take());
        let until = Instant::now() + END_PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
