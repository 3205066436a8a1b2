//! Compilation ahead of time, in a child process that cannot take the hub with it.
//!
//! ```text
//! hub ──spawns──▶ hub compile-module --profile P --component IN --artifact OUT
//!                   limits itself (memory, CPU time), compiles, compresses, writes OUT, prints one line
//! ```
//!
//! A compiler bug, a bomb of a module or an out-of-memory ends the child and becomes a message for the
//! pod's user.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_spoke_engine::Profile;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::durable::replace_with;

/// Counts up with every compiler whose artifacts should replace older ones: major·10⁴ + minor·10² + patch.
pub const BUILD: u32 = 480_008;

/// Address space of the child: Cranelift needs some hundred MiB for the largest modules seen.
const MEMORY_LIMIT: u64 = 4 << 30;
/// CPU seconds of the child.
const CPU_LIMIT: u64 = 240;
/// Longest message of a child, in characters: a module may be able to make it say anything.
const MAX_MESSAGE: usize = 2000;
/// Exit code of a child that refuses the module; every other one is trouble that may pass.
const REFUSED: i32 = 1;
/// Exit code of a child that met trouble of the hub's.
const TROUBLE: i32 = 3;
/// Wall time that the parent waits.
const PATIENCE: Duration = Duration::from_secs(300);
/// zstd level: 3 gives a third of the size at the disk's speed.
const ZSTD_LEVEL: i32 = 3;

/// What the child found out about its artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// Digest of the uncompressed artifact.
    pub(crate) digest: String,
    /// Its size.
    pub(crate) size: u64,
    /// [`BUILD`] of the compiler.
    pub(crate) build: u32,
}

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The spoke asks for a profile that this hub does not know.
    #[error("this hub cannot compile for the engine profile {0:?}")]
    Profile(String),
    /// The compiler refuses the module.
    #[error("the module cannot be compiled: {0}")]
    Refused(String),
    /// The child was ended by its limits or died.
    #[error("the compiler did not finish: {0}")]
    Died(String),
    /// The child met trouble of the hub's, such as a full disk.
    #[error("the hub's compiler failed: {0}")]
    Trouble(String),
    /// Disk or process trouble on the hub.
    #[error("the hub could not run its compiler")]
    Hub(#[from] io::Error),
}

impl CompileError {
    /// What the child exits with: the parent keeps a refusal for good, and tries again after anything else.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Profile(_) | Self::Refused(_) => REFUSED,
            Self::Died(_) | Self::Trouble(_) | Self::Hub(_) => TROUBLE,
        }
    }
}

/// Compiles in a child process. A failure leaves nothing behind.
pub(crate) async fn compile(
    program: &Path,
    component: &Path,
    artifact: &Path,
    profile: &str,
) -> Result<Made, CompileError> {
    let outcome = spawn(program, component, artifact, profile).await;
    if outcome.is_err() {
        // What a child that was killed had written; gone already is as good.
        let _ = std::fs::remove_file(artifact.with_extension("new"));
    }
    outcome
}

async fn spawn(
    program: &Path,
    component: &Path,
    artifact: &Path,
    profile: &str,
) -> Result<Made, CompileError> {
    let child = Command::new(program)
        .args(["compile-module", "--profile", profile, "--component"])
        .arg(component)
        .arg("--artifact")
        .arg(artifact)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = match tokio::time::timeout(PATIENCE, child.wait_with_output()).await {
        Ok(output) => output?,
        Err(_) => return Err(CompileError::Died(format!("it took longer than {PATIENCE:?}"))),
    };
    if output.status.success() {
        return serde_json::from_slice(&output.stdout)
            .map_err(|e| CompileError::Died(format!("it said nonsense: {e}")));
    }
    let said = bounded(String::from_utf8_lossy(&output.stderr).trim());
    match output.status.code() {
        Some(REFUSED) if !said.is_empty() => Err(CompileError::Refused(said)),
        Some(TROUBLE) => Err(CompileError::Trouble(said)),
        _ => Err(CompileError::Died(format!("{}, {said}", output.status))),
    }
}

/// What runs inside the child: limits itself, compiles `component`, writes the compressed artifact and prints what
/// it made as one line of JSON.
///
/// # Errors
/// With the text that the parent passes on.
pub fn child(profile: &str, component: &Path, artifact: &Path) -> Result<String, CompileError> {
    limit(Resource::As, MEMORY_LIMIT)?;
    limit(Resource::Cpu, CPU_LIMIT)?;
    let made = compile_here(profile, component, artifact)?;
    serde_json::to_string(&made).map_err(|e| CompileError::Died(e.to_string()))
}

