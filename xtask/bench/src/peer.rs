//! The peer of the API's gates: kube-apiserver and etcd, built from the Go module proxy once.
//!
//! TLS with client certificates and RBAC, as ours. Between kube-apiserver and etcd there is plain HTTP on loopback,
//! which favours the peer.

use std::process::Command;
use std::time::Duration;

use freewheel_xtask_kit::child::Child;
use freewheel_xtask_kit::command::Stop;
use freewheel_xtask_kit::ports::free_tcp;
use freewheel_xtask_kit::upstream;
use serde_json::{Value, json};

use crate::folders::fresh;
use crate::hub::{answers, server};
use crate::load;

const PATIENCE: Duration = Duration::from_secs(120);

/// kube-apiserver and its etcd.
pub struct Peer {
    // Dropped, and so stopped, in this order.
    pub apiserver: Child,
    pub etcd: Child,
    pub server: Value,
}

impl Peer {
    /// Builds and starts both with empty data.
    pub fn start() -> Result<Self, Stop> {
        let (etcd, apiserver) = (upstream::server("etcd")?, upstream::server("kube-apiserver")?);
        let dir = fresh("peer")?;
        load::ask(&json!({"do": "keys", "dir": dir}))?;
        let (client, peers, port) = (free_tcp()?, free_tcp()?, free_tcp()?);
        let client = format!("http://127.0.0.1:{client}");
        let peers = format!("http://127.0.0.1:{peers}");
        let mut command = Command::new(etcd);
        command.arg("--data-dir").arg(dir.join("etcd"));
        command.args(["--name", "bench", "--log-level", "warn"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("bench={peers}")]);
        let etcd = Child::start("etcd", &command, &dir.join("etcd.log"))?;
        let file = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
        let mut command = Command::new(apiserver);
        command.args([
            &format!("--etcd-servers={client}"),
            &format!("--secure-port={port}"),
            "--bind-address=127.0.0.1",
            // Only published, and not even that without the reconciler; loopback is refused.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            &file("service-account-key-file", "sa.pub"),
            &file("service-account-signing-key-file", "sa.key"),
            &file("client-ca-file", "ca.crt"),
            &file("tls-cert-file", "serving.crt"),
            &file("tls-private-key-file", "serving.key"),
            &file("cert-dir", "generated"),
        ]);
        let mut apiserver =
            Child::start("kube-apiserver", &command, &dir.join("kube-apiserver.log"))?;
        let server = server(port, &dir);
        apiserver.until("kube-apiserver answers", PATIENCE, || answers(&server, "/readyz"))?;
        Ok(Self { apiserver, etcd, server })
    }
}
