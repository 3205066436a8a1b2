//! The modules that tests push.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Path of a guest such as `hello-http` or `kit`; all are built on the first call when they are missing.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("FREEWHEEL_GUESTS") {
            return folder.into();
        }
        let status =
            Command::new(env!("CARGO")).args(["xtask", "guests"]).current_dir(root()).status();
        assert!(status.is_ok_and(|status| status.success()), "cargo xtask guests failed");
        root().join("target/guests")
    });
    folder.join(format!("{name}.wasm"))
}

/// The checkout.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").to_path_buf()
}

/// One of our binaries.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("FREEWHEEL_BIN")
        .map_or_else(|| root().join("target/debug"), PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build` or `cargo xtask test`",
        path.display()
    );
    path
}
