//! Asks for the tests of what a file's head guarantees.
//!
//! A head says it in a list:
//!
//! ```text
//! Guarantees:
//! - a torn tail reads as if it had never been written (`a_torn_tail_reads_as_nothing`);
//! - rot before that is told (`rot_is_told`, `every_bit`).
//! ```
//!
//! A name is that of a test's function, or of a file of tests.
//!
//! Guarantees:
//! - an item that names no test, and text in place of a list, is told with its place
//!   (`an_item_without_a_test_is_told`, `guarantees_in_running_text_are_told`, `what_stands_behind_the_list_is_told`);
//! - a name counts only while there is such a test that runs (`what_is_no_test_does_not_count`,
//!   `tests_that_a_macro_makes_count`, `a_file_of_tests_counts`).

use std::collections::BTreeSet;
use std::path::Path;

/// What is wrong with the heads of files.
pub fn check(files: &[(impl AsRef<Path>, String)]) -> Vec<String> {
    let rust = || files.iter().map(|(path, text)| (path.as_ref(), text.as_str())).filter(is_rust);
    let mut tests = BTreeSet::new();
    for (path, text) in rust() {
        tests.extend(tests_of(path, text));
    }
    let told = |(path, text): (&Path, &str)| {
        let path = path.display().to_string();
        faults(text, &tests).into_iter().map(move |fault| format!("{path}: {fault}"))
    };
    rust().flat_map(told).collect()
}

fn is_rust((path, _): &(&Path, &str)) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// The names of a file's tests: of functions that are run as such, of what a macro makes of a list of paths, and the
/// file's own when it has some and lies among tests.
pub fn tests_of(path: &Path, text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut is_test, mut is_ignored, mut in_list) = (false, false, false);
    for line in text.lines() {
        let bare = line.trim();
        if bare.starts_with("#[test]") || bare.starts_with("#[tokio::test") {
            is_test = true;
        } else if bare.starts_with("#[ignore") {
            is_ignored = true;
        } else if let Some(name) = function(bare) {
            if is_test && !is_ignored {
                names.insert(name.to_owned());
            }
            (is_test, is_ignored) = (false, false);
        } else if bare.contains("fn ") {
            // Of a name that only a macro knows.
            (is_test, is_ignored) = (false, false);
        } else if makes_tests(line) {
            in_list = true;
        } else if line == "}" {
            in_list = false;
        } else if in_list && let Some((_, name)) = bare.trim_end_matches(',').split_once("::") {
            names.extend(is_name(name).then(|| name.to_owned()));
        }
    }
    let among_tests = path.components().any(|part| part.as_os_str() == "tests");
    if among_tests && !names.is_empty() {
        let own = path.with_extension("");
        let own = if own.ends_with("main") { own.parent() } else { Some(own.as_path()) };
        let stem = own.and_then(Path::file_name).map(|stem| stem.to_string_lossy().into_owned());
        names.extend(stem);
    }
    names
}

/// Whether a macro begins here that makes tests of a list: an item of its own, so at the line's beginning.
fn makes_tests(line: &str) -> bool {
    line.strip_suffix("! {").is_some_and(is_name)
}

