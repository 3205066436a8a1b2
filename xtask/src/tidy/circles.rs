//! Circles between the files of a crate: files of which none can be read without all others.
//!
//! ```text
//! file ─ tokens ─▶ paths that begin with crate, super, self or a child ─ through re-exports ─▶ the file of the item
//! ```
//!
//! A crate's root is one of its files: one that only declares and re-exports needs none of the others.
//!
//! Guarantees:
//! - files that need each other are told, and those alone (`files_that_need_each_other_are_told`,
//!   `a_parent_and_its_child_are_two_files`), the crate's root among them
//!   (`a_root_with_more_than_a_map_is_in_its_circles`);
//! - who names an item by another file's re-export needs the item's own (`a_re_export_is_looked_through`);
//! - tests may need whom they test (`tests_make_no_circle`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::exceptions::Finding;
use super::tokens::{Token, shipped, tokens};

type Module = Vec<String>;

/// One file of a crate.
struct File {
    path: PathBuf,
    /// What it names, each as segments.
    uses: Vec<Vec<String>>,
    /// What its `use` lines call what.
    aliases: BTreeMap<String, Vec<String>>,
}

/// Every circle.
pub fn check(files: &[(impl AsRef<Path>, String)]) -> Vec<Finding> {
    let mut crates: BTreeMap<PathBuf, Vec<(&Path, &str)>> = BTreeMap::new();
    for (path, text) in files {
        let path = path.as_ref();
        if let Some(root) = source_of(path) {
            crates.entry(root).or_default().push((path, text));
        }
    }
    crates.iter().flat_map(|(root, files)| circles(root, files)).collect()
}

/// The `src` folder of the crate that a file is of.
fn source_of(path: &Path) -> Option<PathBuf> {
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    let source = path.ancestors().find(|at| at.file_name().is_some_and(|name| name == "src"))?;
    is_rust.then(|| source.to_path_buf())
}

fn circles(root: &Path, files: &[(&Path, &str)]) -> Vec<Finding> {
    let modules = read(root, files);
    let needs: BTreeMap<&Module, BTreeSet<&Module>> = modules
        .iter()
        .map(|(module, file)| {
            let named = file.uses.iter().filter_map(|path| resolve(&modules, module, path, 0));
            (module, named.filter(|other| *other != module).collect())
        })
        .collect();
    let reached: BTreeMap<_, _> = needs.keys().map(|from| (*from, reach(&needs, from))).collect();
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for (module, others) in &reached {
        if !others.contains(module) || told.contains(module) {
            continue;
        }
        let circle: Vec<&Module> =
            others.iter().copied().filter(|other| reached[*other].contains(module)).collect();
        told.extend(circle.iter().copied());
        let mut names: Vec<String> =
            circle.iter().map(|module| modules[*module].path.display().to_string()).collect();
        names.sort();
        let list = names.join(" ");
        let arrow = |from: &&Module| {
            let to = needs[from].iter().filter(|to| circle.contains(to));
            let to: Vec<_> = to.map(|to| shown(to)).collect();
            format!("{} needs {}", shown(from), to.join(", "))
        };
        let arrows: Vec<_> = circle.iter().map(arrow).collect();
        let message = format!("a circle of {} files: {}", names.len(), arrows.join("; "));
        found.push(Finding { rule: "circle", subject: list, message });
    }
    found
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "the root".to_owned() } else { module.join("::") }
}

/// All that can be reached from a file, itself only by a circle.
fn reach<'a>(
    needs: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
    from: &'a Module,
) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        for to in needs.get(next).into_iter().flatten() {
            if found.insert(*to) {
                open.push(to);
            }
        }
    }
    found
}

/// The crate's files by their modules, those of tests left out.
fn read(root: &Path, files: &[(&Path, &str)]) -> BTreeMap<Module, File> {
    let mut modules = BTreeMap::new();
    let mut of_tests: BTreeSet<Module> = BTreeSet::new();
    let names: BTreeSet<Module> = files.iter().map(|(path, _)| module(root, path)).collect();
    for (path, text) in files {
        let module = module(root, path);
        let all = tokens(text);
        let shipped = shipped(&all);
        let child = |name: &str| [&module[..], &[name.to_owned()]].concat();
        of_tests.extend(shipped.test_modules.iter().map(|name| child(name)));
        let (uses, aliases) = named(&shipped.tokens, |name| names.contains(&child(name)));
        modules.insert(module, File { path: path.to_path_buf(), uses, aliases });
    }
    modules.retain(|module, _| !of_tests.iter().any(|test| module.starts_with(test)));
    modules
}

