//! Compilation ahead of time, in a child process that cannot take the hub with it.
//!
//! ```text
//! hub ──spawns──▶ hub compile-module --profile P --component IN --artifact OUT --digest D
//!                   limits itself (memory, CPU time), reads IN and checks it, compiles, compresses, writes OUT,
//!                   prints one line
//! ```
//!
//! A compiler bug, a bomb of a module or an out-of-memory ends the child and becomes a message for the
//! pod's user.
//!
//! Guarantees:
//! - what a child may use follows the module's size (`what_a_child_may_use_follows_the_modules_size`);
//! - it dumps no core, is taken before the hub when memory is short, and ends with the hub
//!   (`a_compiler_is_bounded_and_ends_with_the_hub`);
//! - what it says takes a bounded part of the hub's memory (`a_child_that_talks_without_end_is_heard_to_a_bound`);
//! - it leaves the store beside it room on the disk (`a_compiler_leaves_the_store_its_room`);
//! - a component whose bytes are not those that were pushed is not compiled
//!   (`an_unknown_profile_a_broken_module_and_a_damaged_one_are_told_apart`);
//! - a module whose instances take much beside their memories is refused, however few its bytes are
//!   (`a_module_whose_instances_take_much_beside_their_memories_is_refused`);
//! - what would fail again is told from what may pass
//!   (`a_refusal_and_what_is_beyond_its_size_are_kept_and_nothing_else`, `a_full_disk_is_no_refusal_of_the_module`,
//!   `a_child_that_finds_no_thread_is_no_word_about_its_module`).

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use freewheel_spoke_engine::footprint::{self, CannotCount};
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::disk_reserve::{DiskReserve, ReserveWriter};
use crate::durable::{is_full, replace_with};

/// Counts up with every compiler whose artifacts should replace older ones: major·10⁴ + minor·10² + patch.
pub const COMPILER_BUILD: u32 = 480_008;

/// Most bytes of what a child says that are kept: it may say anything, and for as long as it likes.
const CHILD_OUTPUT_BYTES_MAX: u64 = 64 << 10;
/// Longest message of a child, in characters: a module may be able to make it say anything.
const MESSAGE_CHARS_MAX: usize = 2000;
/// Exit code of a child that refuses the module; every other one is trouble that may pass.
const EXIT_REFUSED: i32 = 1;
/// Exit code of a child that met trouble of the hub's.
const EXIT_TROUBLE: i32 = 3;
/// Exit code of a child whose module is not what was pushed.
const EXIT_DAMAGED: i32 = 4;
/// Exit code of a Rust program that panicked.
const EXIT_PANICKED: i32 = 101;
/// In what such a program says when it cannot begin a thread.
const NO_THREAD: &str = "WouldBlock";
/// zstd level: 3 gives a third of the size at the disk's speed.
const ZSTD_LEVEL: i32 = 3;
/// Threads of a child at most: each takes address space, whether it uses it or not.
const CHILD_THREADS_MAX: usize = 8;

/// What a child may use. A Python interpreter of 18 MB takes 130 seconds of CPU time and 1.5 GiB on a slow
/// machine; what takes more for its size is a bomb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Allowance {
    /// Seconds of CPU time.
    cpu: u64,
    /// Bytes of address space.
    memory: u64,
}

impl Allowance {
    /// For a component of this many bytes.
    fn of(size: u64) -> Self {
        const MIB_BYTES: u64 = 1 << 20;
        let cpu = (20 + size * 15 / MIB_BYTES).min(900);
        let memory =
            (1024 * MIB_BYTES).saturating_add(size.saturating_mul(160)).min(4096 * MIB_BYTES);
        Self { cpu, memory }
    }

    /// How long the parent waits: the machine does other things as well.
    fn patience(self) -> Duration {
        Duration::from_secs(60 + 4 * self.cpu)
    }
}

