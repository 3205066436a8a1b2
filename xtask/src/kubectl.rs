//! A stock kubectl that is new enough: the one in PATH, else one built from the Go module proxy.

use std::path::PathBuf;
use std::process::Command;

use freewheel_xtask_kit::command::{Stop, output, root, run, target};

/// Minor version from which kubectl asks for aggregated discovery and OpenAPI v3.
const OLDEST_MINOR: u32 = 32;

/// Minor version of Go that builds what tests and this file build.
const OLDEST_GO: u32 = 26;

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
    let go = output(Command::new("go").arg("version")).ok().and_then(|told| go_minor(&told));
    if go.is_none_or(|minor| minor < OLDEST_GO) {
        let there = go.map_or("there is none".to_owned(), |minor| format!("here is 1.{minor}"));
        return Err(Stop(format!(
            "kubectl 1.{OLDEST_MINOR} or newer is needed: install it, or Go 1.{OLDEST_GO} or newer so that it can be \
             built here ({there})"
        )));
    }
    run(Command::new("go")
        .current_dir(root().join("tests/clients/kubectl"))
        .args(["build", "-trimpath", "-o"])
        .arg(&built)
        .arg("."))
    .map_err(|stop| {
        Stop(format!(
            "kubectl 1.{OLDEST_MINOR} or newer is needed, and cannot be built here: {stop}"
        ))
    })?;
    Ok(built)
}

/// Of `go version go1.26.1 linux/amd64`, 26.
fn go_minor(told: &str) -> Option<u32> {
    told.split_whitespace()
        .nth(2)?
        .strip_prefix("go1.")?
        .split(['.', 'r', 'b'])
        .next()?
        .parse()
        .ok()
}

fn minor(kubectl: &std::path::Path) -> Option<u32> {
    let text = output(Command::new(kubectl).args(["version", "--client", "-o", "json"])).ok()?;
    let version: serde_json::Value = serde_json::from_str(&text).ok()?;
    let minor = version["clientVersion"]["minor"].as_str()?;
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::go_minor;

    #[test]
    fn the_version_of_go_is_read() {
        assert_eq!(go_minor("go version go1.26.1 linux/amd64"), Some(26));
        assert_eq!(go_minor("go version go1.27rc1 linux/arm64\n"), Some(27));
        assert_eq!(go_minor("go version devel +1234"), None);
    }
}
