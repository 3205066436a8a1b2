//! `cargo xtask dist`: the two programs as they ship, in `target/dist`.
//!
//! The spoke for x86-64 is one file that runs on any Linux: it is linked to musl, which Rust brings along, and asks for
//! nothing of the system's. The hub is linked to the C library of the machine that builds it, and so is the spoke on other
//! machines.
//!
//! They are built one after the other: built together, they would share the features of their libraries, and the
//! spoke would carry the hub's compiler (25 MB instead of 8).
//!
//! Guarantees:
//! - what ships runs on every processor of its kind, whatever flags whoever builds it has for the own programs
//!   (`flags_of_the_builder_s_own_are_not_taken`).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Stop, cargo, output, root, run, target};

/// What the spoke is built for, as Rust calls it.
const STATIC: &str = "x86_64-unknown-linux-musl";

/// The spoke as it ships, for whatever machine.
const SPOKE: [&str; 10] = [
    "rustc",
    "--locked",
    "--profile",
    "dist",
    "--features",
    "ships",
    "--package",
    "freewheel-spoke",
    "--bin",
    "spoke",
];

/// Functions of the same code become one (60 kB), and texts that end alike; places that are to be filled in when it
/// starts take a bit each, not 24 bytes (350 kB). A dynamic program would need a new C library for that; a static one
/// fills them in itself.
const LINK: &str = "link-args=--icf=all -O2 -z pack-relative-relocs";

/// Builds both and says where they are.
pub fn build() -> Result<(), Stop> {
    for program in [spoke()?, hub()?] {
        println!("{} {:.1} MB", program.display(), megabytes(&program)?);
    }
    Ok(())
}

/// Whether a variable has flags for a compiler, of C or of Rust, whichever target they are for.
fn has_flags(name: &str) -> bool {
    ["CFLAGS", "CXXFLAGS", "RUSTFLAGS"].iter().any(|flags| name.contains(flags))
}

/// Cargo without the builder's own flags: `-C target-cpu=native` makes a program that ends at once on an older processor.
fn plain_cargo() -> Command {
    let mut command = cargo();
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(has_flags) {
            command.env_remove(name);
        }
    }
    // Those in cargo's files are outweighed by any that are here, also by none.
    command.env("RUSTFLAGS", "");
    command
}

fn hub() -> Result<PathBuf, Stop> {
    run(plain_cargo().args(["build", "--locked", "--release", "--package", "freewheel-hub"]))?;
    put(&target().join("release/hub"), "hub")
}

/// Builds the spoke as it ships for this machine.
pub fn spoke() -> Result<PathBuf, Stop> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        run(plain_cargo().args(SPOKE))?;
        return Ok(target().join("dist/spoke"));
    }
    add_library()?;
    let mut command = plain_cargo();
    // Rust's own linker starts without a compiler in front.
    command.args(SPOKE).args(["--target", STATIC, "--", "-C", "linker=rust-lld", "-C", LINK]);
    // What of the cryptography is C calls nothing but `memcpy` and its like: a compiler for another C library does, when it
    // puts no checks of that library in, as some systems' do.
    command.env("CFLAGS_x86_64_unknown_linux_musl", "-U_FORTIFY_SOURCE");
    let compiler = "CC_x86_64_unknown_linux_musl";
    if std::env::var_os(compiler).is_none() {
        command.env(compiler, "cc");
    }
    run(&mut command)?;
    put(&target().join(STATIC).join("dist/spoke"), "spoke")
}

/// Rust's library for it, which nothing but this takes.
fn add_library() -> Result<(), Stop> {
    let ask = ["--print", "target-libdir", "--target", STATIC];
    let folder = output(Command::new("rustc").args(ask).current_dir(root()))?;
    if Path::new(folder.trim()).exists() {
        return Ok(());
    }
    println!("installing Rust's library for {STATIC} …");
    run(Command::new("rustup").args(["target", "add", STATIC]).current_dir(root())).map_err(
        |Stop(why)| Stop(format!("the spoke is linked to Rust's library for {STATIC}: {why}")),
    )
}

/// Puts a program among those that ship. Made aside and renamed: one that runs keeps the file that it was started from.
fn put(program: &Path, name: &str) -> Result<PathBuf, Stop> {
    let folder = target().join("dist");
    let (fresh, file) = (folder.join(format!("{name}.new")), folder.join(name));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::copy(program, &fresh))
        .and_then(|_| std::fs::rename(&fresh, &file))
        .map_err(|e| Stop(format!("cannot copy {name} to {}: {e}", file.display())))?;
    Ok(file)
}

fn megabytes(file: &Path) -> Result<f64, Stop> {
    let size = std::fs::metadata(file).map_err(|e| Stop(format!("{}: {e}", file.display())))?.len();
    let tenths = u32::try_from(size / 100_000).unwrap_or(u32::MAX);
    Ok(f64::from(tenths) / 10.0)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn flags_of_the_builder_s_own_are_not_taken() {
        for flags in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CFLAGS",
            "HOST_CFLAGS",
            "CFLAGS_x86_64-unknown-linux-musl",
        ] {
            assert!(has_flags(flags), "{flags}");
        }
        assert!(!has_flags("CC_x86_64_unknown_linux_musl") && !has_flags("CARGO_HOME"));
        let command = plain_cargo();
        let given = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?)));
        let given: Vec<_> = given.filter(|(name, _)| has_flags(name)).collect();
        assert_eq!(
            given,
            [("RUSTFLAGS", OsStr::new(""))],
            "none, in place of those in cargo's files"
        );
    }
}
