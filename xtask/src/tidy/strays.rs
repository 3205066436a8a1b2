//! Asks whether cargo comes to every file of tests: in a package that lists its test binaries itself, one that nobody
//! declares is not compiled, and nothing says so.
//!
//! ```text
//! Cargo.toml ─ [[test]] path, or what cargo finds itself ─▶ root ─ mod name; ─▶ file ─ mod name; ─▶ …
//! ```
//!
//! Guarantees:
//! - a file with tests that no binary comes to is told (`a_file_that_nobody_declares_is_told`,
//!   `who_is_declared_by_a_stray_is_one`);
//! - one that a binary comes to is not (`what_is_declared_is_none`, `cargo_finds_files_itself_unless_it_is_told`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::guarantees::tests_of;

/// The files with tests that are in no binary.
pub fn check(files: &[(impl AsRef<Path>, String)]) -> Vec<String> {
    let texts: BTreeMap<&Path, &str> =
        files.iter().map(|(path, text)| (path.as_ref(), text.as_str())).collect();
    let packages: BTreeSet<&Path> = texts
        .keys()
        .filter(|path| path.ends_with("Cargo.toml"))
        .filter_map(|path| path.parent())
        .collect();
    let mut of_package: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for path in texts.keys() {
        let Some(package) = path.ancestors().skip(1).find(|at| packages.contains(at)) else {
            continue;
        };
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        if is_rust && path.strip_prefix(package).is_ok_and(|inner| inner.starts_with("tests")) {
            of_package.entry(package).or_default().push(path);
        }
    }
    let mut wrong = Vec::new();
    for (package, own) in of_package {
        let manifest = texts.get(&*package.join("Cargo.toml")).copied().unwrap_or_default();
        let reached = reach(&texts, roots(package, manifest, &own));
        let strays = own.iter().filter(|path| !reached.contains(**path));
        let strays = strays.filter(|path| !tests_of(path, texts[*path]).is_empty());
        wrong.extend(strays.map(|path| {
            format!("{}: no test binary of its package has this file (mod …;)", path.display())
        }));
    }
    wrong
}

/// Where the package's test binaries begin.
fn roots(package: &Path, manifest: &str, own: &[&Path]) -> Vec<PathBuf> {
    let listed = manifest.lines().filter_map(|line| quoted(line.strip_prefix("path = ")?));
    let mut roots: Vec<PathBuf> = listed.map(|path| package.join(path)).collect();
    if !manifest.lines().any(|line| line == "autotests = false") {
        let folder = package.join("tests");
        let is_found = |path: &&&Path| {
            let parent = path.parent();
            let of_folder =
                path.ends_with("main.rs") && parent.and_then(Path::parent) == Some(&folder);
            parent == Some(&folder) || of_folder
        };
        roots.extend(own.iter().filter(is_found).map(|path| path.to_path_buf()));
    }
    roots
}

/// All that is declared from there on.
fn reach(texts: &BTreeMap<&Path, &str>, roots: Vec<PathBuf>) -> BTreeSet<PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open = roots;
    while let Some(path) = open.pop() {
        let Some(text) = texts.get(&*path) else { continue };
        if reached.insert(path.clone()) {
            open.extend(declared(&path, text));
        }
    }
    reached
}

/// Where the modules may be that a file declares.
fn declared(file: &Path, text: &str) -> Vec<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let (mut found, mut inside, mut at) = (Vec::new(), Vec::new(), None);
    for line in text.lines() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        if let Some(path) = bare.strip_prefix("#[path = ") {
            at = quoted(path);
        }
        let Some(name) = declaration(bare) else {
            if bare == "}" && inside.last().is_some_and(|(_, of)| *of == indent) {
                inside.pop();
            }
            continue;
        };
        if let Some(name) = name.strip_suffix(" {") {
            inside.push((name, indent));
        } else if let Some(name) = name.strip_suffix(';') {
            let inner: PathBuf = inside.iter().map(|(name, _)| name).collect();
            // A root's and a `mod.rs`'s are beside it, those of others in a folder of its name.
            for base in [folder.join(&inner), file.with_extension("").join(&inner)] {
                found.push(base.join(name).with_extension("rs"));
                found.push(base.join(name).join("mod.rs"));
            }
            found.extend(at.take().map(|path| plain(&folder.join(path))));
        }
    }
    found
}

/// What follows `mod ` where a line declares one.
fn declaration(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("mod ")?;
    matches!(before, "" | "pub " | "pub(crate) " | "pub(super) ").then_some(after)
}

fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

/// Without the parts that lead up.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::check;

    const TEST: &str = "#[test]\nfn one() {}\n";
    const LISTED: &str = "autotests = false\n[[test]]\npath = \"tests/main.rs\"\n";

    fn told(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
        let told = check(&files).into_iter();
        told.map(|line| line.split(": no test binary").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_file_that_nobody_declares_is_told() {
        let (main, helper) = ("mod a;\nmod b {\n    mod c;\n}\nmod d;\n", "pub fn x() {}\n");
        let found = told(&[
            ("x/Cargo.toml", LISTED),
            ("x/tests/main.rs", main),
            ("x/tests/a.rs", TEST),
            ("x/tests/c.rs", TEST),
            ("x/tests/helper.rs", helper),
            ("x/tests/a/b.rs", TEST),
        ]);
        assert_eq!(found, ["x/tests/a/b.rs", "x/tests/c.rs"]);
    }

    #[test]
    fn who_is_declared_by_a_stray_is_one() {
        let stray = "mod two;\n#[test]\nfn one() {}\n";
        let files =
            [("x/Cargo.toml", LISTED), ("x/tests/one.rs", stray), ("x/tests/one/two.rs", TEST)];
        assert_eq!(told(&files), ["x/tests/one/two.rs", "x/tests/one.rs"]);
    }

    #[test]
    fn what_is_declared_is_none() {
        let main = "mod a;\npub(crate) mod b {\n    pub mod c;\n}\n#[path = \"d/main.rs\"]\nmod d;\n\
                    #[path = \"../../y/tests/e.rs\"]\nmod e;\n";
        let found = told(&[
            ("x/Cargo.toml", LISTED),
            ("x/tests/main.rs", main),
            ("x/tests/a/mod.rs", "mod f;\n#[test]\nfn one() {}\n"),
            ("x/tests/a/f.rs", TEST),
            ("x/tests/b/c.rs", TEST),
            ("x/tests/d/main.rs", TEST),
            ("x/src/lib.rs", TEST),
            ("x/tests/guests/Cargo.toml", ""),
            ("x/tests/guests/src/lib.rs", TEST),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn cargo_finds_files_itself_unless_it_is_told() {
        let files = [("tests/tests/a.rs", TEST), ("tests/tests/b/main.rs", TEST)];
        let with = |manifest| told(&[&[("tests/Cargo.toml", manifest)], &files[..]].concat());
        assert_eq!(with(""), [""; 0]);
        assert_eq!(with(LISTED), ["tests/tests/a.rs", "tests/tests/b/main.rs"]);
    }
}
