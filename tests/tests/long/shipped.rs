//! The spokes that ship, as `cargo xtask dist` builds them: with nothing around them, and for other processors than this
//! machine's, under qemu.

use std::path::PathBuf;
use std::process::Command;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::{Fleet, eventually, guests, small_device};

/// Names of nodes, what their programs are built for, and what Kubernetes calls that.
const DEVICES: [(&str, &str, &str); 1] = [("pi", "aarch64", "arm64")];

/// One of them.
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

fn emulated(architecture: &str) -> Vec<String> {
    let qemu = format!("qemu-{architecture}");
    let is_there = Command::new(&qemu).arg("--version").output().is_ok();
    assert!(is_there, "there is no {qemu} (Debian: apt-get install qemu-user)");
    instead(&format!("{qemu} \"$0\""), program(&format!("spoke-{architecture}")))
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

#[test]
fn a_daemon_answers_on_devices_of_every_architecture() {
    let mut fleet = Fleet::with(&["server"]);
    for (name, architecture, _) in DEVICES {
        fleet.start_through(name, emulated(architecture));
        fleet.join(name);
        fleet.node_ready(name);
    }
    fleet.push("hello-http", "hello-http:v1");
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    let example = guests::root().join("manifests/examples/daemon-hello.yaml");
    kubectl.does(&["apply", "-f", &example.to_string_lossy()]);
    fleet.pods_ready(&kubectl, "app=daemon-hello", 1 + DEVICES.len());
    for (name, _, called) in DEVICES {
        let label = "jsonpath={.metadata.labels.kubernetes\\.io/arch}";
        assert_eq!(kubectl.run(&["get", "node", name, "-o", label]), called);
        // Its own pod, and those on the others behind the same port.
        fleet.answers(name, 30082, "hello from daemon-hello-");
    }
    fleet.answers("server", 30082, "hello from daemon-hello-");
    // A guest that traps ends with its trap, and nothing else does.
    for (name, ..) in DEVICES {
        let pod = format!("trap-{name}");
        kubectl.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {pod}}}, spec: {{nodeName: {name}, restartPolicy: Never, \
             containers: [{{name: c, image: 'kit:v1', args: [panic]}}]}}}}"
        ));
        let code = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
        eventually("the guest has trapped", PATIENCE, || {
            let said = kubectl.try_run(&["get", "pod", &pod, "-o", code]);
            if said.out == "134" { Ok(()) } else { Err(format!("{}{}", said.out, said.err)) }
        });
        fleet.answers(name, 30082, "hello from daemon-hello-");
    }
}
