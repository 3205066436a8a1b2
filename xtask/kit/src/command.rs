//! Running other programs, with the command line in every error.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a chore stopped, for the person at the terminal.
#[derive(Debug)]
pub struct Stop(pub String);

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// The checkout's top folder.
pub fn root() -> PathBuf {
    // This crate's manifest lies two levels below it.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The shared build folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Empties a folder for a run.
pub fn empty(path: &Path) -> Result<(), Stop> {
    let failed = |e: std::io::Error| Stop(format!("cannot empty {}: {e}", path.display()));
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    std::fs::create_dir_all(path).map_err(failed)
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a program to its end, showing what it prints.
pub fn run(command: &mut Command) -> Result<(), Stop> {
    let shown = show(command);
    let status = command.status().map_err(|e| Stop(format!("cannot start `{shown}`: {e}")))?;
    if status.success() { Ok(()) } else { Err(Stop(format!("`{shown}` ended with {status}"))) }
}

/// Runs a program to its end and gives back what it printed on standard output.
pub fn output(command: &mut Command) -> Result<String, Stop> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Stop(format!("cannot start `{shown}`: {e}")))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Stop(format!("`{shown}` ended with {}: {}", output.status, said.trim())))
    }
}

fn show(command: &Command) -> String {
    let mut out = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        out.push(' ');
        out.push_str(&argument.to_string_lossy());
    }
    out
}
