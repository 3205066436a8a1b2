//! The hub's registry for the tools that people have: oras, crane and wkg, as their projects release them.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_tests::tools::{self, run};
use freewheel_tests::{Fleet, guests, has};
use serde_json::Value;

/// A tool's user: who trusts the hub's CA and has a login of the registry.
struct User {
    folder: PathBuf,
    ca: PathBuf,
    registry: String,
    name: String,
    password: String,
}

impl User {
    fn new(fleet: &Fleet) -> Self {
        let folder = fleet.path("user");
        std::fs::create_dir_all(&folder).expect("a home");
        let text = std::fs::read_to_string(fleet.kubeconfig()).expect("the kubeconfig");
        let config: Value = serde_json::from_str(&text).expect("kubeconfigs are JSON");
        let ca = config["clusters"][0]["cluster"]["certificate-authority-data"].as_str();
        let pem = STANDARD.decode(ca.expect("the hub's CA")).expect("base64");
        let ca = folder.join("ca.crt");
        std::fs::write(&ca, pem).expect("the CA's file");
        let line = fleet.hub_cli(&["token", "create", "--registry", "--ttl", "1h"]);
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["docker", "login", _, "--username", name, "--password", password] = words[..] else {
            panic!("no line to paste: {line}");
        };
        let _ = std::fs::copy(guests::path("hello-http"), folder.join("hello.wasm"));
        Self {
            ca,
            registry: format!("127.0.0.1:{}", fleet.api_port()),
            name: name.to_owned(),
            password: password.to_owned(),
            folder,
        }
    }

    /// Words of a command line, in which `@` stands for the registry.
    fn command(&self, tool: &Path, line: &str) -> Command {
        let mut command = Command::new(tool);
        command
            .args(line.split_whitespace().map(|word| word.replace('@', &self.registry)))
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .env("DOCKER_CONFIG", self.folder.join(".docker"))
            .env("SSL_CERT_FILE", &self.ca);
        command
    }

    #[track_caller]
    fn does(&self, tool: &Path, line: &str) -> String {
        run(&mut self.command(tool, line))
    }

