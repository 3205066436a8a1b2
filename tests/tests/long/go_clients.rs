//! What controllers in Go are made with, as their projects release it: client-go's informers, controller-runtime, and the
//! engine that Flux applies with. The programs are in `tests/clients/go`, and end at the first difference; they work in
//! the root as in a spoke's own cluster.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use freewheel_tests::tools::{self, run};
use freewheel_tests::{Fleet, has};

/// The kubeconfig of a spoke's own cluster.
fn of_spoke(fleet: &Fleet, name: &str) -> PathBuf {
    let path = fleet.path(&format!("{name}.kubeconfig"));
    let text = fleet.hub_cli(&["get", "kubeconfig", "--cluster", name]);
    std::fs::write(&path, text).expect("a kubeconfig");
    path
}

fn client(program: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("KUBECONFIG", kubeconfig).env("HOME", kubeconfig.parent().expect("a folder"));
    command
}

#[test]
fn informers_of_client_go_follow_across_a_restart_of_the_hub() {
    let program = tools::go_client("go", "informers");
    let mut fleet = Fleet::hub();
    let mut command = client(&program, &fleet.kubeconfig());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    if line == "ready\n" {
        fleet.kill_hub();
        fleet.start_hub();
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(b"go on\n").expect("it listens");
        line.clear();
        out.read_line(&mut line).expect("a line");
    }
    let ended = child.wait_with_output().expect("its end");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{line}{err}\n{}", fleet.hub_log());
    assert_eq!(line, "informers work\n");
}

#[test]
fn an_operator_of_controller_runtime_works() {
    let program = tools::go_client("go", "operator");
    let fleet = Fleet::with(&["pi-1"]);
    has(&run(&mut client(&program, &fleet.kubeconfig())), &["the operator works"]);
}

#[test]
fn flux_s_engine_applies_in_root_and_in_a_spoke_s_cluster() {
    let program = tools::go_client("go", "ssa");
    let fleet = Fleet::with(&["pi-1"]);
    for kubeconfig in [fleet.kubeconfig(), of_spoke(&fleet, "pi-1")] {
        has(&run(&mut client(&program, &kubeconfig)), &["flux applies"]);
    }
}
