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

/// A client of ours in Go, from a folder under `tests/clients`: built each time, since Go knows what is up to date.
#[must_use]
pub fn go_client(folder: &str, package: &str) -> PathBuf {
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = if package == "." { folder } else { package };
    let program = root().join("target/tools/clients").join(name);
    let _ = run(Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg(format!("./{package}"))
        .current_dir(root().join("tests/clients").join(folder)));
    program
}

/// The Python of a virtual environment that has a package, such as `kubernetes` at `36.0.0`.
#[must_use]
pub fn python_with(package: &str, version: &str) -> PathBuf {
    let folder = installed(&format!("python-{package}-{version}"), |folder| {
        let _ = run(Command::new("python3").args(["-m", "venv"]).arg(folder));
        let _ = run(Command::new(folder.join("bin/python")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            &format!("{package}=={version}"),
        ]));
    });
    folder.join("bin/python")
}

/// A client of ours in Rust, from a workspace of its own under `tests/clients`.
#[must_use]
pub fn rust_client(folder: &str) -> PathBuf {
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let target = root().join("target/tools").join(folder);
    let _ = run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(root().join("tests/clients").join(folder))
        .env_remove("RUSTFLAGS")
        .env("CARGO_PROFILE_DEV_DEBUG", "0"));
    target.join("debug").join(format!("freewheel-client-{folder}"))
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
