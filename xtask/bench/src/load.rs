//! The load generator: built once, asked with JSON, answers with JSON.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::{Stop, cargo, run, target};
use serde_json::{Value, json};

/// Longest time of one order.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where it is.
pub fn path() -> PathBuf {
    target().join("release/freewheel-load")
}

/// Makes sure that it is there, also where nothing that is measured is built.
pub fn program() -> Result<(), Stop> {
    run(cargo().args(["build", "--quiet", "--release", "--locked", "--package", "freewheel-load"]))
}

/// One order.
pub fn ask(order: &Value) -> Result<Value, Stop> {
    let text = child::finish(Command::new(path()).arg(order.to_string()), PATIENCE)?;
    serde_json::from_str(&text).map_err(|e| Stop(format!("the load generator said {text:?}: {e}")))
}

/// One request; its JSON answer.
pub fn request(server: &Value, method: &str, path: &str, body: &Value) -> Result<Value, Stop> {
    ask(&json!({"do": "ask", "server": server, "method": method, "path": path, "body": body}))
}

/// An order of the closed loop that must not have failed.
pub fn steady(order: &Value) -> Result<Value, Stop> {
    let figures = ask(order)?;
    match figures["failed"].as_u64() {
        Some(0) => Ok(figures),
        _ => Err(Stop(format!(
            "requests failed: {} ({})",
            figures["failed"], figures["first_failure"]
        ))),
    }
}
