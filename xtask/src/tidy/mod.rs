//! `cargo xtask tidy`: what neither the compiler nor clippy checks.

mod catch_alls;
mod circles;
mod claims;
mod dependencies;
mod examples;
mod exceptions;
mod guarantees;
mod layers;
mod sizes;
mod strays;
mod tokens;

use std::path::{Path, PathBuf};

use freewheel_xtask_kit::command::{Stop, output, root};

const WARN_LINES: usize = 400;
const STOP_LINES: usize = 600;

/// Paths that speak of where the work was done instead of what it does: of this checkout, of its user.
fn foreign() -> Vec<String> {
    let home = std::env::var("HOME").ok().filter(|home| 1 < home.len()).map(|home| home + "/");
    [Some(root().display().to_string()), home].into_iter().flatten().collect()
}

/// Prints what is untidy and stops when it must be mended.
pub fn run() -> Result<(), Stop> {
    let packages = dependencies::packages()?;
    let mut wrong = layers::check(&packages);
    let foreign = foreign();
    let mut files = Vec::new();
    for file in tracked()? {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        wrong.extend(look_at(&file, &text, &foreign));
        files.push((file, text));
    }
    wrong.extend(guarantees::check(&files));
    wrong.extend(claims::check(&files));
    wrong.extend(examples::check(&files));
    wrong.extend(strays::check(&files));
    let shares = catch_alls::shares(&files);
    for share in &shares {
        println!("tidy: note: {}", share.note());
    }
    let mut found = circles::check(&files);
    found.extend(dependencies::check(&packages, &files));
    found.extend(sizes::check(&files));
    found.extend(catch_alls::check(&shares));
    wrong.extend(exceptions::judge(&found));
    for line in &wrong {
        println!("tidy: {line}");
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Stop(format!("{} thing(s) are untidy", wrong.len())))
    }
}

fn tracked() -> Result<Vec<PathBuf>, Stop> {
    let list = output(std::process::Command::new("git").current_dir(root()).args(["ls-files"]))?;
    Ok(list.lines().map(PathBuf::from).collect())
}

fn look_at(file: &Path, text: &str, foreign: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let shown = file.display();
    if file.extension().is_some_and(|ext| ext == "rs") {
        let lines = text.lines().count();
        if STOP_LINES < lines {
            wrong.push(format!(
                "{shown} has {lines} lines; {STOP_LINES} are the most: which noun could move out?"
            ));
        } else if WARN_LINES < lines {
            println!("tidy: note: {shown} has {lines} lines");
        }
        if file.file_name().is_some_and(|name| name == "utils.rs" || name == "util.rs") {
            wrong.push(format!("{shown}: name what it is about"));
        }
        if !text.starts_with("//!") && !text.starts_with("#!") {
            wrong.push(format!("{shown}: the first lines of a file are its map (//!)"));
        }
    }
    for path in foreign.iter().filter(|path| text.contains(path.as_str())) {
        wrong.push(format!("{shown} speaks of a machine's path: {path}"));
    }
    wrong
}
