//! `cargo xtask schema`: writes the schema table and the codec fixtures from pinned Go modules.
//!
//! ```text
//! xtask/schema-go (Go, modules pinned by go.mod and go.sum) ─▶ hub/schema/src/types/table.txt
//!                                                          ─▶ hub/schema/src/{protobuf,patch,types}/fixtures
//! ```
//!
//! With `--check` nothing is written, and it fails when what is committed differs from what would be, with each line
//! that does (`lines_that_differ_are_told_with_their_type`).
//! Assumes: `go` 1.26 or newer is installed and can reach its module proxy, or has the modules cached.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use freewheel_xtask_kit::command::{self, Stop};

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
    let mut stale = Vec::new();
    for part in PARTS {
        for made in files(&copy.join(part))? {
            let committed = schema.join(part).join(made.file_name().unwrap_or_default());
            let (made, there) = (fs::read(&made).ok(), fs::read(&committed).ok());
            if made != there {
                let text = |bytes: Option<Vec<u8>>| bytes.unwrap_or_default();
                let (made, there) = (text(made), text(there));
                let lines =
                    differences(&String::from_utf8_lossy(&there), &String::from_utf8_lossy(&made));
                stale.push(format!("{} is stale:\n{}", committed.display(), lines.join("\n")));
            }
        }
    }
    fs::remove_dir_all(&copy).map_err(|error| told(&copy, &error))?;
    if stale.is_empty() {
        return Ok(());
    }
    Err(Stop(format!("{}\nrun `cargo xtask schema`", stale.join("\n"))))
}

/// Lines told of a file.
const LINES_TOLD_MAX: usize = 100;

/// What is committed and would not be made (`-`), and what would be made and is not there (`+`): each with the line of
/// the type that it is of.
fn differences(committed: &str, made: &str) -> Vec<String> {
    let mut counts: BTreeMap<(String, &str), i64> = BTreeMap::new();
    for (text, step) in [(committed, -1), (made, 1)] {
        let mut of = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("T ") {
                of = format!("{}: ", name.split(' ').next().unwrap_or_default());
            }
            *counts.entry((of.clone(), line)).or_default() += step;
        }
    }
    let differ = counts.into_iter().filter(|(_, count)| *count != 0);
    let told = differ.map(|((of, line), count)| {
        let sign = if count < 0 { '-' } else { '+' };
        format!("{sign} {of}{line}")
    });
    told.take(LINES_TOLD_MAX).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_are_told_with_their_type() {
        let committed = "T a.A P\nF name string e\nF size int32\nT a.B P\nF name string e\n";
        assert_eq!(differences(committed, committed), Vec::<String>::new());
        let made = "T a.A P\nF name string e\nF size int64\nT a.B P\nT a.C P\nF name string e\n";
        let told = [
            "- a.A: F size int32",
            "+ a.A: F size int64",
            "- a.B: F name string e",
            "+ a.C: F name string e",
            "+ a.C: T a.C P",
        ];
        assert_eq!(differences(committed, made), told);
    }
}
