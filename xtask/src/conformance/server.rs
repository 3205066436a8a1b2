//! What the specs are run against: a hub of this checkout, or upstream's own control plane.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use freewheel_xtask_kit::child::Child;
use freewheel_xtask_kit::command::{Stop, output, target};
use freewheel_xtask_kit::ports::{free_tcp, free_udp};

use crate::kube::{Kube, Parts};

const PATIENCE: Duration = Duration::from_secs(120);

/// Whose API it is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Against {
    /// A hub of its own
    Hub,
    /// kube-apiserver, kube-controller-manager and etcd
    Kube,
}

/// A server that runs until it is dropped.
pub struct Server {
    pub kubeconfig: PathBuf,
    /// How many nodes it has.
    pub nodes: u8,
    _processes: Processes,
}

/// Whatever it consists of; what was started last ends first.
enum Processes {
    Hub { _spokes: Vec<Child>, _hub: Child },
    Kube(#[expect(dead_code, reason = "held until the run is over")] Kube),
}

impl Server {
    /// Starts one with empty data in `dir`.
    pub fn start(against: Against, dir: &Path, kubectl: &Path, nodes: u8) -> Result<Self, Stop> {
        match against {
            Against::Hub => Self::hub(dir, kubectl, nodes),
            Against::Kube => {
                let kube = Kube::start(dir, kubectl, Parts::WithControllers)?;
                let kubeconfig = kube.kubeconfig.clone();
                Ok(Self { kubeconfig, nodes: 0, _processes: Processes::Kube(kube) })
            }
        }
    }

    fn hub(dir: &Path, kubectl: &Path, nodes: u8) -> Result<Self, Stop> {
        let (data, program) = (dir.join("hub"), target().join("debug/hub"));
        let (api, link) = (free_tcp()?, free_udp()?);
        let mut command = Command::new(&program);
        command.args(["serve", "--data"]).arg(&data);
        command.args(["--listen", &format!("127.0.0.1:{api}")]);
        command.args(["--link", &format!("127.0.0.1:{link}")]).env("FREEWHEEL_LOG", "info");
        let mut hub = Child::start("the hub", &command, &dir.join("hub.log"))?;
        let kubeconfig = data.join("admin.kubeconfig");
        let ask = |arguments: &[&str]| {
            let mut ask = Command::new(kubectl);
            output(ask.args(arguments).arg("--kubeconfig").arg(&kubeconfig))
        };
        hub.until("the hub answers", PATIENCE, || {
            kubeconfig.exists() && ask(&["get", "--raw", "/readyz"]).is_ok()
        })?;
        let mut spokes = Vec::new();
        for number in 1..=nodes {
            let mut spoke = spoke(&program, &kubeconfig, dir, link, number)?;
            spoke.until("its node is Ready", PATIENCE, || {
                let ready = r#"-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
                ask(&["get", "node", &format!("pi-{number}"), ready]).is_ok_and(|is| is == "True")
            })?;
            spokes.push(spoke);
        }
        let processes = Processes::Hub { _spokes: spokes, _hub: hub };
        Ok(Self { kubeconfig, nodes, _processes: processes })
    }
}

/// One more device.
fn spoke(hub: &Path, kubeconfig: &Path, dir: &Path, link: u16, number: u8) -> Result<Child, Stop> {
    let line = output(
        Command::new(hub)
            .args(["token", "create", "--accept", "--ttl", "1h"])
            .env("KUBECONFIG", kubeconfig),
    )?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let flag = |flag: &str| {
        let at = words.iter().position(|word| *word == flag);
        let value = at.and_then(|at| words.get(at + 1)).copied();
        value.ok_or_else(|| Stop(format!("no {flag} in {line:?}")))
    };
    let name = format!("pi-{number}");
    let mut command = Command::new(hub.with_file_name("spoke"));
    command.args(["run", "--data"]).arg(dir.join(&name));
    command.args(["--hub", &format!("127.0.0.1:{link}"), "--name", &name]);
    command.args(["--token", flag("--token")?, "--ca-hash", flag("--ca-hash")?]);
    command.args(["--address", &format!("127.0.118.{number}")]);
    Child::start(&name, &command, &dir.join(format!("{name}.log")))
}
