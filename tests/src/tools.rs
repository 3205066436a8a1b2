//! Tools from package registries, for the tests that need them: pinned by the caller, kept under `target/tools`.
//!
//! Each is installed by its language's own client, which is asked for nothing once the tool is there. What cannot be
//! installed fails the test with what the client said; nothing is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::guests::root;

/// One at a time: two tests may want the same.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Runs a command to its end; it must succeed. Gives what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let done = command.output().unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{shown} ended with {}:\n{out}{err}", done.status);
    format!("{out}{err}")
}

/// The folder of a tool, which is made when there is none that was finished.
fn installed(name: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = root().join("target/tools").join(name);
    let finished = folder.join("installed");
    if !finished.exists() {
        // What a run that broke off has left would be taken for whole.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for a tool");
        install(&folder);
        std::fs::write(&finished, "").expect("a mark");
    }
    folder
}

/// A program of a Go module, such as `oras.land/oras/cmd/oras` at `v1.3.6`.
#[must_use]
pub fn from_go(package: &str, version: &str) -> PathBuf {
    let name = package.rsplit('/').next().expect("a name");
    let folder = installed(&format!("{name}-{version}"), |folder| {
        let _ = run(Command::new("go")
            .args(["install", "-trimpath", &format!("{package}@{version}")])
            .env("GOBIN", folder));
    });
    folder.join(name)
}

/// A program of a crate.
#[must_use]
pub fn from_cargo(name: &str, version: &str) -> PathBuf {
    let folder = installed(&format!("{name}-{version}"), |folder| {
        let _ = run(Command::new(env!("CARGO"))
            .args(["install", "--quiet", "--locked", &format!("{name}@{version}"), "--root"])
            .arg(folder)
            .env_remove("RUSTFLAGS")
            // A tool for a test is built once and runs for a second.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_LTO", "off"));
    });
    folder.join("bin").join(name)
}
