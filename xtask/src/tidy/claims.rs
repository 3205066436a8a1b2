//! Asks for the tests that the project's pages name as `path/to/file.rs::name`.
//!
//! Guarantees:
//! - a name counts only while that very file has such a test that runs
//!   (`a_test_that_moved_is_told`, `what_does_not_run_is_told`);
//! - what is not of this form, or stands in code that is shown, asks for nothing (`other_words_ask_for_nothing`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::guarantees::tests_of;

/// What the pages claim and no file has.
pub fn check(files: &[(impl AsRef<Path>, String)]) -> Vec<String> {
    let texts: BTreeMap<&Path, &str> =
        files.iter().map(|(path, text)| (path.as_ref(), text.as_str())).collect();
    let mut known: BTreeMap<&Path, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (page, text) in texts.iter().filter(|(path, _)| is_page(path)) {
        for (file, name) in text.lines().flat_map(claims) {
            let path = Path::new(file);
            let tests = known.entry(path).or_insert_with(|| {
                texts.get(path).map(|text| tests_of(path, text)).unwrap_or_default()
            });
            if !tests.contains(name) {
                wrong.push(format!("{}: {file} has no test {name}", page.display()));
            }
        }
    }
    wrong
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// The tests that a line names, each as file and name.
fn claims(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split('`').skip(1).step_by(2).filter_map(|code| {
        let (file, name) = code.split_once(".rs::")?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (is_name && file.contains('/')).then_some((&code[..file.len() + ".rs".len()], name))
    })
}

#[cfg(test)]
mod tests {
    use super::check;

    const PAGE: &str = "| A01 | x | works | `a/b.rs::one`, `a/tests/c.rs::two` |\n";

    fn told(files: &[(&str, &str)]) -> Vec<String> {
        check(&files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn a_test_that_moved_is_told() {
        let (one, two) = ("#[test]\nfn one() {}\n", "#[tokio::test]\nasync fn two() {}\n");
        assert!(told(&[("s.md", PAGE), ("a/b.rs", one), ("a/tests/c.rs", two)]).is_empty());
        let moved = told(&[("s.md", PAGE), ("a/b/tests.rs", one), ("a/tests/c.rs", two)]);
        assert_eq!(moved, ["s.md: a/b.rs has no test one"]);
    }

    #[test]
    fn what_does_not_run_is_told() {
        let ignored = "#[test]\n#[ignore = \"slow\"]\nfn one() {}\n";
        let both = told(&[("s.md", PAGE), ("a/b.rs", ignored), ("a/tests/c.rs", "fn two() {}\n")]);
        assert_eq!(both.len(), 2, "{both:?}");
    }

    #[test]
    fn other_words_ask_for_nothing() {
        let page = "`std::fs::read`, `cargo test`, `b.rs::one`, a/b.rs::one, `a/b.rs::One::two`\n";
        assert!(told(&[("s.md", page)]).is_empty());
    }
}
