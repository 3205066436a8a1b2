//! Asks that no documentation of the workspace has an example that rustdoc would run: `cargo xtask test` does not start
//! rustdoc, which reads each crate once more to find none.
//!
//! Guarantees:
//! - an example that is Rust is told with its place (`rust_in_documentation_is_told`);
//! - text, and what is of a workspace of its own, is not (`other_blocks_are_none`).

use std::path::Path;

/// What rustdoc takes a block for, beside an empty mark.
const RUST: [&str; 4] = ["rust", "no_run", "should_panic", "compile_fail"];

/// Where examples stand that nobody would run.
pub fn check(files: &[(impl AsRef<Path>, String)]) -> Vec<String> {
    let of_workspace = |path: &Path| {
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        is_rust && !path.starts_with("guest-sdk") && !path.iter().any(|part| part == "guests")
    };
    let own = files.iter().filter(|(path, _)| of_workspace(path.as_ref()));
    own.flat_map(|(path, text)| {
        let path = path.as_ref().display();
        let told = move |line: usize| {
            format!(
                "{path}:{line}: an example that no test runs: make it a test, or mark it `text`"
            )
        };
        examples(text).into_iter().map(told)
    })
    .collect()
}

/// The lines on which an example begins.
fn examples(text: &str) -> Vec<usize> {
    let (mut found, mut is_open) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        let Some(said) = bare.strip_prefix("///").or_else(|| bare.strip_prefix("//!")) else {
            is_open = false;
            continue;
        };
        let Some(mark) = said.trim_start().strip_prefix("```") else { continue };
        is_open = !is_open;
        let mut words = mark.split([',', ' ']).filter(|word| !word.is_empty());
        if is_open && words.all(|word| RUST.contains(&word)) {
            found.push(number + 1);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::check;

    fn told(path: &str, text: &str) -> usize {
        check(&[(path, text.to_owned())]).len()
    }

    #[test]
    fn rust_in_documentation_is_told() {
        for mark in ["", "rust", "no_run", "rust,should_panic", " compile_fail"] {
            let text = format!(
                "//! Map.\n\n    /// ```{mark}\n    /// one();\n    /// ```\nfn x() {{}}\n"
            );
            assert_eq!(told("hub/x/src/lib.rs", &text), 1, "{mark}");
        }
    }

    #[test]
    fn other_blocks_are_none() {
        let text = "//! ```text\n//! a -> b\n//! ```\n//!\n//! ```rust,ignore\n//! ```\n// ```\nlet a = \"```\";\n";
        assert_eq!(told("hub/x/src/lib.rs", text), 0);
        let example = "//! ```\n//! one();\n//! ```\n";
        assert_eq!(told("guest-sdk/src/lib.rs", example), 0);
        assert_eq!(told("spoke/runtime/tests/guests/kit/src/main.rs", example), 0);
        assert_eq!(told("README.md", example), 0);
    }
}
