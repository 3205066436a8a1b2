//! `cargo xtask dist`: the two programs as they ship, in `target/dist`.
//!
//! They are built one after the other: built together, they would share the features of their libraries, and the
//! spoke would carry the hub's compiler (25 MB instead of 8).

use std::path::{Path, PathBuf};

use crate::command::{Stop, cargo, run, target};

/// Builds both and says where they are.
pub fn build() -> Result<(), Stop> {
    let spoke = spoke()?;
    let folder = target().join("dist");
    let hub = folder.join("hub");
    run(cargo().args(["build", "--locked", "--release", "--package", "freewheel-hub"]))?;
    // Made aside and renamed: a hub that runs keeps the file that it was started from.
    let fresh = folder.join("hub.new");
    std::fs::copy(target().join("release/hub"), &fresh)
        .and_then(|_| std::fs::rename(&fresh, &hub))
        .map_err(|e| Stop(format!("cannot copy the hub to {}: {e}", hub.display())))?;
    for program in [&hub, &spoke] {
        println!("{} {:.1} MB", program.display(), megabytes(program)?);
    }
    Ok(())
}

/// Builds the spoke as it ships.
pub fn spoke() -> Result<PathBuf, Stop> {
    let build = ["rustc", "--locked", "--profile", "dist", "--features", "ships"];
    let mut command = cargo();
    command.args(build).args(["--package", "freewheel-spoke", "--bin", "spoke"]);
    // Functions of the same code become one (60 kB), and texts that end alike. It is asked for where Rust brings the linker
    // that knows it.
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        command.args(["--", "-C", "link-arg=-Wl,--icf=all,-O2,--hash-style=gnu"]);
    }
    run(&mut command)?;
    Ok(target().join("dist/spoke"))
}

fn megabytes(file: &Path) -> Result<f64, Stop> {
    let size = std::fs::metadata(file).map_err(|e| Stop(format!("{}: {e}", file.display())))?.len();
    let tenths = u32::try_from(size / 100_000).unwrap_or(u32::MAX);
    Ok(f64::from(tenths) / 10.0)
}
