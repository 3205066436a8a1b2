//! `cargo xtask guests`: the example modules and the test kit, as `target/guests/NAME.wasm`.

use std::path::PathBuf;

use crate::command::{Stop, cargo, root, run, target};
use crate::wasi::{self, TARGET};

/// (workspace, file that cargo makes, name as it is pushed)
const GUESTS: [(&str, &str, &str); 6] = [
    ("guest-sdk", "hello_http", "hello-http"),
    ("guest-sdk", "web_with_sidecar", "web-with-sidecar"),
    ("guest-sdk", "content", "web-content"),
    ("guest-sdk", "tcp-echo", "tcp-echo"),
    ("tests/guests", "kit", "kit"),
    ("tests/guests", "zoo", "zoo"),
];

/// Builds all guests and returns the folder that holds them.
pub fn build() -> Result<PathBuf, Stop> {
    wasi::ensure()?;
    let build = target().join("guests-build");
    for workspace in ["guest-sdk", "tests/guests"] {
        run(cargo()
            .current_dir(root().join(workspace))
            .args(["build", "--quiet", "--locked", "--release", "--workspace", "--target", TARGET])
            .env_remove("RUSTFLAGS")
            .env("CARGO_TARGET_DIR", &build))?;
    }
    let out = target().join("guests");
    std::fs::create_dir_all(&out)
        .map_err(|e| Stop(format!("cannot make {}: {e}", out.display())))?;
    for (_, made, name) in GUESTS {
        let from = build.join(TARGET).join("release").join(format!("{made}.wasm"));
        let to = out.join(format!("{name}.wasm"));
        std::fs::copy(&from, &to).map_err(|e| {
            Stop(format!("cannot copy {} to {}: {e}", from.display(), to.display()))
        })?;
    }
    Ok(out)
}
