//! `cargo xtask tidy`: what neither the compiler nor clippy checks.

mod layers;

use std::path::{Path, PathBuf};

use crate::command::{Stop, output, root};

const WARN_LINES: usize = 400;
const STOP_LINES: usize = 600;

/// Words that speak of where the work was done instead of what it does.
const FOREIGN: [&str; 3] = ["/work/main", "/work/shared", "/root/"];

/// Prints what is untidy and stops when it must be mended.
pub fn run() -> Result<(), Stop> {
    let mut wrong = layers::check()?;
    for file in tracked()? {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        wrong.extend(look_at(&file, &text));
    }
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

fn look_at(file: &Path, text: &str) -> Vec<String> {
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
    // This file has to name them.
    if !file.ends_with("xtask/src/tidy/mod.rs") {
        for word in FOREIGN.iter().filter(|word| text.contains(**word)) {
            wrong.push(format!("{shown} speaks of a machine's path: {word}"));
        }
    }
    wrong
}