/// The name of the function that this line begins.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = ["pub", "pub(crate)", "async", "const"];
    let begins = before.split_whitespace().all(|word| words.contains(&word));
    let name = after.split(['(', '<']).next()?;
    (begins && is_name(name)).then_some(name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What is wrong with a file's guarantees; nothing where the head has none.
fn faults(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut head = head(text);
    let mut wrong = Vec::new();
    let mut in_code = false;
    let marked = head.by_ref().find(|line| {
        in_code ^= line.trim_start().starts_with("```");
        !in_code && line.contains("Guarantees:")
    });
    let Some(mark) = marked else { return wrong };
    if mark != " Guarantees:" {
        return vec!["`Guarantees:` stands alone, and a list follows it".to_owned()];
    }
    let mut items: Vec<String> = Vec::new();
    let mut ended = false;
    for line in head {
        let bare = line.trim_start();
        if ended && items.is_empty() {
            break;
        } else if ended {
            if bare.starts_with("- ") || bare.starts_with("* ") || bare.contains("Guarantees:") {
                wrong.push(format!("stands behind the end of the guarantees: {bare:?}"));
            }
        } else if let Some(item) = line.strip_prefix(" - ") {
            items.push(item.to_owned());
        } else if line.starts_with("   ")
            && let Some(item) = items.last_mut()
        {
            item.push(' ');
            item.push_str(line.trim());
        } else {
            ended = true;
            if bare.starts_with("* ") {
                wrong.push(format!("an item begins with `- `: {bare:?}"));
            }
        }
    }
    if items.is_empty() {
        wrong.push("`Guarantees:` has no list".to_owned());
    }
    for item in &items {
        let Some(named) = named(item) else {
            wrong.push(format!("no tests in parentheses and backquotes end the item {item:?}"));
            continue;
        };
        let unknown = named.into_iter().filter(|name| !tests.contains(*name));
        wrong.extend(unknown.map(|name| format!("there is no test {name} that runs")));
    }
    wrong
}

/// The lines of the file's head, without their mark: it may stand behind attributes.
fn head(text: &str) -> impl Iterator<Item = &str> {
    let before = |line: &&str| line.is_empty() || line.starts_with("#!") || line.starts_with("// ");
    text.lines().skip_while(before).map_while(|line| line.strip_prefix("//!"))
}

/// The names at the end of an item, when it ends as it must.
fn named(item: &str) -> Option<Vec<&str>> {
    let (_, list) = item.trim_end_matches(['.', ';', ',']).strip_suffix(')')?.rsplit_once('(')?;
    list.split(", ")
        .map(|name| {
            let name = name.strip_prefix('`')?.strip_suffix('`')?;
            is_name(name).then_some(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{check, tests_of};

    fn told(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
        check(&files)
    }

    const TESTS: (&str, &str) = (
        "tests/tests/kill.rs",
        "#[test]\nfn one() {}\n\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn two() {}\n",
    );

    #[test]
    fn items_that_name_their_tests_are_right() {
        let head = "//! Map.\n//!\n//! Guarantees:\n//! - a long promise (of old) that goes\n//!   on (`one`,\n//!   `two`);\n//! - more (`kill`).\n//! Assumes: nothing.\n";
        assert_eq!(told(&[("xtask/src/a.rs", head), TESTS]), [""; 0]);
        let nothing = "//! Map.\n//!\n//! ```text\n//! Guarantees: in an example\n//! ```\n";
        assert_eq!(told(&[("xtask/src/a.rs", nothing)]), [""; 0]);
    }

    #[test]
    fn an_item_without_a_test_is_told() {
        for item in ["a promise.", "a promise (of old).", "a promise (`one`) more", "a (`one` b)"] {
            let head = format!("//! Guarantees:\n//! - {item}\n");
            let told = told(&[("xtask/src/a.rs", &head), TESTS]);
            assert_eq!(told.len(), 1, "{item}: {told:?}");
            assert!(told[0].starts_with("xtask/src/a.rs: no tests in parentheses"), "{told:?}");
        }
    }

    #[test]
    fn guarantees_in_running_text_are_told() {
        let running = told(&[("tests/src/a.rs", "//! Guarantees: all is well (`one`).\n"), TESTS]);
        assert_eq!(running, ["tests/src/a.rs: `Guarantees:` stands alone, and a list follows it"]);
        let none = told(&[("tests/src/a.rs", "//! Guarantees:\n//!\n//! - late (`one`)\n"), TESTS]);
        assert_eq!(none, ["tests/src/a.rs: `Guarantees:` has no list"]);
    }

    #[test]
    fn what_stands_behind_the_list_is_told() {
        for rest in ["//!\n//! - b.", "//! * b.", "//!\n//! * b.", "//!\n//! Guarantees:"] {
            let head = format!("//! Guarantees:\n//! - a (`one`).\n{rest}\n");
            assert_eq!(told(&[("xtask/src/a.rs", &head), TESTS]).len(), 1, "{rest:?}");
        }
        let late = "#![no_std]\n\n//! Guarantees:\n//! - a.\n";
        assert_eq!(told(&[("xtask/src/a.rs", late), TESTS]).len(), 1);
    }

    #[test]
    fn what_is_no_test_does_not_count() {
        let code = "//! Guarantees:\n//! - a (`helper`, `later`, `missing`, `one`).\n\nfn helper() {}\n\n#[test]\n#[ignore = \"slow\"]\nfn later() {}\n";
        let told = told(&[("xtask/src/a.rs", code), TESTS]);
        let unknown = |name: &str| format!("xtask/src/a.rs: there is no test {name} that runs");
        assert_eq!(told, ["helper", "later", "missing"].map(unknown));
    }

    #[test]
    fn tests_that_a_macro_makes_count() {
        let code =
            "on_every_backend! {\n    commits::whole,\n    reads::ordered,\n}\nfn x() { a::b, }\n";
        let found: Vec<_> =
            tests_of("hub/store/tests/promises.rs".as_ref(), code).into_iter().collect();
        assert_eq!(found, ["ordered", "promises", "whole"]);
    }

    #[test]
    fn what_only_looks_like_a_list_of_tests_does_not_count() {
        let code = "fn x() {\n    select! {\n    }\n    match a {\n        A::b,\n    }\n}\n\
                    macro_rules! m {\n    () => {\n        #[test]\n        fn $name() {}\n        fn c() {}\n    }\n}\n";
        assert!(tests_of("xtask/src/a.rs".as_ref(), code).is_empty());
    }

    #[test]
    fn a_file_of_tests_counts() {
        let code = "#[test]\nfn one() {}\n";
        assert!(tests_of("tests/tests/wheel/main.rs".as_ref(), code).contains("wheel"));
        assert!(!tests_of("xtask/src/wheel.rs".as_ref(), code).contains("wheel"));
        assert!(tests_of("tests/src/fleet.rs".as_ref(), "fn one() {}\n").is_empty());
    }
}
