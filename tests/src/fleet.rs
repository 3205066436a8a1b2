//! One hub and its spokes as processes on loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::eventually::{eventually, eventually_or};
use crate::guests;
use crate::kubectl::Kubectl;
use crate::process::{Process, Signal};

/// How long a fleet may take to come up on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Hub and spokes; everything ends and is deleted with it.
pub struct Fleet {
    hub: Option<Process>,
    /// More words of its command line.
    hub_flags: Vec<String>,
    spokes: BTreeMap<String, (Option<Process>, Ipv4Addr)>,
    /// Words before the command line of a spoke.
    fronts: BTreeMap<String, Vec<String>>,
    api: u16,
    link: u16,
    dir: TempDir,
    net: [u8; 2],
}

impl Fleet {
    /// A hub alone, ready.
    #[must_use]
    pub fn hub() -> Self {
        Self::hub_with(&[])
    }

    /// The same with these flags for `hub serve`, in each of its lives.
    #[must_use]
    pub fn hub_with(flags: &[&str]) -> Self {
        // Every fleet of every test process has addresses of its own in 127.0.0.0/8.
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let [low, high, ..] = std::process::id().to_le_bytes();
        let net = [(high % 120) + 100, low.wrapping_add(COUNT.fetch_add(37, Ordering::Relaxed))];
        let api = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let link = UdpSocket::bind("127.0.0.1:0")
            .and_then(|s| s.local_addr())
            .expect("a free port")
            .port();
        let dir = tempfile::tempdir().expect("a folder");
        let (spokes, fronts) = (BTreeMap::new(), BTreeMap::new());
        let hub_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut fleet = Self { hub: None, hub_flags, spokes, fronts, api, link, dir, net };
        fleet.start_hub();
        fleet
    }

    /// A hub and spokes with these names, all nodes Ready.
    #[must_use]
    pub fn with(spokes: &[&str]) -> Self {
        let mut fleet = Self::hub();
        for name in spokes {
            fleet.join(name);
        }
        for name in spokes {
            fleet.node_ready(name);
        }
        fleet
    }

    /// Starts the hub (again) and waits until it is ready.
    pub fn start_hub(&mut self) {
        self.begin_hub(Command::new(guests::binary("hub")));
        eventually("the hub is ready", PATIENCE, || {
            if let Some(status) = self.hub.as_mut().and_then(Process::ended) {
                panic!("the hub ended with {status}:\n{}", self.hub_log());
            }
            if !self.kubeconfig().exists() {
                return Err("no admin.kubeconfig".into());
            }
            let said = self.kubectl().try_run(&["get", "--raw", "/readyz"]);
            if said.ok { Ok(()) } else { Err(said.err) }
        });
    }

    /// Starts the hub (again) by another program, which must become it (`exec`), and waits for nothing.
    pub fn start_hub_through(&mut self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        command.args(arguments).arg(guests::binary("hub"));
        self.begin_hub(command);
    }

    fn begin_hub(&mut self, mut command: Command) {
        command.args(["serve", "--data"]).arg(self.path("hub"));
        command.args([
            "--listen",
            &format!("127.0.0.1:{}", self.api),
            "--link",
            &format!("127.0.0.1:{}", self.link),
        ]);
        command.args(&self.hub_flags);
        self.hub = Some(Process::start(&mut command, &self.path("hub.log")));
    }

    /// SIGKILL for the hub.
    pub fn kill_hub(&mut self) {
        drop(self.hub.take());
    }

    /// A signal for the hub: how it ended.
    pub fn stop_hub_by(&mut self, signal: Signal, patience: Duration) -> ExitStatus {
        let mut hub = self.hub.take().expect("a running hub");
        hub.stop_by(signal, patience)
    }

    /// The hub's process id.
    #[must_use]
    pub fn hub_id(&self) -> u32 {
        self.hub.as_ref().expect("a running hub").id()
    }

    /// What the hub has logged.
    #[must_use]
    pub fn hub_log(&self) -> String {
        std::fs::read_to_string(self.path("hub.log")).unwrap_or_default()
    }

    /// What a spoke has logged.
    #[must_use]
    pub fn spoke_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// A new spoke joins with a token that accepts it.
    pub fn join(&mut self, name: &str) {
        let [token, ca_hash] = self.token(&["--accept"]);
        self.join_with(name, &token, &ca_hash);
    }

    /// A new spoke joins with this token, which may or may not accept it.
    pub fn join_with(&mut self, name: &str, token: &str, ca_hash: &str) {
        let number = u8::try_from(self.spokes.len() + 10).expect("fewer spokes");
        let address = Ipv4Addr::new(127, self.net[0], self.net[1], number);
        self.spokes.insert(name.to_owned(), (None, address));
        let hub = self.link_address();
        self.run_spoke(
            name,
            &["--hub", &hub, "--token", token, "--ca-hash", ca_hash, "--name", name],
        );
    }

    /// A fresh token and the CA's hash, from the line that `hub token create` prints.
    #[must_use]
    pub fn token(&self, flags: &[&str]) -> [String; 2] {
        let mut arguments = vec!["token", "create"];
        arguments.extend(flags);
        let line = self.hub_cli(&arguments);
        let words: Vec<&str> = line.split_whitespace().collect();
        ["--token", "--ca-hash"].map(|flag| {
            let at = words
                .iter()
                .position(|word| *word == flag)
                .unwrap_or_else(|| panic!("no {flag} in {line:?}"));
            words[at + 1].to_owned()
        })
    }

