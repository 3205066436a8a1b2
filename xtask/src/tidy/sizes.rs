//! How large a crate, its root and a function may be.
//!
//! Guarantees:
//! - a root is a map, a crate is read in a day, a function at a glance (`what_is_too_large_is_told`);
//! - tests are measured by nobody (`tests_have_no_size`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::exceptions::Finding;

/// Lines of a crate's root: what it declares, re-exports and says about itself.
const ROOT: usize = 100;
/// Lines of a crate's `src`, tests in it left out.
const CRATE: usize = 8_000;
/// Lines of a function's body.
const FUNCTION: usize = 50;

/// What is larger.
pub fn check(files: &[(impl AsRef<Path>, String)]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut crates: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (path, text) in files {
        let path = path.as_ref();
        let Some(folder) = shipped_by(path) else { continue };
        let lines = before_tests(text);
        *crates.entry(folder.to_path_buf()).or_default() += lines.len();
        let subject = path.display().to_string();
        if path.parent() == Some(&folder.join("src"))
            && path.file_name().is_some_and(|name| name == "lib.rs")
            && ROOT < lines.len()
        {
            let message = format!("{} lines; {ROOT} are the most of a root", lines.len());
            found.push(Finding { rule: "root", subject: subject.clone(), message });
        }
        for (name, length) in functions(&lines).into_iter().filter(|(_, it)| FUNCTION < *it) {
            let subject = format!("{subject}::{name}");
            let message = format!("{length} lines; {FUNCTION} are the most of a function");
            found.push(Finding { rule: "function", subject, message });
        }
    }
    for (folder, lines) in crates.into_iter().filter(|(_, lines)| CRATE < *lines) {
        let message = format!("{lines} lines; {CRATE} are the most of a crate");
        found.push(Finding { rule: "crate", subject: folder.display().to_string(), message });
    }
    found
}

/// The folder of the crate that a file of shipped code is of.
pub(super) fn shipped_by(path: &Path) -> Option<&Path> {
    let stem = path.file_stem()?.to_str()?;
    let is_test = |part: &str| part == "tests" || part.ends_with("_tests");
    let in_tests = path.components().any(|part| part.as_os_str().to_str().is_some_and(is_test));
    if path.extension()? != "rs" || is_test(stem) || in_tests {
        return None;
    }
    path.ancestors().find(|at| at.file_name().is_some_and(|name| name == "src"))?.parent()
}

/// The lines before the tests that end a file.
pub(super) fn before_tests(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|two| {
        two[0] == "#[cfg(test)]" && two[1].starts_with("mod ") && two[1].ends_with('{')
    });
    lines[..tests.unwrap_or(lines.len())].to_vec()
}

/// Functions and the lines between their braces, as rustfmt writes them.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let at_edge =
            |line: &&str| line.strip_prefix(indent).is_some_and(|rest| !rest.starts_with(' '));
        let mut edges = lines.iter().enumerate().skip(at).filter(|(_, line)| at_edge(line));
        let Some((opened, _)) = edges.find(|(_, line)| line.ends_with(['{', '}', ';'])) else {
            continue;
        };
        if !lines[opened].ends_with('{') {
            continue;
        }
        if let Some((closed, _)) = edges.find(|(_, line)| line.trim() == "}") {
            found.push((name.to_owned(), closed - opened - 1));
        }
    }
    found
}

/// The name of the function that this line begins.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe"];
    let begins = before.split_whitespace().all(|word| words.contains(&word));
    let name = after.split(['(', '<']).next()?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (begins && is_name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[(&str, String)]) -> Vec<(&'static str, String)> {
        check(files).into_iter().map(|finding| (finding.rule, finding.subject)).collect()
    }

    fn body(lines: usize) -> String {
        "        a();\n".repeat(lines)
    }

    #[test]
    fn what_is_too_large_is_told() {
        let code = |lines: usize| {
            let inner = body(lines);
            format!(
                "trait T {{\n    fn d(\n        a: u8,\n    ) -> u8;\n    fn e() {{}}\n}}\nimpl X {{\n    \
                 pub(crate) async fn f(\n        &self,\n    ) -> u8 {{\n{inner}    }}\n}}\n"
            )
        };
        assert_eq!(told(&[("x/src/a.rs", code(50))]), []);
        assert_eq!(told(&[("x/src/a.rs", code(51))]), [("function", "x/src/a.rs::f".to_owned())]);
        assert_eq!(told(&[("x/src/lib.rs", "\n".repeat(100))]), []);
        assert_eq!(
            told(&[("x/src/lib.rs", "\n".repeat(101))]),
            [("root", "x/src/lib.rs".to_owned())]
        );
        assert_eq!(told(&[("x/src/a/lib.rs", "\n".repeat(101))]), [], "no root");
        let half = "\n".repeat(4_001);
        let both = [("x/src/a.rs", half.clone()), ("x/src/b/c.rs", half.clone())];
        assert_eq!(told(&both), [("crate", "x".to_owned())]);
        assert_eq!(told(&[("x/src/a.rs", half.clone()), ("y/src/a.rs", half)]), []);
    }

    #[test]
    fn tests_have_no_size() {
        let inner = body(60);
        let function = format!("fn f() {{\n{inner}}}\n");
        let tests = format!("fn g() {{}}\n\n#[cfg(test)]\nmod tests {{\n{function}}}\n");
        for (path, text) in [
            ("x/src/a.rs", &tests),
            ("x/src/a/tests.rs", &function),
            ("x/tests/src/a.rs", &function),
        ] {
            assert_eq!(told(&[(path, text.clone())]), [], "{path}");
        }
    }
}
