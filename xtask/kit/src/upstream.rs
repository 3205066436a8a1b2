//! Kubernetes' own programs, built from the Go module proxy once, into `target/tools`.
//!
//! Guarantees:
//! - all are of the version that is in their names (`every_program_is_of_one_version`).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child;
use crate::command::{Stop, root, target};

/// Version of k8s.io/kubernetes in the go.mod files.
const VERSION: &str = "v1.36.4";
/// A cold build takes some minutes on two cores.
const BUILD: Duration = Duration::from_secs(3600);
/// kube-apiserver, kube-controller-manager and etcd.
const PEERS: &str = "tests/bench/peers";
/// The conformance specs.
const SUITE: &str = "tests/conformance/e2e";

/// One of the servers.
pub fn server(name: &str) -> Result<PathBuf, Stop> {
    let package = format!("./{name}");
    build(&format!("{name}-{VERSION}"), PEERS, &["build"], &package)
        .map_err(|stop| Stop(format!("peer not available: {stop}")))
}

/// The conformance specs as one program. Its tests are upstream's; what it is built from here decides its name, too.
pub fn suite() -> Result<PathBuf, Stop> {
    let mut hash = DefaultHasher::new();
    for file in ["go.mod", "e2e_test.go", "observe_test.go"] {
        let path = root().join(SUITE).join(file);
        let text = std::fs::read(&path);
        text.map_err(|e| Stop(format!("{}: {e}", path.display())))?.hash(&mut hash);
    }
    let name = format!("e2e.test-{VERSION}-{:016x}", hash.finish());
    // Vet would cost twenty minutes, over code that is not ours.
    build(&name, SUITE, &["test", "-c", "-vet=off"], ".")
}

fn build(name: &str, folder: &str, verb: &[&str], package: &str) -> Result<PathBuf, Stop> {
    let tools = target().join("tools");
    let path = tools.join(name);
    if path.exists() {
        return Ok(path);
    }
    println!("building {name} with Go (some minutes, once) …");
    std::fs::create_dir_all(&tools)
        .map_err(|e| Stop(format!("cannot make {}: {e}", tools.display())))?;
    let part = part(&path);
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion={VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor=36"
    );
    let mut command = Command::new("nice");
    command.current_dir(root().join(folder)).arg("go").args(verb);
    command.args(["-trimpath", "-ldflags", &flags, "-o"]).arg(&part).arg(package);
    child::finish(&mut command, BUILD)?;
    std::fs::rename(&part, &path)
        .map_err(|e| Stop(format!("cannot keep {}: {e}", path.display())))?;
    Ok(path)
}

/// Where a program is until it is whole.
fn part(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::{PEERS, SUITE, VERSION};
    use crate::command::root;

    #[test]
    fn every_program_is_of_one_version() {
        for folder in [PEERS, SUITE] {
            let text = std::fs::read_to_string(root().join(folder).join("go.mod")).unwrap();
            assert!(text.contains(&format!("k8s.io/kubernetes {VERSION}\n")), "{folder}");
        }
    }
}
