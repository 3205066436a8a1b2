//! `cargo xtask dist`: the two programs as they ship, in `target/dist`.
//!
//! The spoke is one file that runs on any Linux of its architecture: it is linked to musl, which Rust brings along, and
//! asks for nothing of the system's. The hub is linked to the C library of the machine that builds it.
//!
//! They are built one after the other: built together, they would share the features of their libraries, and the
//! spoke would carry the hub's compiler (25 MB instead of 8).
//!
//! Guarantees:
//! - each device has a compiler for C that is named when it is missing (`a_compiler_is_named_for_each_device`);
//! - this machine's spoke takes no other than the one that builds the rest
//!   (`a_machine_builds_for_itself_with_its_own_compiler`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};

use crate::command::{Stop, cargo, output, root, run, target};

/// What `dist` can be told.
#[derive(Args)]
pub struct Options {
    /// Only the spoke, for such devices, as target/dist/spoke-ARCHITECTURE; may be given more than once
    #[arg(long, value_name = "TARGET")]
    target: Vec<Device>,
}

/// What a spoke is built for, as Rust calls it.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Device {
    #[value(name = "x86_64-unknown-linux-musl")]
    X86_64,
    #[value(name = "aarch64-unknown-linux-musl")]
    Aarch64,
}

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
const LINK: [&str; 4] = ["--icf=all", "-O2", "-z", "pack-relative-relocs"];

/// How a static program is linked that may lie anywhere in memory, and musl's files that begin and end it. Rust does so by
/// itself for some devices only; the others' programs would lie at an address that everybody knows.
const MOVABLE: [&str; 4] = ["-pie", "--no-dynamic-linker", "-z", "text"];
const MOVABLE_FILES: [&str; 5] = ["rcrt1.o", "crti.o", "crtbeginS.o", "crtendS.o", "crtn.o"];

/// Builds what is asked for and says where it is.
pub fn build(options: &Options) -> Result<(), Stop> {
    let mut programs = Vec::new();
    for device in &options.target {
        programs.push(device.ships()?);
    }
    if options.target.is_empty() {
        programs.extend([spoke()?, hub()?]);
    }
    for program in programs {
        println!("{} {:.1} MB", program.display(), megabytes(&program)?);
    }
    Ok(())
}

fn hub() -> Result<PathBuf, Stop> {
    run(cargo().args(["build", "--locked", "--release", "--package", "freewheel-hub"]))?;
    put(&target().join("release/hub"), "hub")
}

