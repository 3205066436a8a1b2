//! Our side: a hub as a release, and a spoke as it ships, or what a swarm of simulated ones needs.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use freewheel_xtask_kit::child::{self, Child};
use freewheel_xtask_kit::command::{Stop, cargo, run, target};
use freewheel_xtask_kit::ports::{free_tcp, free_udp};
use freewheel_xtask_kit::{dist, guests};
use serde_json::{Value, json};

use crate::folders::fresh;
use crate::load;
use crate::plan::Plan;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ten devices a second join with one token, and forty with all.
const SWARM_TOKENS: usize = 8;

/// Where NodePorts of the spoke listen.
pub const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 11);

/// A running hub.
pub struct Hub {
    pub process: Child,
    pub dir: PathBuf,
    pub api: u16,
    link: u16,
}

/// How the load generator reaches a server on loopback with client certificates in `keys`.
pub fn server(port: u16, keys: &Path) -> Value {
    json!({
        "address": format!("127.0.0.1:{port}"),
        "tls": {"ca": keys.join("ca.crt"), "cert": keys.join("admin.crt"), "key": keys.join("admin.key")},
    })
}

/// Builds it as a release.
pub fn build() -> Result<(), Stop> {
    println!("building the hub (release) …");
    run(cargo().args(["build", "--quiet", "--release", "--locked", "--package", "freewheel-hub"]))
}

fn process(dir: &Path, api: u16, link: u16) -> Result<Child, Stop> {
    let mut command = Command::new(target().join("release/hub"));
    command.args(["serve", "--data"]).arg(dir.join("hub"));
    command.args(["--listen", &format!("127.0.0.1:{api}"), "--link", &format!("127.0.0.1:{link}")]);
    command.env("FREEWHEEL_LOG", "warn").env("RUST_LOG", "warn");
    Child::start("the hub", &command, &dir.join("hub.log"))
}

impl Hub {
    /// Builds and starts one with empty data.
    pub fn start(plan: Plan, name: &str) -> Result<Self, Stop> {
        if !plan.built {
            build()?;
        }
        Ok(Self::launch(fresh(name)?)?.0)
    }

    /// Starts one on the data that this folder has, and says after how many seconds it was ready.
    pub fn launch(dir: PathBuf) -> Result<(Self, f64), Stop> {
        let (api, link) = (free_tcp()?, free_udp()?);
        let start = Instant::now();
        let process = process(&dir, api, link)?;
        let mut hub = Self { process, dir, api, link };
        let seconds = hub.ready(start)?;
        Ok((hub, seconds))
    }

    /// SIGKILL, and a new start on the same data at the same ports; says how many seconds after the kill it was ready.
    pub fn kill_and_start(&mut self) -> Result<f64, Stop> {
        let start = Instant::now();
        self.process.kill();
        self.process = process(&self.dir, self.api, self.link)?;
        self.ready(start)
    }

    fn ready(&mut self, start: Instant) -> Result<f64, Stop> {
        let until = json!({
            "do": "until", "server": self.server(), "path": "/readyz", "seconds": PATIENCE.as_secs(),
        });
        let ready = load::ask(&until);
        let seconds = start.elapsed().as_secs_f64();
        // One that has ended says why.
        self.process.until("the hub answers", Duration::ZERO, || ready.is_ok())?;
        Ok(seconds)
    }

    /// Ends it and starts it again on the same data.
    pub fn again(self) -> Result<(Self, f64), Stop> {
        let Self { process, dir, .. } = self;
        drop(process);
        Self::launch(dir)
    }

    /// How it is reached.
    pub fn server(&self) -> Value {
        server(self.api, &self.dir.join("hub/pki"))
    }

    /// A verb of its command line.
    pub fn cli(&self, arguments: &[&str]) -> Result<String, Stop> {
        let mut command = Command::new(target().join("release/hub"));
        command.args(arguments).env("KUBECONFIG", self.dir.join("hub/admin.kubeconfig"));
        child::finish(&mut command, PATIENCE)
    }