    /// Where spokes find the hub.
    #[must_use]
    pub fn link_address(&self) -> String {
        format!("127.0.0.1:{}", self.link)
    }

    /// Starts a spoke that has joined before.
    pub fn start_spoke(&mut self, name: &str) {
        self.run_spoke(name, &[]);
    }

    /// Starts a spoke on a folder that was copied from another one's.
    pub fn start_twin(&mut self, name: &str) {
        let number = u8::try_from(self.spokes.len() + 10).expect("fewer spokes");
        let address = Ipv4Addr::new(127, self.net[0], self.net[1], number);
        self.spokes.insert(name.to_owned(), (None, address));
        self.run_spoke(name, &[]);
    }

    /// Has this spoke started by another program, which must become it (`exec`), from its next start on.
    pub fn start_through(&mut self, name: &str, words: Vec<String>) {
        self.fronts.insert(name.to_owned(), words);
    }

    fn run_spoke(&mut self, name: &str, flags: &[&str]) {
        let spoke = guests::binary("spoke");
        let mut command = match self.fronts.get(name).map(Vec::as_slice) {
            Some([program, arguments @ ..]) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(spoke);
                command
            }
            _ => Command::new(spoke),
        };
        let address = self.address(name);
        command
            .args(["run", "--data"])
            .arg(self.path(name))
            .args(flags)
            .args(["--address", &address.to_string()]);
        let process = Process::start(&mut command, &self.path(&format!("{name}.log")));
        self.spokes.insert(name.to_owned(), (Some(process), address));
    }

    /// SIGKILL for a spoke.
    pub fn kill_spoke(&mut self, name: &str) {
        if let Some((process, _)) = self.spokes.get_mut(name) {
            drop(process.take());
        }
    }

    /// SIGTERM for a spoke.
    pub fn stop_spoke(&mut self, name: &str) {
        if let Some((Some(process), _)) = self.spokes.get_mut(name) {
            let status = process.stop(Duration::from_secs(20));
            assert!(status.success(), "{name} ended with {status}");
        }
    }

    /// A spoke's process id.
    #[must_use]
    pub fn spoke_id(&self, name: &str) -> u32 {
        self.spokes[name].0.as_ref().expect("a running spoke").id()
    }

    /// How a spoke ended, when it has.
    pub fn spoke_ended(&mut self, name: &str) -> Option<ExitStatus> {
        self.spokes.get_mut(name)?.0.as_mut()?.ended()
    }

    /// The node's own address.
    #[must_use]
    pub fn address(&self, name: &str) -> Ipv4Addr {
        self.spokes[name].1
    }

    /// A NodePort on a spoke.
    #[must_use]
    pub fn node_port(&self, name: &str, port: u16) -> SocketAddr {
        (self.address(name), port).into()
    }

    /// Waits until the node is Ready.
    pub fn node_ready(&self, name: &str) {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        eventually(&format!("node {name} is Ready"), PATIENCE, || {
            let said = self.kubectl().try_run(&["get", "node", name, "-o", path]);
            if said.out == "True" {
                Ok(())
            } else {
                Err(format!("{}{}\n{}", said.out, said.err, self.spoke_log(name)))
            }
        });
    }

    /// kubectl as the administrator of the root.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig())
    }

    /// kubectl at a spoke's own API.
    #[must_use]
    pub fn kubectl_of(&self, spoke: &str) -> Kubectl {
        self.kubectl().at(&format!("https://127.0.0.1:{}/clusters/{spoke}", self.api))
    }

    /// Port of the Kubernetes API on 127.0.0.1.
    #[must_use]
    pub fn api_port(&self) -> u16 {
        self.api
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("hub/admin.kubeconfig")
    }

    /// A verb of the hub's command line; it must succeed.
    #[track_caller]
    pub fn hub_cli(&self, arguments: &[&str]) -> String {
        let output = self.try_hub_cli(arguments);
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "hub {arguments:?} failed:\n{out}{err}");
        out.into_owned()
    }

    /// A verb of the hub's command line.
    #[must_use]
    pub fn try_hub_cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(guests::binary("hub"));
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .output()
            .expect("the hub's command line")
    }

    /// Pushes a guest under a name.
    #[track_caller]
    pub fn push(&self, guest: &str, image: &str) {
        let _ = self.hub_cli(&["push", &guests::path(guest).to_string_lossy(), image]);
    }

    /// Waits until all pods with this label are Ready and there are that many.
    #[track_caller]
    pub fn pods_ready(&self, kubectl: &Kubectl, label: &str, count: usize) {
        let path = "{range .items[*]}{.metadata.deletionTimestamp}{.status.conditions[?(@.type==\"Ready\")].status} {end}";
        let look = || {
            let said =
                kubectl.try_run(&["get", "pods", "-l", label, "-o", &format!("jsonpath={path}")]);
            let states: Vec<&str> = said.out.split_whitespace().collect();
            if states.len() == count && states.iter().all(|state| *state == "True") {
                return Ok(());
            }
            Err(format!("{states:?}\n{}", said.err))
        };
        eventually_or(&format!("{count} pods {label} are Ready"), PATIENCE, look, || {
            let pods = kubectl.try_run(&["describe", "pods", "-l", label]);
            format!("{}{}", pods.out, pods.err)
        });
    }

    /// A file of this fleet.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn folder(&self) -> &Path {
        self.dir.path()
    }
}