    #[track_caller]
    fn fails(&self, tool: &Path, line: &str) -> String {
        let done = self.command(tool, line).output().expect("a tool that starts");
        assert!(!done.status.success(), "{line} should have failed");
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    /// The file is the module that was pushed.
    #[track_caller]
    fn has_module(&self, file: &str) {
        let module = std::fs::read(guests::path("hello-http")).expect("the module");
        let found = std::fs::read(self.folder.join(file)).expect("a pulled file");
        assert!(found == module, "{file} is not what was pushed");
    }

    /// The digest of what `hub inspect` knows under this name.
    fn inspected(fleet: &Fleet, image: &str) -> String {
        let shown = fleet.hub_cli(&["inspect", image]);
        let pinned = shown.split_whitespace().find_map(|word| word.split_once("@sha256:"));
        pinned.expect("a digest").1.to_owned()
    }
}

/// Deleting is the administrators', and every tool says so in the hub's words.
const NOT_YOURS: &[&str] = &["deleted by administrators", "hub rm NAME:TAG"];

#[test]
fn oras_logs_in_pushes_pulls_tags_lists_and_copies() {
    let oras = tools::from_go("oras.land/oras/cmd/oras", "v1.3.6");
    let fleet = Fleet::with(&["pi-1"]);
    let user = User::new(&fleet);
    let refused = user.fails(&oras, "push @/team/app:v1 hello.wasm:application/wasm");
    has(&refused, &["basic credential not found"]);
    let login = format!("login @ -u {} -p {}", user.name, user.password);
    has(&user.does(&oras, &login), &["Login Succeeded"]);
    has(
        &user.does(&oras, "push @/team/app:v1 hello.wasm:application/wasm"),
        &["Pushed [registry]", "Digest: sha256:"],
    );
    has(&user.does(&oras, "tag @/team/app:v1 v1.0 latest"), &["Tagged v1.0", "Tagged latest"]);
    has(&user.does(&oras, "repo ls @"), &["team/app"]);
    let tags = user.does(&oras, "repo tags @/team/app");
    assert_eq!(tags.split_whitespace().collect::<Vec<_>>(), ["latest", "v1", "v1.0"]);
    let digest = user.does(&oras, "resolve @/team/app:latest");
    assert!(digest.contains(&User::inspected(&fleet, "team/app:v1")), "{digest}");
    let _ = user.does(&oras, "pull -o pulled @/team/app:v1");
    user.has_module("pulled/hello.wasm");
    // What is said of it stays beside it, and is found by what it is about.
    std::fs::write(user.folder.join("says.txt"), "it is mine").expect("a file");
    let attach = "attach --artifact-type application/vnd.example.says+text @/team/app:v1 says.txt:text/plain";
    has(&user.does(&oras, attach), &["Attached to", "Digest: sha256:"]);
    let discovered = user.does(&oras, "discover @/team/app:v1");
    has(&discovered, &["application/vnd.example.says+text", "sha256:"]);
    let of_kind =
        "discover --artifact-type application/vnd.example.says+text --format json @/team/app:v1";
    has(&user.does(&oras, of_kind), &["application/vnd.example.says+text"]);
    has(&user.does(&oras, "copy @/team/app:v1 @/team/copy:v2"), &["Copied [registry]"]);
    has(&user.does(&oras, "manifest fetch @/team/copy:v2"), &["application/wasm", "hello.wasm"]);
    has(&user.fails(&oras, "manifest delete -f @/team/copy:v2"), NOT_YOURS);
    let text = user.folder.join("text.wasm");
    std::fs::write(text, "no module").expect("a file");
    let refused = user.fails(&oras, "push @/team/text:v1 text.wasm:application/wasm");
    has(&refused, &["not a WebAssembly file"]);

    // What a tool pushed runs.
    let kubectl = fleet.kubectl();
    kubectl.does(&["run", "app", "--image=team/copy:v2", "--port=8080"]);
    fleet.pods_ready(&kubectl, "run=app", 1);
    has(&user.does(&oras, "logout @"), &[]);
    has(&user.fails(&oras, "repo ls @"), &["basic credential not found"]);
}

#[test]
fn crane_logs_in_pushes_pulls_tags_lists_and_copies() {
    let crane = tools::from_go("github.com/google/go-containerregistry/cmd/crane", "v0.22.1");
    let fleet = Fleet::hub();
    let user = User::new(&fleet);
    fleet.push("hello-http", "team/app:v1");
    has(&user.fails(&crane, "ls @/team/app"), &["UNAUTHORIZED"]);
    let login = format!("auth login @ -u {} -p {}", user.name, user.password);
    has(&user.does(&crane, &login), &["logged in"]);
    has(&user.does(&crane, "catalog @"), &["team/app"]);
    has(&user.does(&crane, "tag @/team/app:v1 latest"), &[]);
    has(&user.does(&crane, "ls @/team/app"), &["v1", "latest"]);
    let digest = user.does(&crane, "digest @/team/app:latest");
    assert!(digest.contains(&User::inspected(&fleet, "team/app:v1")), "{digest}");
    has(&user.does(&crane, "validate --remote @/team/app:v1"), &["PASS"]);
    let _ = user.does(&crane, "pull --format=oci @/team/app:v1 layout");
    let _ = user.does(&crane, "push layout @/team/pushed:v1");
    assert_eq!(User::inspected(&fleet, "team/pushed:v1"), User::inspected(&fleet, "team/app:v1"));
    let _ = user.does(&crane, "copy --all-tags @/team/app @/team/copy");
    has(&user.does(&crane, "ls @/team/copy"), &["v1", "latest"]);
    has(&user.fails(&crane, "delete @/team/copy:v1"), NOT_YOURS);
    has(&fleet.hub_cli(&["rm", "team/copy:v1"]), &["team/copy:v1 removed"]);
    assert!(!user.does(&crane, "ls @/team/copy").contains("v1"));
}

#[test]
fn wkg_pushes_and_pulls() {
    let wkg = tools::from_cargo("wkg", "0.16.1");
    let fleet = Fleet::hub();
    let user = User::new(&fleet);
    has(&user.fails(&wkg, "oci push @/team/app:v1 hello.wasm"), &["team/app"]);
    let with = format!("-u {} -p {}", user.name, user.password);
    has(
        &user.does(&wkg, &format!("oci push {with} @/team/app:v1 hello.wasm")),
        &["pushed: 127.0.0.1", "digest: sha256:"],
    );
    let _ = user.does(&wkg, &format!("oci pull {with} -o pulled.wasm @/team/app:v1"));
    user.has_module("pulled.wasm");
    has(&fleet.hub_cli(&["images"]), &["team/app   v1 "]);
}
