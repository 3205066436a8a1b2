//! `cargo xtask schema`: writes the schema table and the codec fixtures from pinned Go modules.
//!
//! ```text
//! xtask/schema-go (Go, modules pinned by go.mod and go.sum) ─▶ hub/schema/src/types/table.txt
//!                                                          ─▶ hub/schema/src/{protobuf,patch,types}/fixtures
//! ```
//!
//! With `--check` nothing is written, and it fails when what is committed differs from what would be.
//! Assumes: `go` 1.26 or newer is installed and can reach its module proxy, or has the modules cached.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, Stop};

/// Folders of the crate that the Go program reads from and writes to.
const PARTS: [&str; 4] = ["types", "types/fixtures", "protobuf/fixtures", "patch/fixtures"];

/// Writes the table and the fixtures, or checks those that are there.
pub fn run(check: bool) -> Result<(), Stop> {
    let schema = command::root().join("hub/schema/src");
    if check { compare(&schema) } else { generate(&schema) }
}

fn generate(schema: &Path) -> Result<(), Stop> {
    command::run(
        Command::new("go")
            .args(["run", ".", "-schema"])
            .arg(schema)
            .current_dir(command::root().join("xtask/schema-go"))
            // Nothing but what go.mod and go.sum pin.
            .env("GOFLAGS", "-mod=readonly -buildvcs=false"),
    )
}

/// Builds one of the Go programs beside it, and answers where the OpenAPI v3 documents of Kubernetes are.
pub fn build(package: &str, program: &Path) -> Result<PathBuf, Stop> {
    let modules = command::root().join("xtask/schema-go");
    let go = |args: &[&str]| {
        let mut go = Command::new("go");
        go.args(args).current_dir(&modules).env("GOFLAGS", "-mod=readonly -buildvcs=false");
        go
    };
    command::run(go(&["build", "-o"]).arg(program).arg(package))?;
    let kubernetes = command::output(&mut go(&["run", ".", "-openapi"]))?;
    Ok(PathBuf::from(kubernetes.trim()))
}

/// Generates into a copy and compares.
fn compare(schema: &Path) -> Result<(), Stop> {
    let copy = command::target().join("schema-check");
    for part in PARTS {
        let to = copy.join(part);
        fs::create_dir_all(&to).map_err(|error| told(&to, &error))?;
        for from in files(&schema.join(part))? {
            if from.to_string_lossy().ends_with(".in.json") {
                let name = from.file_name().unwrap_or_default();
                fs::copy(&from, to.join(name)).map_err(|error| told(&from, &error))?;
            }
        }
    }
    generate(&copy)?;
    for part in PARTS {
        for made in files(&copy.join(part))? {
            let committed = schema.join(part).join(made.file_name().unwrap_or_default());
            if fs::read(&made).ok() != fs::read(&committed).ok() {
                let text = format!("{} is stale: run `cargo xtask schema`", committed.display());
                return Err(Stop(text));
            }
        }
    }
    fs::remove_dir_all(&copy).map_err(|error| told(&copy, &error))
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, Stop> {
    let entries = fs::read_dir(dir).map_err(|error| told(dir, &error))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut out: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    out.sort();
    Ok(out)
}

fn told(path: &Path, error: &std::io::Error) -> Stop {
    Stop(format!("{}: {error}", path.display()))
}
