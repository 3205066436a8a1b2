//! Asks whether what a package depends on is named in it: what is not only costs whoever builds it.
//!
//! Guarantees:
//! - a dependency that no file of its package names is told, and so is one of what ships that tests alone name
//!   (`what_nobody_names_is_told`).

use std::path::{Path, PathBuf};

use freewheel_xtask_kit::command::{Stop, cargo, output, root};
use serde_json::Value;

use super::exceptions::Finding;
use super::tokens::tokens;

/// A package of the workspace, as cargo has it.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Where it is, from the checkout's top folder on.
    pub folder: PathBuf,
    /// What its manifest names.
    pub dependencies: Vec<Dependency>,
}

/// One of them.
pub struct Dependency {
    /// The package's name, or what this one calls it.
    pub name: String,
    /// `dev`, `build`, or nothing.
    pub kind: String,
}

impl Package {
    /// What it depends on beside its tests and its build script.
    pub fn shipped(&self) -> impl Iterator<Item = &str> {
        self.dependencies.iter().filter(|one| one.kind.is_empty()).map(|one| &*one.name)
    }
}

/// All packages of the workspace.
pub fn packages() -> Result<Vec<Package>, Stop> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|e| Stop(format!("cargo metadata is no JSON: {e}")))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dependency = |value: &Value| {
        let name = value["rename"].as_str().or_else(|| value["name"].as_str()).unwrap_or_default();
        Dependency { name: name.to_owned(), kind: text(&value["kind"]) }
    };
    let package = |value: &Value| {
        let manifest = PathBuf::from(text(&value["manifest_path"]));
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root()).ok());
        let listed = value["dependencies"].as_array().into_iter().flatten();
        Package {
            name: text(&value["name"]),
            folder: folder.unwrap_or(Path::new("")).to_path_buf(),
            dependencies: listed.map(dependency).collect(),
        }
    };
    Ok(metadata["packages"].as_array().into_iter().flatten().map(package).collect())
}

/// Dependencies that nobody names.
pub fn check(packages: &[Package], files: &[(impl AsRef<Path>, String)]) -> Vec<Finding> {
    let manifests = files.iter().map(|(path, _)| path.as_ref());
    let folders: Vec<&Path> = manifests
        .filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"))
        .filter_map(Path::parent)
        .collect();
    let mut found = Vec::new();
    for package in packages {
        let own = files.iter().map(|(path, text)| (path.as_ref(), text));
        let own = own.filter(|(path, _)| path.extension().is_some_and(|it| it == "rs"));
        let own = own.filter(|(path, _)| package_of(path, &folders) == Some(&*package.folder));
        let own: Vec<(&Path, Vec<&str>)> = own.map(|(path, text)| (path, tokens(text))).collect();
        for Dependency { name, kind } in &package.dependencies {
            let word = name.replace('-', "_");
            let counts = |path: &Path| {
                let inner = path.strip_prefix(&package.folder).unwrap_or(path);
                kind == "dev" || !(inner.starts_with("tests") || inner.starts_with("benches"))
            };
            let mut naming = own.iter().filter(|(path, _)| counts(path));
            if !naming.any(|(_, words)| words.contains(&&*word)) {
                let subject = format!("{} {name}", package.folder.display());
                let message = "no file of the package that may names it".to_owned();
                found.push(Finding { rule: "dependency", subject, message });
            }
        }
    }
    found
}

/// The folder of the package that a file is of.
fn package_of<'a>(file: &'a Path, folders: &[&Path]) -> Option<&'a Path> {
    file.ancestors().skip(1).find(|at| folders.contains(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(dependencies: &[(&str, &str)], files: &[(&str, &str)]) -> Vec<String> {
        let one = |(name, kind): &(&str, &str)| Dependency {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
        };
        let dependencies = dependencies.iter().map(one).collect();
        let package = Package { name: "x".to_owned(), folder: "x".into(), dependencies };
        let manifests = [("x/Cargo.toml", ""), ("x/y/Cargo.toml", "")];
        let all = manifests.iter().chain(files);
        let files: Vec<_> = all.map(|(path, text)| (*path, (*text).to_owned())).collect();
        check(&[package], &files).into_iter().map(|finding| finding.subject).collect()
    }

    #[test]
    fn what_nobody_names_is_told() {
        let (ships, test) = ([("my-b", "")], [("my-b", "dev")]);
        let (source, in_tests) = (("x/src/a.rs", "use my_b::C;"), ("x/tests/a.rs", "my_b::c();"));
        assert_eq!(told(&ships, &[source]), [""; 0]);
        assert_eq!(told(&ships, &[in_tests]), ["x my-b"]);
        assert_eq!(told(&test, &[in_tests]), [""; 0]);
        assert_eq!(told(&test, &[("x/src/a.rs", "// my_b::C\n")]), ["x my-b"]);
        assert_eq!(told(&ships, &[("x/y/src/a.rs", "use my_b::C;")]), ["x my-b"], "another's");
    }
}