    /// Where its spokes find it.
    pub fn link(&self) -> String {
        format!("127.0.0.1:{}", self.link)
    }

    /// A token that accepts whoever joins with it, and as flags of a spoke what else that takes.
    fn token(&self, more: &[&str]) -> Result<[String; 2], Stop> {
        let all = [&["token", "create", "--accept", "--ttl", "24h"][..], more].concat();
        let line = self.cli(&all)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let flag = |flag: &str| -> Result<String, Stop> {
            let at = words.iter().position(|word| *word == flag);
            let value = at.and_then(|at| words.get(at + 1));
            let value = value.map(|value| (*value).to_owned());
            value.ok_or_else(|| Stop(format!("no {flag} in {line:?}")))
        };
        Ok([flag("--token")?, flag("--ca-hash")?])
    }

    /// What a swarm of this hub is made with.
    pub fn swarm_order(&self, prefix: &str) -> Result<Value, Stop> {
        let mut tokens = Vec::new();
        let mut ca_hash = String::new();
        for _ in 0..SWARM_TOKENS {
            let [token, hash] = self.token(&["--reusable"])?;
            tokens.push(token);
            ca_hash = hash;
        }
        Ok(json!({"hub": self.link(), "ca_hash": ca_hash, "tokens": tokens, "prefix": prefix}))
    }

    /// DaemonSets with these numbers, so that each node runs a pod of each.
    pub fn daemon_sets(&self, numbers: Range<u32>) -> Result<(), Stop> {
        if numbers.is_empty() {
            return Ok(());
        }
        self.push("kit")?;
        for number in numbers {
            let labels = json!({"daemon": number.to_string()});
            let body = json!({
                "apiVersion": "apps/v1", "kind": "DaemonSet",
                "metadata": {"name": format!("daemon-{number}")},
                "spec": {"selector": {"matchLabels": labels}, "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "main", "image": "kit:v1"}]},
                }},
            });
            let path = "/apis/apps/v1/namespaces/default/daemonsets";
            load::request(&self.server(), "POST", path, &body)?;
        }
        Ok(())
    }

    /// A spoke as it ships, joined and Ready.
    pub fn spoke(&self, plan: Plan, log: &str) -> Result<Child, Stop> {
        let program = spoke_program(plan)?;
        let [token, ca_hash] = self.token(&[])?;
        let mut command = Command::new(program);
        command.args(["run", "--data"]).arg(self.dir.join("spoke"));
        command.args(["--hub", &self.link(), "--name", "bench"]);
        command.args(["--token", &token, "--ca-hash", &ca_hash]);
        command.args(["--address", &NODE.to_string()]).env("FREEWHEEL_LOG", log);
        let mut spoke = Child::start("the spoke", &command, &self.dir.join("spoke.log"))?;
        let server = self.server();
        spoke.until("its node is Ready", PATIENCE, || {
            let node = load::request(&server, "GET", "/api/v1/nodes/bench", &Value::Null);
            node.is_ok_and(|node| condition(&node, "Ready"))
        })?;
        Ok(spoke)
    }

    /// Pushes one of our guests as `NAME:v1`.
    pub fn push(&self, name: &str) -> Result<PathBuf, Stop> {
        let file = guests::build()?.join(format!("{name}.wasm"));
        self.cli(&["push", &file.to_string_lossy(), &format!("{name}:v1")])?;
        Ok(file)
    }
}

/// The spoke as it ships.
pub fn spoke_program(plan: Plan) -> Result<PathBuf, Stop> {
    if plan.built {
        return Ok(target().join("dist/spoke"));
    }
    println!("building the spoke (dist) …");
    dist::spoke()
}

/// Whether a page is answered with 200.
pub fn answers(server: &Value, path: &str) -> bool {
    let order = json!({
        "do": "page", "server": server, "path": path, "connections": 1, "count": 1, "seconds": 5.0,
    });
    load::steady(&order).is_ok_and(|figures| figures["count"] == 1)
}

/// Whether an object has this condition.
pub fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
}