fn limit(resource: Resource, most: u64) -> Result<(), CompileError> {
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(resource, limit).map_err(|e| CompileError::Hub(e.into()))
}

/// Compiles in this process.
pub(crate) fn compile_here(
    profile: &str,
    component: &Path,
    artifact: &Path,
) -> Result<Made, CompileError> {
    let unknown = || CompileError::Profile(profile.to_owned());
    let parsed = Profile::parse(profile).map_err(|_| unknown())?;
    let config = freewheel_spoke_engine::compiler_config(&parsed).map_err(|_| unknown())?;
    let engine = wasmtime::Engine::new(&config).map_err(|_| unknown())?;
    // The compiler takes a component as a whole and gives its code as a whole; not both at once.
    let bytes = std::fs::read(component)?;
    let made = engine
        .precompile_component(&bytes)
        .map_err(|e| CompileError::Refused(bounded(&format!("{e:#}"))))?;
    drop(bytes);
    replace_with(artifact, |file| {
        let mut packed = zstd::Encoder::new(file, ZSTD_LEVEL)?;
        packed.write_all(&made)?;
        packed.finish()
    })?;
    Ok(Made { digest: Digest::of(&made).to_string(), size: made.len() as u64, build: BUILD })
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).collect()
}

/// The program to spawn: the running hub itself.
///
/// # Errors
/// When the system does not know its path.
pub fn this_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "(component)";

    #[test]
    fn a_component_is_compiled_for_every_profile_that_a_spoke_may_report() {
        let dir = tempfile::tempdir().unwrap();
        let component = dir.path().join("c.wasm");
        std::fs::write(&component, wat::parse_str(EMPTY).unwrap()).unwrap();
        let keys: Vec<String> = Profile::candidates().iter().map(Profile::key).collect();
        assert!(!keys.is_empty());
        for key in keys {
            let artifact = dir.path().join(&key);
            let made = compile_here(&key, &component, &artifact).unwrap();
            let unpacked = zstd::decode_all(std::fs::File::open(&artifact).unwrap()).unwrap();
            assert_eq!(Digest::of(&unpacked).to_string(), made.digest, "{key}");
            assert_eq!(unpacked.len() as u64, made.size, "{key}");
        }
    }

    #[test]
    fn an_unknown_profile_and_a_broken_module_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let component = dir.path().join("c.wasm");
        std::fs::write(&component, b"\0asm\x0d\0\x01\0nonsense").unwrap();
        let out = dir.path().join("out");
        let unknown = compile_here("1-vax-huge-0", &component, &out);
        assert!(matches!(unknown, Err(CompileError::Profile(_))));
        let known = Profile::candidates()[0].key();
        assert!(matches!(compile_here(&known, &component, &out), Err(CompileError::Refused(_))));
        assert!(!out.exists());
    }

    #[test]
    fn a_full_disk_is_no_refusal_of_the_module() {
        let dir = tempfile::tempdir().unwrap();
        let component = dir.path().join("c.wasm");
        std::fs::write(&component, wat::parse_str(EMPTY).unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("out.new")).unwrap();
        let known = Profile::candidates()[0].key();
        let outcome = compile_here(&known, &component, &dir.path().join("out.zst")).unwrap_err();
        assert_eq!(outcome.exit_code(), TROUBLE, "{outcome}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of it");
    }

    /// A program that says and exits what it is told stands for the compiler.
    #[tokio::test]
    async fn only_a_refusal_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("compiler");
        let artifact = dir.path().join("out.zst");
        for (code, kept) in [(1, true), (3, false), (101, false)] {
            let half = artifact.with_extension("new");
            let text = format!("#!/bin/sh\ntouch {}\necho no >&2\nexit {code}\n", half.display());
            let copy = dir.path().join("text");
            std::fs::write(&copy, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&copy, mode).unwrap();
            std::fs::rename(&copy, &program).unwrap();
            let outcome = compile(&program, Path::new("c"), &artifact, "p").await.unwrap_err();
            assert_eq!(matches!(outcome, CompileError::Refused(_)), kept, "{code}: {outcome}");
            assert!(!half.exists(), "what the child left is removed");
        }
    }
}
