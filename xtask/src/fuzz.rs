//! `cargo xtask fuzz [TARGET] [MINUTES]`: libFuzzer on what reads what people write, with the nightly toolchain.
//!
//! ```text
//! hub/fuzz/targets.txt ─ TARGET, folders of its seeds ─▶ cargo fuzz run ─▶ target/fuzz/corpus/TARGET   goes on from there
//!                                                                      └─▶ target/fuzz/artifacts/TARGET what broke it
//! ```

use std::path::Path;
use std::process::Command;

use clap::Args;
use freewheel_xtask_kit::command::{Stop, output, root, run as run_command, target};

static TARGETS: &str = include_str!("../../hub/fuzz/targets.txt");

/// Bytes of memory that one input may make the process take.
const RSS_MEGABYTES_MAX: u32 = 2048;
/// Bytes that may be asked for at once.
const MALLOC_MEGABYTES_MAX: u32 = 256;
/// Seconds that one input may take; the target itself tells before.
const SECONDS_MAX: u32 = 60;

#[derive(Args)]
pub struct Options {
    /// One of `hub/fuzz/targets.txt`; all of them when left out
    target: Option<String>,
    /// How long for each
    #[arg(default_value_t = 10.0)]
    minutes: f64,
    /// Build it, and say what to run
    #[arg(long)]
    build: bool,
}

/// Runs the targets one after the other.
pub fn run(options: &Options) -> Result<(), Stop> {
    let wanted: Vec<(&str, Vec<&str>)> = targets()
        .filter(|(name, _)| options.target.as_deref().is_none_or(|it| it == *name))
        .collect();
    if wanted.is_empty() {
        let names: Vec<&str> = targets().map(|(name, _)| name).collect();
        return Err(Stop(format!("there are the targets {}", names.join(", "))));
    }
    install()?;
    // What is tried is what ships.
    let lock = root().join("hub/fuzz/libfuzzer/Cargo.lock");
    std::fs::copy(root().join("Cargo.lock"), &lock)
        .map_err(|error| Stop(format!("cannot write {}: {error}", lock.display())))?;
    run_command(&mut cargo_fuzz("build", &[]))?;
    if options.build {
        return Ok(());
    }
    for (name, seeds) in wanted {
        println!("== {name}: {} minutes", options.minutes);
        let folder = |part: &str| target().join("fuzz").join(part).join(name);
        let (corpus, artifacts) = (folder("corpus"), folder("artifacts"));
        for folder in [&corpus, &artifacts] {
            let failed = |error| Stop(format!("cannot make {}: {error}", folder.display()));
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let seeds = seeds.iter().map(|seeds| root().join(seeds));
        let mut command = cargo_fuzz("run", &["target"]);
        command.arg(&corpus).args(seeds).arg("--").args(limits(options.minutes, &artifacts));
        run_command(command.env("FREEWHEEL_FUZZ_TARGET", name))?;
    }
    Ok(())
}

/// Their names, with the folders of their seeds.
fn targets() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    TARGETS.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.collect()))
    })
}

fn limits(minutes: f64, artifacts: &Path) -> Vec<String> {
    vec![
        format!("-max_total_time={:.0}", minutes * 60.0),
        format!("-rss_limit_mb={RSS_MEGABYTES_MAX}"),
        format!("-malloc_limit_mb={MALLOC_MEGABYTES_MAX}"),
        format!("-timeout={SECONDS_MAX}"),
        "-max_len=16384".to_owned(),
        "-print_final_stats=1".to_owned(),
        format!("-artifact_prefix={}/", artifacts.display()),
    ]
}

/// Without a sanitizer of memory: nothing in the hub is unsafe, and one would take half of the runs.
fn cargo_fuzz(verb: &str, rest: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo", "fuzz", verb, "--sanitizer", "none", "--fuzz-dir"])
        .arg(root().join("hub/fuzz/libfuzzer"))
        .arg("--target-dir")
        .arg(target().join("fuzz"))
        .args(rest)
        .current_dir(root());
    command
}

fn install() -> Result<(), Stop> {
    if output(Command::new("cargo-fuzz").arg("--version")).is_ok() {
        return Ok(());
    }
    run_command(Command::new("cargo").args(["install", "--quiet", "--locked", "cargo-fuzz"]))
}