fn module(root: &Path, path: &Path) -> Module {
    let inner = path.strip_prefix(root).unwrap_or(path).with_extension("");
    let mut names: Module =
        inner.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let is_root = names.len() == 1 && matches!(&*names[0], "lib" | "main");
    if is_root || names.last().is_some_and(|last| last == "mod") {
        names.pop();
    }
    names
}

type Named = (Vec<Vec<String>>, BTreeMap<String, Vec<String>>);

/// What a file needs, and what it calls what.
fn named(tokens: &[Token<'_>], is_child: impl Fn(&str) -> bool) -> Named {
    let (mut uses, mut aliases) = (Vec::new(), BTreeMap::new());
    let mut at = 0;
    let mut line = None;
    while let Some(token) = tokens.get(at) {
        if *token == "use" {
            line = Some(is_public(&tokens[..at]));
        } else if *token == ";" {
            line = None;
        }
        let is_first = at == 0 || !matches!(tokens[at - 1], "::" | ".");
        let begins = matches!(*token, "crate" | "super" | "self") || is_child(token);
        if !is_first || !begins || tokens.get(at + 1) != Some(&"::") {
            at += 1;
            continue;
        }
        let mut found = Vec::new();
        at = tree(tokens, at, &mut Vec::new(), &mut found);
        for (path, alias) in found {
            let path =
                if is_child(&path[0]) { [vec!["self".to_owned()], path].concat() } else { path };
            match line {
                Some(is_public) => {
                    aliases.insert(alias, path.clone());
                    uses.extend((!is_public).then_some(path));
                }
                None => uses.push(path),
            }
        }
    }
    (uses, aliases)
}

/// Whether what stands before a `use` makes it a re-export.
fn is_public(before: &[Token<'_>]) -> bool {
    match before {
        [.., "pub"] => true,
        [.., ")"] => before.iter().rev().take(6).any(|token| *token == "pub"),
        _ => false,
    }
}

/// Reads the paths that begin here, with what they are called; answers where they end.
fn tree(
    tokens: &[Token<'_>],
    mut at: usize,
    prefix: &mut Vec<String>,
    found: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let length = prefix.len();
    while let Some(token) = tokens.get(at) {
        match *token {
            "{" => {
                at += 1;
                while let Some(token) = tokens.get(at)
                    && *token != "}"
                {
                    let end = if *token == "," { at } else { tree(tokens, at, prefix, found) };
                    // What is no name is passed over.
                    at = end.max(at + 1);
                }
                prefix.truncate(length);
                return at + 1;
            }
            name if name == "*" || name.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                if name != "self" || prefix.is_empty() {
                    prefix.push(name.to_owned());
                }
                at += 1;
            }
            // Neither a name nor a list: type arguments, say.
            _ => break,
        }
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    let mut alias = prefix.last().cloned().unwrap_or_default();
    if tokens.get(at) == Some(&"as")
        && let Some(name) = tokens.get(at + 1)
    {
        (alias, at) = ((*name).to_owned(), at + 2);
    }
    if !prefix.is_empty() {
        found.push((prefix.clone(), alias));
    }
    prefix.truncate(length);
    at
}

/// The file that has what is named so in another one.
fn resolve<'a>(
    modules: &'a BTreeMap<Module, File>,
    from: &Module,
    path: &[String],
    depth: u8,
) -> Option<&'a Module> {
    let mut at = from.clone();
    let mut rest = path;
    while let [first, more @ ..] = rest {
        match &**first {
            "crate" => at.clear(),
            "self" => {}
            "super" => {
                at.pop()?;
            }
            name => {
                at.push(name.to_owned());
                if !modules.contains_key(&at) {
                    at.pop();
                    break;
                }
            }
        }
        rest = more;
    }
    let (module, file) = modules.get_key_value(&at)?;
    if let Some(item) = rest.first()
        && let Some(behind) = file.aliases.get(item)
        && depth < 8
        && behind != path
    {
        // What is not found behind it is another crate's.
        return resolve(modules, module, behind, depth + 1);
    }
    Some(module)
}

#[cfg(test)]
mod tests {
    use super::check;

    fn told(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
        check(&files).into_iter().map(|finding| finding.subject).collect()
    }

    #[test]
    fn files_that_need_each_other_are_told() {
        let lib = ("x/src/lib.rs", "mod a;\nmod b;\nmod c;\nuse a::A;\npub struct Root(A);\n");
        let (a, b) = ("use crate::b::B;\n", "use crate::c;\n");
        let free = [lib, ("x/src/a.rs", a), ("x/src/b.rs", b), ("x/src/c.rs", "pub struct C;")];
        assert_eq!(told(&free), [""; 0]);
        let back = ("x/src/c.rs", "use crate::{b as d, a::{A}};\nfn f() {}\n");
        let circle = [lib, ("x/src/a.rs", a), ("x/src/b.rs", b), back];
        assert_eq!(told(&circle), ["x/src/a.rs x/src/b.rs x/src/c.rs"]);
        let map = ("x/src/lib.rs", "mod a;\n");
        let other = [map, ("x/src/a.rs", a), ("y/src/b.rs", "use crate::a;")];
        assert_eq!(told(&other), [""; 0], "another crate's");
    }

    #[test]
    fn a_root_with_more_than_a_map_is_in_its_circles() {
        let a = ("x/src/a.rs", "use crate::{B, Root};\n");
        let b = ("x/src/b.rs", "pub struct B;\n");
        let root = ("x/src/lib.rs", "mod a;\nmod b;\npub use b::B;\npub struct Root(a::A);\n");
        assert_eq!(told(&[root, a, b]), ["x/src/a.rs x/src/lib.rs"]);
        let program = ("x/src/main.rs", "mod a;\nmod b;\nuse b::B;\nfn main() { a::run() }\n");
        assert_eq!(told(&[program, a, b]), ["x/src/a.rs x/src/main.rs"]);
        let map = ("x/src/lib.rs", "mod a;\nmod b;\npub use b::B;\npub use other::Root;\n");
        assert_eq!(told(&[map, a, b]), [""; 0], "a map needs nobody");
    }

    #[test]
    fn a_parent_and_its_child_are_two_files() {
        let parent = "mod child;\nfn f() { child::g() }\n";
        let child = "use super::{f as h};\npub fn g() {}\n";
        for path in ["x/src/a.rs", "x/src/a/mod.rs"] {
            let found = told(&[(path, parent), ("x/src/a/child.rs", child)]);
            assert_eq!(found.len(), 1, "{path}");
        }
        assert_eq!(told(&[("x/src/a.rs", "mod child;"), ("x/src/a/child.rs", child)]), [""; 0]);
    }

    #[test]
    fn a_re_export_is_looked_through() {
        let lib = ("x/src/lib.rs", "mod a;\nmod b;\npub use a::A;\n");
        let parent =
            ("x/src/p.rs", "mod one;\nmod two;\npub(crate) use one::One;\nuse crate::a::A;\n");
        let (one, two) = (("x/src/p/one.rs", ""), ("x/src/p/two.rs", "use super::{One, A};\n"));
        let free = [lib, parent, one, two, ("x/src/a.rs", "")];
        assert_eq!(told(&free), [""; 0]);
        let found =
            told(&[lib, ("x/src/a.rs", "use crate::b;\n"), ("x/src/b.rs", "use crate::A;\n")]);
        assert_eq!(found, ["x/src/a.rs x/src/b.rs"]);
    }

    #[test]
    fn tests_make_no_circle() {
        let parent = "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse tests::x;\n";
        assert_eq!(
            told(&[("x/src/a.rs", parent), ("x/src/a/tests.rs", "use super::f;\n")]),
            [""; 0]
        );
        let inner = "#[cfg(test)]\nmod tests { use crate::b::B; }\n";
        assert_eq!(told(&[("x/src/a.rs", inner), ("x/src/b.rs", "use crate::a::A;\n")]), [""; 0]);
    }
}