/// What the child found out about its artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// Digest of the uncompressed artifact.
    pub(crate) digest: String,
    /// Its size.
    pub(crate) size: u64,
    /// [`COMPILER_BUILD`] of the compiler.
    pub(crate) build: u32,
}

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The spoke asks for a profile of another engine than this hub's.
    #[error("this hub cannot compile for the engine profile {0}")]
    Profile(Profile),
    /// The compiler refuses the module.
    #[error("the module cannot be compiled: {0}")]
    Refused(String),
    /// It takes more than a module of its size may.
    #[error("the module cannot be compiled: {0}; it is not tried again until it is pushed again")]
    Beyond(String),
    /// The compiler has no memory for it, or a mistake that it hits; or the hub's machine had none.
    #[error(
        "the module cannot be compiled: {0}; it is tried again in a day, or when it is pushed again"
    )]
    Stumbled(String),
    /// The child was ended from outside.
    #[error("the compiler did not finish: {0}")]
    Died(String),
    /// The module's file is not what was pushed.
    #[error(
        "the module's file {path} is damaged on the hub: push the module again, or put the file back from a copy of the \
         data folder", path = .0.display()
    )]
    Damaged(PathBuf),
    /// The module's file is not there.
    #[error(
        "the module's file {path} is missing on the hub: push the module again, or put the file back from a copy of the \
         data folder", path = .0.display()
    )]
    Lost(PathBuf),
    /// What is left of the disk is the hub's objects'.
    #[error(
        "the hub's disk is full but for what it keeps for its objects: free some of it, or delete modules that nobody needs"
    )]
    Full,
    /// The child met trouble of the hub's.
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
            Self::Profile(_) | Self::Refused(_) => EXIT_REFUSED,
            Self::Damaged(_) => EXIT_DAMAGED,
            Self::Beyond(_)
            | Self::Stumbled(_)
            | Self::Died(_)
            | Self::Full
            | Self::Lost(_)
            | Self::Trouble(_)
            | Self::Hub(_) => EXIT_TROUBLE,
        }
    }

    /// Whether the next try would end in the same way, as far as one can tell.
    pub(crate) const fn is_kept(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Beyond(_) | Self::Stumbled(_))
    }
}

/// What is to be compiled, and to where.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The engine profile.
    pub profile: Profile,
    /// The component's file.
    pub component: &'a Path,
    /// What its bytes must be.
    pub digest: Digest,
    /// The artifact's file.
    pub artifact: &'a Path,
}

/// Compiles in a child process. A failure leaves nothing behind.
pub(crate) async fn compile(program: &Path, order: Order<'_>) -> Result<Made, CompileError> {
    let outcome = spawn(program, order).await;
    if outcome.is_err() {
        // What a child that was killed had written; gone already is as good.
        let _ = std::fs::remove_file(order.artifact.with_extension("new"));
    }
    outcome
}

async fn spawn(program: &Path, order: Order<'_>) -> Result<Made, CompileError> {
    let component = match std::fs::metadata(order.component) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CompileError::Lost(order.component.to_path_buf()));
        }
        other => other?,
    };
    let allowance = Allowance::of(component.len());
    let threads =
        std::thread::available_parallelism().map_or(1, |all| all.get().min(CHILD_THREADS_MAX));
    let mut child = Command::new(program)
        .args(["compile-module", "--profile", &order.profile.key(), "--component"])
        .arg(order.component)
        .arg("--artifact")
        .arg(order.artifact)
        .args(["--digest", &order.digest.to_string()])
        // Each arena of the allocator and each thread takes address space beforehand, by the machine's cores.
        .env("MALLOC_ARENA_MAX", "2")
        .env("RAYON_NUM_THREADS", threads.to_string())
        // Held open while the hub lives and waits: a child that finds it closed works for nobody.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let patience = allowance.patience();
    let (_alive, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ended = async { tokio::try_join!(read_output(out), read_output(err), child.wait()) };
    let (out, err, status) = match tokio::time::timeout(patience, ended).await {
        Ok(ended) => ended?,
        Err(_) => return Err(CompileError::Died(format!("it took longer than {patience:?}"))),
    };
    if status.success() {
        return serde_json::from_slice(&out)
            .map_err(|e| CompileError::Died(format!("it said nonsense: {e}")));
    }
    if status.code() == Some(EXIT_DAMAGED) {
        return Err(CompileError::Damaged(order.component.to_path_buf()));
    }
    let output = bounded(String::from_utf8_lossy(&err).trim());
    Err(failure(status, output, allowance))
}

/// The beginning of what a child says; the rest is heard and forgotten.
async fn read_output(from: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(CHILD_OUTPUT_BYTES_MAX).read_to_end(&mut output).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(output)
}

/// What the end of a child says about its module.
fn failure(status: ExitStatus, output: String, allowance: Allowance) -> CompileError {
    match (status.code(), status.signal()) {
        (Some(EXIT_REFUSED), _) if !output.is_empty() => CompileError::Refused(output),
        (Some(EXIT_TROUBLE), _) => CompileError::Trouble(output),
        (_, Some(libc::SIGXCPU)) => {
            let Allowance { cpu, .. } = allowance;
            let text = format!("it takes more than {cpu} s of CPU time, the most for its size");
            CompileError::Beyond(text)
        }
        // Many processes run, or the machine is short of memory.
        (Some(EXIT_PANICKED), _) if output.contains(NO_THREAD) => CompileError::Trouble(output),
        // The allocator and the compiler abort or panic; a deep recursion overflows the stack.
        (Some(EXIT_PANICKED), _) | (_, Some(libc::SIGABRT | libc::SIGSEGV | libc::SIGILL)) => {
            let most = allowance.memory >> 20;
            let text = format!(
                "it takes more than {most} MiB of memory, the most for its size, or the compiler stumbles over it ({status}, {output})"
            );
            CompileError::Stumbled(text)
        }
        _ => CompileError::Died(format!("{status}, {output}")),
    }
}

