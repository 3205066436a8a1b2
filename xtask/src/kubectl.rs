//! A stock kubectl that is new enough: the one in PATH, else one built from the Go module proxy.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{Stop, output, root, run, target};

/// Minor version from which kubectl asks for aggregated discovery and OpenAPI v3.
const OLDEST_MINOR: u32 = 32;

/// Path of a kubectl that fits.
pub fn find() -> Result<PathBuf, Stop> {
    if minor("kubectl".as_ref()).is_some_and(|minor| OLDEST_MINOR <= minor) {
        return Ok("kubectl".into());
    }
    let built = target().join("tools/kubectl");
    if minor(&built).is_some_and(|minor| OLDEST_MINOR <= minor) {
        return Ok(built);
    }
    println!(
        "kubectl: none in PATH is 1.{OLDEST_MINOR} or newer; building one with Go (some minutes, once)"
    );
    run(Command::new("go")
        .current_dir(root().join("tests/clients/kubectl"))
        .args(["build", "-trimpath", "-o"])
        .arg(&built)
        .arg("."))
    .map_err(|stop| {
        Stop(format!("kubectl 1.{OLDEST_MINOR} or newer is needed: install it, or Go so that it can be built here ({stop})"))
    })?;
    Ok(built)
}

fn minor(kubectl: &std::path::Path) -> Option<u32> {
    let text = output(Command::new(kubectl).args(["version", "--client", "-o", "json"])).ok()?;
    let version: serde_json::Value = serde_json::from_str(&text).ok()?;
    let minor = version["clientVersion"]["minor"].as_str()?;
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
