//! Makes sure that rustc can build for WASI 0.2.
//!
//! ```text
//! there already ─▶ rustup target add ─▶ built from Debian's rust-src and wasi-libc of rustc's version
//! ```
//!
//! The last way is for machines that reach Debian's archive and not rustup's: apt fetches the two packages into a
//! folder of ours and checks their signatures, and nothing is installed but the target's libraries in rustc's own
//! folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Stop, output, run, target};

/// The target of all guests.
pub const TARGET: &str = "wasm32-wasip2";

/// Suites that may have the sources of rustc's version.
const SUITES: [&str; 5] = ["trixie-backports", "sid", "forky", "trixie", "bookworm-backports"];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Makes the target usable, in the first way that works.
pub fn ensure() -> Result<(), Stop> {
    if has_std()? {
        return Ok(());
    }
    println!("{TARGET}: rustc has no standard library for it");
    // Where rustup's server is out of reach it would try for minutes.
    let rustup = run(Command::new("timeout").args(["120", "rustup", "target", "add", TARGET]));
    let Err(rustup) = rustup.and_then(|()| proven()) else { return Ok(()) };
    println!("{TARGET}: {rustup}; building it from Debian's sources");
    from_debian().and_then(|()| proven()).map_err(|debian| {
        Stop(format!(
            "rustc has no standard library for {TARGET}; rustup could not add it ({rustup}), nor could it be built from \
             Debian's sources ({debian})"
        ))
    })
}

fn proven() -> Result<(), Stop> {
    if has_std()? { Ok(()) } else { Err(Stop("the target is still not there".to_owned())) }
}