/// What runs inside the child: limits itself, compiles, writes the compressed artifact and prints what it made as
/// one line of JSON.
///
/// # Errors
/// With the text that the parent passes on.
pub fn child(order: Order<'_>) -> Result<String, CompileError> {
    end_with_the_parent()?;
    // When memory is short, this is what the kernel takes and not the hub. A system without it has its own ways.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let allowance = Allowance::of(std::fs::metadata(order.component)?.len());
    // A compiler that aborts would leave all its memory on the disk.
    limit(Resource::Core, 0, 0)?;
    limit(Resource::As, allowance.memory, 0)?;
    // At the first bound the kernel says why, at the second it kills.
    limit(Resource::Cpu, allowance.cpu, 5)?;
    // Devices and people that talk to the hub come first.
    if let Err(error) = nice(10) {
        return Err(CompileError::Hub(error.into()));
    }
    begin_threads()?;
    let made = compile_here(order)?;
    serde_json::to_string(&made).map_err(|e| CompileError::Died(e.to_string()))
}

/// Ends this process when the other end of its standard input goes: a hub that was killed starts again, and what was
/// compiled for the one before would keep the machine from it.
fn end_with_the_parent() -> io::Result<()> {
    let wait = || {
        let mut byte = [0];
        // Nobody writes there.
        while matches!(io::stdin().read(&mut byte), Ok(1)) {}
        std::process::exit(EXIT_TROUBLE)
    };
    std::thread::Builder::new().stack_size(128 << 10).spawn(wait).map(|_| ())
}

/// Begins the compiler's threads, as many as the environment says: it would panic itself when there are none to be had.
fn begin_threads() -> Result<(), CompileError> {
    rayon::ThreadPoolBuilder::new().build_global().map_err(|error| no_threads(&error))
}

fn no_threads(error: &rayon::ThreadPoolBuildError) -> CompileError {
    CompileError::Trouble(format!("it cannot begin its threads: {error}"))
}

fn limit(resource: Resource, most: u64, more: u64) -> Result<(), CompileError> {
    let limit = Rlimit { current: Some(most), maximum: Some(most + more) };
    setrlimit(resource, limit).map_err(|e| CompileError::Hub(e.into()))
}

/// Compiles in this process.
pub(crate) fn compile_here(order: Order<'_>) -> Result<Made, CompileError> {
    let Order { profile, component, digest, artifact } = order;
    let unknown = || CompileError::Profile(profile);
    if !profile.is_current() {
        return Err(unknown());
    }
    let config = freewheel_spoke_engine::compiler_config(&profile).map_err(|_| unknown())?;
    let engine = wasmtime::Engine::new(&config).map_err(|_| unknown())?;
    // The compiler takes a module as a whole and gives its code as a whole; not both at once.
    let bytes = std::fs::read(component)?;
    if Digest::of(&bytes) != digest {
        return Err(CompileError::Damaged(component.to_path_buf()));
    }
    // The artifact tells which of the two it is.
    let made = if wasmparser::Parser::is_core_wasm(&bytes) {
        engine.precompile_module(&bytes)
    } else {
        engine.precompile_component(&bytes)
    };
    let mut made = made.map_err(|e| CompileError::Refused(bounded(&format!("{e:#}"))))?;
    drop(bytes);
    footprint::write(&mut made).map_err(|error| match error {
        CannotCount::Unreadable(_) => CompileError::Died(bounded(&error.to_string())),
        CannotCount::TooLarge { .. }
        | CannotCount::TooMany { .. }
        | CannotCount::TooWordy { .. } => CompileError::Refused(error.to_string()),
    })?;
    let room = DiskReserve::new(artifact.parent().unwrap_or(artifact));
    store(artifact, &made, room)?;
    Ok(Made {
        digest: Digest::of(&made).to_string(),
        size: made.len() as u64,
        build: COMPILER_BUILD,
    })
}

/// Writes an artifact; what is the store's of the disk stays free, or nothing is left of it.
fn store(artifact: &Path, made: &[u8], room: DiskReserve) -> Result<(), CompileError> {
    let written = replace_with(artifact, |file| {
        let mut packed = zstd::Encoder::new(ReserveWriter::new(file, room), ZSTD_LEVEL)?;
        packed.write_all(made)?;
        Ok(packed.finish()?.into_inner())
    });
    match written {
        Err(error) if is_full(&error) => Err(CompileError::Full),
        other => Ok(other?),
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The program to spawn: the running hub itself.
///
/// # Errors
/// When the system does not know its path.
pub fn this_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

#[cfg(test)]
mod tests;