/// Builds the spoke as it ships for this machine.
pub fn spoke() -> Result<PathBuf, Stop> {
    if let Some(device) = Device::here() {
        return device.spoke("spoke");
    }
    // Linked to the system's libraries, on a system that no device of ours has.
    run(cargo().args(SPOKE))?;
    Ok(target().join("dist/spoke"))
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

impl Device {
    /// The kind that this machine is.
    fn here() -> Option<Self> {
        let arch = std::env::consts::ARCH;
        let is_this = |device: &Self| cfg!(target_os = "linux") && device.architecture() == arch;
        [Self::X86_64, Self::Aarch64].into_iter().find(is_this)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    /// As its machines call it.
    const fn architecture(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Compilers for what of the cryptography is C, and the package of Debian that has the last of them. That C calls
    /// nothing but `memcpy` and its like: a compiler for another C library does.
    fn compilers(self) -> (Vec<&'static str>, &'static str) {
        if Self::here() == Some(self) {
            return (vec!["cc"], "gcc");
        }
        match self {
            Self::X86_64 => {
                (vec!["x86_64-linux-musl-gcc", "x86_64-linux-gnu-gcc"], "gcc-x86-64-linux-gnu")
            }
            Self::Aarch64 => {
                (vec!["aarch64-linux-musl-gcc", "aarch64-linux-gnu-gcc"], "gcc-aarch64-linux-gnu")
            }
        }
    }

    /// Builds the spoke as it ships for such devices.
    pub fn ships(self) -> Result<PathBuf, Stop> {
        self.spoke(&format!("spoke-{}", self.architecture()))
    }

    /// Builds the spoke and puts it among the programs that ship under this name.
    fn spoke(self, name: &str) -> Result<PathBuf, Stop> {
        let library = self.library()?;
        let word = self.name().replace('-', "_");
        let (cc, flags) = (format!("CC_{word}"), format!("CFLAGS_{word}"));
        let mut command = cargo();
        command.args(SPOKE).args(["--target", self.name()]);
        // Rust's own linker knows every device. It starts without a compiler in front.
        command
            .args(["--", "-C", "linker=rust-lld"])
            .args(self.link(&library.join("self-contained")));
        if std::env::var_os(&cc).is_none() {
            command.env(&cc, self.compiler(&cc)?);
        }
        if std::env::var_os(&flags).is_none() {
            // Some systems' compilers put checks of their own C library in.
            command.env(&flags, "-U_FORTIFY_SOURCE");
        }
        run(&mut command)?;
        put(&target().join(self.name()).join("dist/spoke"), name)
    }

    /// What the compiler is told of linking; `musl` is where Rust has musl.
    fn link(self, musl: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = LINK.iter().map(OsString::from).collect();
        let mut told: Vec<OsString> = Vec::new();
        match self {
            Self::X86_64 => {}
            Self::Aarch64 => {
                told.extend(["-C".into(), "link-self-contained=no".into()]);
                words.extend(MOVABLE.iter().map(OsString::from));
                words.extend(MOVABLE_FILES.iter().map(|file| musl.join(file).into_os_string()));
                words.extend(["-L".into(), musl.as_os_str().to_owned()]);
            }
        }
        for word in words {
            let mut argument = OsString::from("link-arg=");
            argument.push(word);
            told.extend(["-C".into(), argument]);
        }
        told
    }

    /// Where Rust's library for the device is, which nothing but this takes.
    fn library(self) -> Result<PathBuf, Stop> {
        let ask = ["--print", "target-libdir", "--target", self.name()];
        let said = output(Command::new("rustc").args(ask).current_dir(root()))?;
        let folder = PathBuf::from(said.trim());
        if !folder.exists() {
            println!("installing Rust's library for {} …", self.name());
            let add = ["target", "add", self.name()];
            run(Command::new("rustup").args(add).current_dir(root())).map_err(|Stop(why)| {
                Stop(format!("the spoke is linked to Rust's library for {}: {why}", self.name()))
            })?;
        }
        Ok(folder)
    }

    /// The first of its compilers that there is. `variable` names another.
    fn compiler(self, variable: &str) -> Result<&'static str, Stop> {
        let (compilers, package) = self.compilers();
        let is_there = |compiler: &&str| {
            let mut ask = Command::new(compiler);
            ask.arg("--version").stdin(Stdio::null());
            output(&mut ask).is_ok()
        };
        compilers.iter().copied().find(is_there).ok_or_else(|| {
            Stop(format!(
                "the spoke's cryptography is partly C, and there is no {}: install one (Debian: apt-get install \
                 {package}), or name a C compiler for {} in {variable}",
                compilers.join(" or "),
                self.name()
            ))
        })
    }
}

fn megabytes(file: &Path) -> Result<f64, Stop> {
    let size = std::fs::metadata(file).map_err(|e| Stop(format!("{}: {e}", file.display())))?.len();
    let tenths = u32::try_from(size / 100_000).unwrap_or(u32::MAX);
    Ok(f64::from(tenths) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_named_for_each_device() {
        for device in Device::value_variants() {
            let value = device.to_possible_value().unwrap();
            assert_eq!(value.get_name(), device.name());
            assert!(device.name().starts_with(device.architecture()));
            let (compilers, package) = device.compilers();
            assert!(!compilers.is_empty() && package.starts_with("gcc"), "{device:?}");
        }
    }

    #[test]
    fn a_machine_builds_for_itself_with_its_own_compiler() {
        if let Some(device) = Device::here() {
            assert_eq!(device.compilers(), (vec!["cc"], "gcc"));
            let others = Device::value_variants().iter().filter(|other| **other != device);
            for other in others {
                assert!(!other.compilers().0.contains(&"cc"), "{other:?}");
            }
        }
    }
}