/// Whether the standard library is there: what [`from_debian`] copies last.
fn has_std() -> Result<bool, Stop> {
    let folder = library_folder()?;
    Ok(std::fs::read_dir(folder).is_ok_and(|dir| {
        dir.flatten().any(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    }))
}

fn library_folder() -> Result<PathBuf, Stop> {
    let told =
        output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    Ok(told.trim().into())
}

/// Builds the standard library from the sources of rustc's own version.
fn from_debian() -> Result<(), Stop> {
    let told = output(Command::new("rustc").arg("--version"))?;
    let version = told.split_whitespace().nth(1).unwrap_or_default();
    let work = target().join("wasi-from-debian");
    // What a run that broke off has left would be taken for whole.
    let _ = std::fs::remove_dir_all(&work);
    make(&work)?;
    let apt = Apt { work: work.clone(), mirror: mirror()? };
    apt.take("rust-src", version)?;
    apt.take("wasi-libc", "")?;
    let there = work.join("x");
    let library = library_folder()?;
    let libc = library.join("self-contained");
    make(&libc)?;
    for file in ["crt1-command.o", "crt1-reactor.o", "libc.a"] {
        copy(&there.join("usr/lib").join(TARGET).join(file), &libc.join(file))?;
    }
    let built = work.join("t");
    run(Command::new("cargo")
        .current_dir(there.join(format!("usr/src/rustc-{version}/library")))
        .args(["build", "--quiet", "--release", "--manifest-path", "sysroot/Cargo.toml"])
        .args(["--target", TARGET, "--features", "panic-unwind,compiler-builtins-mem"])
        .env("CARGO_TARGET_DIR", &built)
        // A standard library may use what is unstable, and says so in its metadata.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_DEFAULT_LIB_METADATA", "stablestd")
        .env(
            "RUSTFLAGS",
            format!("-Cembed-bitcode=yes -Zforce-unstable-if-unmarked -Lnative={}", libc.display()),
        ))?;
    let made = built.join(TARGET).join("release/deps");
    let entries = std::fs::read_dir(&made).map_err(|e| unusable(&made, &e))?;
    let rlib = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rlib");
    let libraries = entries.flatten().map(|entry| entry.path()).filter(rlib).collect();
    last_is_std(libraries).iter().try_for_each(|path| place(path, &library))
}

/// apt with lists and a cache of our own: the system's are left alone, and no right is needed.
struct Apt {
    work: PathBuf,
    mirror: String,
}

impl Apt {
    /// Unpacks the newest package of this name whose version begins so, from the first suite that has one.
    fn take(&self, package: &str, version: &str) -> Result<(), Stop> {
        for suite in SUITES {
            let list = self.work.join("sources.list");
            let line = format!("deb [signed-by={KEYRING}] {} {suite} main\n", self.mirror);
            std::fs::write(&list, line).map_err(|e| unusable(&list, &e))?;
            // A suite that is not there is no reason to stop.
            if output(self.tool("apt-get").arg("update")).is_err() {
                continue;
            }
            let known = output(self.tool("apt-cache").args(["madison", package]))?;
            let versions = known.lines().filter_map(|line| line.split('|').nth(1).map(str::trim));
            let fits = |found: &&str| {
                let rest = found.strip_prefix(version);
                rest.is_some_and(|rest| version.is_empty() || rest.starts_with(['+', '~', '-']))
            };
            let Some(found) = versions.into_iter().find(fits) else { continue };
            run(self.tool("apt-get").current_dir(&self.work).args([
                "--quiet",
                "download",
                &format!("{package}={found}"),
            ]))?;
            return self.unpack(package);
        }
        Err(Stop(format!("Debian has no {package} {version} in {}", SUITES.join(", "))))
    }

    fn unpack(&self, package: &str) -> Result<(), Stop> {
        let files = std::fs::read_dir(&self.work).map_err(|e| unusable(&self.work, &e))?;
        let is_it = |name: &str| name.starts_with(&format!("{package}_")) && name.ends_with(".deb");
        let found = files.flatten().find(|file| is_it(&file.file_name().to_string_lossy()));
        let found = found.ok_or_else(|| Stop(format!("apt fetched no {package}")))?;
        run(Command::new("dpkg").arg("-x").arg(found.path()).arg(self.work.join("x")))
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        let folder = |name: &str| self.work.join(name).display().to_string();
        for (option, value) in [
            ("Dir::Etc::sourcelist", folder("sources.list")),
            ("Dir::Etc::sourceparts", "-".to_owned()),
            ("Dir::State::lists", folder("lists")),
            ("Dir::Cache", folder("cache")),
            ("Debug::NoLocking", "1".to_owned()),
            ("APT::Sandbox::User", String::new()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            // apt says what it misses.
            let _ = std::fs::create_dir_all(self.work.join(folder));
        }
        command
    }
}

/// Debian's archive as this machine's own sources have it.
fn mirror() -> Result<String, Stop> {
    let mut texts = vec![std::fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    if let Ok(parts) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let mut paths: Vec<PathBuf> = parts.flatten().map(|part| part.path()).collect();
        paths.sort();
        texts.extend(paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()));
    }
    archive_in(&texts.join("\n"))
        .ok_or_else(|| Stop("no source of Debian's is configured in /etc/apt".to_owned()))
}

/// The first archive of Debian's (not of its security updates) in a list of sources, of either form.
fn archive_in(sources: &str) -> Option<String> {
    let lines = sources.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let words = lines.flat_map(str::split_whitespace).map(|word| word.trim_end_matches('/'));
    let mut found = words.filter(|word| {
        let web = word.starts_with("http://") || word.starts_with("https://");
        web && word.ends_with("/debian")
    });
    found.next().map(str::to_owned)
}

fn make(folder: &Path) -> Result<(), Stop> {
    std::fs::create_dir_all(folder).map_err(|e| unusable(folder, &e))
}

/// Whoever sees `std` may take the others for there, whenever this was broken off.
fn last_is_std(mut libraries: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_std = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libstd-"))
    };
    libraries.sort_by_key(is_std);
    libraries
}

/// Copies a file into a folder, where it is seen whole or not at all.
fn place(file: &Path, folder: &Path) -> Result<(), Stop> {
    let name = file.file_name().unwrap_or_default();
    let (coming, there) = (folder.join(name).with_extension("coming"), folder.join(name));
    copy(file, &coming)?;
    std::fs::rename(&coming, &there).map_err(|e| unusable(&there, &e))
}

fn copy(from: &Path, to: &Path) -> Result<(), Stop> {
    std::fs::copy(from, to).map(|_| ()).map_err(|e| unusable(to, &e))
}

fn unusable(path: &Path, error: &std::io::Error) -> Stop {
    Stop(format!("cannot use {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{archive_in, last_is_std};

    #[test]
    fn what_shows_that_all_is_there_comes_last() {
        let names = ["libcore-1.rlib", "libstd-1.rlib", "libstd_detect-1.rlib", "liballoc-1.rlib"];
        let last = last_is_std(names.map(Into::into).to_vec()).pop().unwrap();
        assert_eq!(last, std::path::Path::new("libstd-1.rlib"));
    }

    #[test]
    fn the_archive_is_found_in_sources_of_either_form() {
        let lines = "# deb http://old.example/debian x main\ndeb http://security.example/debian-security s main\n\
                     deb [arch=amd64] https://mirror.example/debian/ bookworm main\n";
        assert_eq!(archive_in(lines).as_deref(), Some("https://mirror.example/debian"));
        let parts = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n";
        assert_eq!(archive_in(parts).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(archive_in("deb http://archive.example/ubuntu noble main"), None);
    }
}
