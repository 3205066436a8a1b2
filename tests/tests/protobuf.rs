//! client-go in protobuf creates, reads, lists, watches and deletes.

use std::process::Command;

use freewheel_tests::{Fleet, guests};

#[test]
fn client_go_speaks_protobuf() {
    let folder = guests::root().join("tests/clients/protobuf");
    let program = std::env::temp_dir().join(format!("freewheel-protobuf-{}", std::process::id()));
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(folder)
        .output();
    let built = built.expect("Go, which builds the client-go program");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let fleet = Fleet::hub();
    let ran =
        Command::new(&program).env("KUBECONFIG", fleet.kubeconfig()).output().expect("the program");
    let _ = std::fs::remove_file(&program);
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    assert_eq!(out.trim(), "protobuf works");
}
