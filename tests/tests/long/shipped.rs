//! The spoke that ships, as `cargo xtask dist` builds it, with nothing around it.

use std::path::PathBuf;

use freewheel_tests::{Fleet, guests, small_device};

/// What ships.
fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("FREEWHEEL_SHIPPED")
        .map_or_else(|| guests::root().join("target/dist"), PathBuf::from);
    let program = folder.join(name);
    assert!(program.exists(), "{} is not built: cargo xtask dist", program.display());
    program
}

/// The words that start something else where a spoke of this machine would be started: the script has what it needs as
/// `$0`, and the spoke's command line as `$@`.
fn instead(script: &str, needs: PathBuf) -> Vec<String> {
    let script = format!("shift; exec {script} \"$@\"");
    let needs = needs.into_os_string().into_string().expect("a path in Unicode");
    vec!["sh".to_owned(), "-c".to_owned(), script, needs]
}

#[test]
fn a_device_needs_nothing_but_the_spoke() {
    let mut fleet = Fleet::hub();
    let (root, data) = (fleet.path("root"), fleet.path("bare"));
    let inside = root.join(data.strip_prefix("/").expect("an absolute path"));
    std::fs::create_dir_all(&inside).expect("a folder for the data");
    std::fs::copy(program("spoke"), root.join("spoke")).expect("a copy of the spoke");
    // No library, no /etc, no /dev, not even /proc.
    let alone = format!("{} chroot \"$0\" /spoke", small_device::unshare().join(" "));
    fleet.start_through("bare", instead(&alone, root));
    fleet.join("bare");
    fleet.node_ready("bare");
    fleet.serve_web(1, 30080, &["bare"]);
}
