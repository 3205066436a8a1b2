//! `freewheel-swarm '{"hub": …}'`: one order as JSON; then what a swarm is told, of the order's script and line by line
//! of standard input; an answer is a line of JSON.
//!
//! What cannot be understood of a script is told before anything is done, and its first failure ends the swarm. Who
//! tells it line by line is told of a failure in its answer.

use std::error::Error;
use std::io::BufRead as _;
use std::process::ExitCode;

use freewheel_swarm::{Command, NotACommand, Order, Swarm, SwarmError};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

/// What the program is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    order: Order,
    /// Lines that are done first.
    #[serde(default)]
    script: Vec<String>,
    /// Then standard input is read, to its end.
    #[serde(default)]
    listen: bool,
}

/// Why it ends.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the order is not understood")]
    Order(#[from] serde_json::Error),
    #[error("cannot start")]
    Start(#[source] std::io::Error),
    #[error(transparent)]
    Line(#[from] NotACommand),
    #[error("{0}")]
    Swarm(String, #[source] SwarmError),
}

fn main() -> ExitCode {
    let told = std::env::args().nth(1).unwrap_or_default();
    match run(&told) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = in_words(&failure);
            println!("{}", json!({"error": text}));
            eprintln!("freewheel-swarm: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(told: &str) -> Result<(), Failure> {
    let told: Told = serde_json::from_str(told)?;
    let script: Vec<Command> =
        told.script.iter().map(|line| line.parse::<Command>()).collect::<Result<_, _>>()?;
    // A socket for some spokes each.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)
        .map_err(|error| Failure::Start(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(Failure::Start)?.block_on(work(told, script))
}

async fn work(told: Told, script: Vec<Command>) -> Result<(), Failure> {
    let mut swarm =
        Swarm::new(told.order).map_err(|error| Failure::Swarm("start".into(), error))?;
    for (command, line) in script.iter().zip(&told.script) {
        let outcome = swarm.run(command).await;
        let answer = outcome.map_err(|error| Failure::Swarm(line.clone(), error))?;
        println!("{}", json!({"did": line, "answer": answer}));
    }
    if told.listen {
        let mut lines = lines();
        while let Some(line) = lines.recv().await {
            let outcome = match line.parse::<Command>() {
                Ok(command) => swarm.run(&command).await.map_err(|error| in_words(&error)),
                Err(error) => Err(in_words(&error)),
            };
            let said = match outcome {
                Ok(answer) => json!({"did": line, "answer": answer}),
                Err(error) => json!({"did": line, "error": error}),
            };
            println!("{said}");
        }
    }
    swarm.end().await;
    Ok(())
}

/// With all that it came of.
fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Of standard input, read by a thread of its own: it may be a terminal.
fn lines() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        let read = std::io::stdin().lock().lines().map_while(Result::ok);
        for line in read.filter(|line| !line.trim().is_empty()) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
