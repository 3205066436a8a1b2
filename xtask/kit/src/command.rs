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

/// What cargo is told of what it keeps for the next build.
const INCREMENTAL: &str = "CARGO_INCREMENTAL";

/// The cargo that runs us. Where nobody has built the workspace by themselves, nothing is kept for the next build: in a
/// fresh clone that only takes time, and larger programs. Who has goes on with what they have.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    if std::env::var_os(INCREMENTAL).is_none() && !is_built_again(&target()) {
        command.env(INCREMENTAL, "0");
    }
    command
}

/// Whether what was built here is kept in pieces for the next build. A chore's own crates always are.
fn is_built_again(target: &Path) -> bool {
    let kept = std::fs::read_dir(target.join("debug/incremental"));
    let mut names = kept.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().starts_with("freewheel_link-"))
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

#[cfg(test)]
mod tests {
    use super::is_built_again;

    #[test]
    fn a_fresh_clone_keeps_nothing_for_the_next_build() {
        let target = std::env::temp_dir().join(format!("freewheel-kit-{}", std::process::id()));
        assert!(!is_built_again(&target));
        let kept = target.join("debug/incremental");
        for (name, again) in [("xtask-1", false), ("freewheel_link-2", true)] {
            std::fs::create_dir_all(kept.join(name)).unwrap();
            assert_eq!(is_built_again(&target), again, "{name}");
        }
        std::fs::remove_dir_all(target).unwrap();
    }
}
