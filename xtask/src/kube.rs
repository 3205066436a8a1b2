//! Upstream's control plane on loopback: etcd, kube-apiserver and kube-controller-manager, with RBAC and the admission that
//! is on by default. It has no node.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use freewheel_xtask_kit::child::Child;
use freewheel_xtask_kit::command::{Stop, output};
use freewheel_xtask_kit::ports::free_tcp;
use freewheel_xtask_kit::upstream;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);

/// The bearer token of its admin. It listens on loopback, for as long as a chore takes.
pub const TOKEN: &str = "freewheel-xtask";

/// What of it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// The API alone: nobody but its clients writes
    ApiServer,
    WithControllers,
}

/// The processes.
pub struct Kube {
    // Dropped, and so stopped, in this order.
    _controllers: Option<Child>,
    _apiserver: Child,
    _etcd: Child,
    pub kubeconfig: PathBuf,
    pub port: u16,
}

impl Kube {
    /// Builds and starts them with empty data in `dir`.
    pub fn start(dir: &Path, kubectl: &Path, parts: Parts) -> Result<Self, Stop> {
        let etcd = upstream::server("etcd")?;
        let apiserver = upstream::server("kube-apiserver")?;
        let (etcd, store) = start_etcd(&etcd, dir)?;
        let port = free_tcp()?;
        let tokens = format!("{TOKEN},kubernetes-admin,admin,system:masters\n");
        write(&dir.join("tokens.csv"), &tokens)?;
        let kubeconfig = dir.join("admin.kubeconfig");
        write(&kubeconfig, &kubeconfig_text(dir, port))?;
        let command = apiserver_command(&apiserver, dir, port, &store);
        let log = dir.join("kube-apiserver.log");
        let mut apiserver = Child::start("kube-apiserver", &command, &log)?;
        let ready = || {
            let mut ask = Command::new(kubectl);
            ask.args(["get", "--raw", "/readyz", "--kubeconfig"]).arg(&kubeconfig);
            output(&mut ask).is_ok()
        };
        apiserver.until("kube-apiserver answers", PATIENCE, ready)?;
        let controllers = match parts {
            Parts::ApiServer => None,
            Parts::WithControllers => Some(start_controllers(dir, &kubeconfig)?),
        };
        Ok(Self { _controllers: controllers, _apiserver: apiserver, _etcd: etcd, kubeconfig, port })
    }
}

fn start_etcd(program: &Path, dir: &Path) -> Result<(Child, String), Stop> {
    let client = format!("http://127.0.0.1:{}", free_tcp()?);
    let peers = format!("http://127.0.0.1:{}", free_tcp()?);
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(dir.join("etcd"));
    command.args(["--name", "one", "--log-level", "warn"]);
    // Nothing of this has to survive a power cut.
    command.arg("--unsafe-no-fsync");
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("one={peers}")]);
    Ok((Child::start("etcd", &command, &dir.join("etcd.log"))?, client))
}

fn apiserver_command(program: &Path, dir: &Path, port: u16, store: &str) -> Command {
    let file = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
    let mut command = Command::new(program);
    command.args([
        &format!("--etcd-servers={store}"),
        &format!("--secure-port={port}"),
        "--bind-address=127.0.0.1",
        // Only published; loopback is refused.
        "--advertise-address=192.0.2.1",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--allow-privileged=true",
        &file("token-auth-file", "tokens.csv"),
        // It makes itself a certificate there, whose key is good enough for the tokens of a chore.
        &file("cert-dir", "certificates"),
        &file("service-account-key-file", "certificates/apiserver.key"),
        &file("service-account-signing-key-file", "certificates/apiserver.key"),
    ]);
    command
}

fn start_controllers(dir: &Path, kubeconfig: &Path) -> Result<Child, Stop> {
    let program = upstream::server("kube-controller-manager")?;
    let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
    let certificates = dir.join("certificates");
    let mut command = Command::new(program);
    command.args([
        &file("kubeconfig", kubeconfig),
        &file("authentication-kubeconfig", kubeconfig),
        &file("authorization-kubeconfig", kubeconfig),
        &file("root-ca-file", &certificates.join("apiserver.crt")),
        &file("service-account-private-key-file", &certificates.join("apiserver.key")),
        &file("cert-dir", &dir.join("controllers")),
        "--bind-address=127.0.0.1",
        &format!("--secure-port={}", free_tcp()?),
        "--leader-elect=false",
    ]);
    Child::start("kube-controller-manager", &command, &dir.join("kube-controller-manager.log"))
}

fn kubeconfig_text(dir: &Path, port: u16) -> String {
    let cluster = json!({
        "server": format!("https://127.0.0.1:{port}"),
        "certificate-authority": dir.join("certificates/apiserver.crt"),
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kube", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "kube", "context": {"cluster": "kube", "user": "admin"}}],
        "current-context": "kube",
    });
    format!("{config:#}\n")
}

fn write(path: &Path, text: &str) -> Result<(), Stop> {
    std::fs::write(path, text).map_err(|e| Stop(format!("cannot write {}: {e}", path.display())))
}
