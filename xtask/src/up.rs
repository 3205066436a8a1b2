//! `cargo xtask up`: one hub and some spokes on loopback, with the examples, until Ctrl-C.
//!
//! All data stays under `target/up`; a second `up` goes on from there.

mod state;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;
use freewheel_xtask_kit::command::{Stop, output, root, run as run_command, target};
use freewheel_xtask_kit::{binaries, guests};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::kubectl;

/// What `up` can be told.
#[derive(Args)]
pub struct Options {
    /// How many spokes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    spokes: u8,
    /// Port of the Kubernetes API; the port after it takes the link
    #[arg(long, default_value_t = 6443, value_parser = clap::value_parser!(u16).range(1..=65534))]
    port: u16,
    /// Stop once everything is ready instead of waiting for Ctrl-C
    #[arg(long, hide = true)]
    once: bool,
    /// Where the data is, beside a demo that runs
    #[arg(long, hide = true)]
    data: Option<PathBuf>,
    /// Address of the first spoke, where the example behind a NodePort is asked; the next takes the one after it
    #[arg(long, hide = true, default_value_t = Ipv4Addr::new(127, 0, 0, 11))]
    first: Ipv4Addr,
}

const NODE_PORT: u16 = 30080;

/// How long anything may take before `up` gives up and says where to look.
const PATIENCE: Duration = Duration::from_secs(120);

/// Children in the order they were started; stopped in the opposite order.
struct Fleet {
    children: Vec<(String, Child)>,
}

impl Fleet {
    fn start(&mut self, name: &str, command: &mut Command, data: &Path) -> Result<(), Stop> {
        let path = data.join(format!("{name}.log"));
        let log = File::create(&path)
            .map_err(|e| Stop(format!("cannot write {}: {e}", path.display())))?;
        let errors =
            log.try_clone().map_err(|e| Stop(format!("cannot write {}: {e}", path.display())))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|e| Stop(format!("cannot start {name}: {e}")))?;
        self.children.push((name.to_owned(), child));
        Ok(())
    }

    /// Who has ended on their own, if anybody.
    fn dead(&mut self) -> Option<String> {
        self.children.iter_mut().find_map(|(name, child)| match child.try_wait() {
            Ok(Some(status)) => Some(format!("{name} ended with {status}")),
            _ => None,
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for (name, child) in self.children.iter_mut().rev() {
            // SIGTERM lets a spoke finish its ledger; a child that is gone already needs nothing.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            let until = Instant::now() + Duration::from_secs(10);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
            if matches!(child.try_wait(), Ok(None)) {
                println!("{name} did not stop within 10 s and is killed");
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}

struct Demo {
    bin: PathBuf,
    data: PathBuf,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    stop: mpsc::Receiver<()>,
    /// What the store says of earlier lives counts for nothing.
    since: Timestamp,
    spokes: Vec<String>,
    first: Ipv4Addr,
    examples: PathBuf,
}

/// Brings everything up and waits.
pub fn run(options: &Options) -> Result<(), Stop> {
    let (tell, stop) = mpsc::channel();
    ctrlc::set_handler(move || {
        // The receiver is gone only when we are leaving anyway.
        let _ = tell.send(());
    })
    .map_err(|e| Stop(format!("cannot listen for Ctrl-C: {e}")))?;
    let link = options.port + 1;
    free(options.port, link, options.first)?;
    println!("Building hub, spoke and example modules …");
    binaries::build()?;
    let modules = guests::build()?;
    let data = options.data.clone().unwrap_or_else(|| target().join("up"));
    std::fs::create_dir_all(&data)
        .map_err(|e| Stop(format!("cannot make {}: {e}", data.display())))?;
    let demo = Demo {
        bin: target().join("debug"),
        kubeconfig: data.join("hub/admin.kubeconfig"),
        data,
        kubectl: kubectl::find()?,
        stop,
        since: Timestamp::now(),
        spokes: (1..=options.spokes).map(|index| format!("pi-{index}")).collect(),
        first: options.first,
        examples: root().join("manifests/examples"),
    };
    let mut fleet = Fleet { children: Vec::new() };
    demo.hub(&mut fleet, options.port, link)?;
    for index in 1..=options.spokes {
        demo.spoke(&mut fleet, index, link)?;
    }
    demo.nodes_ready(&mut fleet)?;
    demo.examples(&modules)?;
    demo.pods_answer(&mut fleet)?;
    demo.tell();
    if options.once {
        return Ok(());
    }
    loop {
        match demo.stop.recv_timeout(Duration::from_secs(1)) {
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Some(who) = fleet.dead() {
                    return Err(Stop(format!("{who}; its log is in {}", demo.data.display())));
                }
            }
        }
    }
    println!("\nStopping; the data stays in {} for the next time.", demo.data.display());
    Ok(())
}

/// Another hub on our ports would answer in our place. Asked before minutes of building.
fn free(port: u16, link: u16, first: Ipv4Addr) -> Result<(), Stop> {
    let taken = |at: SocketAddr, error: std::io::Error, advice: &str| {
        Stop(format!("{at} is not free ({error}): stop what listens there{advice}"))
    };
    let api = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let link = SocketAddr::from((Ipv4Addr::LOCALHOST, link));
    let door = SocketAddr::from((first, NODE_PORT));
    TcpListener::bind(api).map_err(|e| taken(api, e, ", or give another with --port"))?;
    UdpSocket::bind(link).map_err(|e| taken(link, e, ", or give another with --port"))?;
    TcpListener::bind(door).map_err(|e| taken(door, e, "; the example's NodePort is there"))?;
    Ok(())
}

impl Demo {
    fn hub(&self, fleet: &mut Fleet, port: u16, link: u16) -> Result<(), Stop> {
        println!("Starting the hub on https://127.0.0.1:{port} …");
        let mut command = Command::new(self.bin.join("hub"));
        command.args(["serve", "--data"]).arg(self.data.join("hub"));
        command.args([
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--link",
            &format!("127.0.0.1:{link}"),
        ]);
        fleet.start("hub", &mut command, &self.data)?;
        self.until(fleet, "the hub answers", |demo| {
            let answers = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            let ready = || demo.kubectl(&["get", "--raw", "/readyz"]).map(drop);
            if answers { ready().map_err(|stop| stop.0) } else { Err("nobody listens".into()) }
        })
    }

    fn spoke(&self, fleet: &mut Fleet, index: u8, link: u16) -> Result<(), Stop> {
        let name = format!("pi-{index}");
        let data = self.data.join(&name);
        let address = Ipv4Addr::from_bits(self.first.to_bits() + u32::from(index) - 1).to_string();
        println!("Starting spoke {name} on {address} …");
        let mut command = Command::new(self.bin.join("spoke"));
        if data.join("identity/cert.der").exists() {
            // It has joined before; the hub may listen on another port today.
            command
                .args(["run", "--data"])
                .arg(&data)
                .args(["--hub", &format!("127.0.0.1:{link}")]);
        } else {
            let line = self.hub_cli(&["token", "create", "--accept", "--ttl", "1h"])?;
            let words = line.lines().rfind(|line| line.contains("spoke run")).unwrap_or_default();
            let flags: Vec<&str> =
                words.split_whitespace().skip_while(|word| *word != "run").skip(1).collect();
            command
                .arg("run")
                .args(without(&flags, &["--data", "--name"]))
                .arg("--data")
                .arg(&data);
            command.args(["--name", &name]);
        }
        command.args(["--address", &address]);
        fleet.start(&name, &mut command, &self.data)
    }

    fn nodes_ready(&self, fleet: &mut Fleet) -> Result<(), Stop> {
        self.until(fleet, "all nodes are connected and Ready", |demo| {
            let nodes = demo.objects(&["nodes"])?;
            let asked = Timestamp::now();
            let leases = demo.objects(&["leases", "-n", "kube-node-lease"])?;
            let away = |name: &&String| {
                !state::is_ready(&nodes, name) || !state::is_here(&leases, name, asked)
            };
            match demo.spokes.iter().find(away) {
                Some(name) => Err(format!("{name} is not")),
                None => Ok(()),
            }
        })
    }

    fn pods_answer(&self, fleet: &mut Fleet) -> Result<(), Stop> {
        let examples = self.examples.display().to_string();
        self.until(fleet, "the pods of the examples run and are Ready", |demo| {
            let applied = demo.objects(&["-f", &examples])?;
            let pods = demo.objects(&["pods", "--all-namespaces"])?;
            state::examples_run(&applied, &pods, &demo.spokes, demo.since)
        })?;
        let address = SocketAddr::from((self.first, NODE_PORT));
        self.until(fleet, &format!("http://{address}/ answers"), |_| {
            if state::answers(address) { Ok(()) } else { Err("it does not".into()) }
        })
    }

    fn examples(&self, modules: &Path) -> Result<(), Stop> {
        let mut moved = false;
        for (file, image) in [
            ("hello-http", "hello-http:v1"),
            ("web-with-sidecar", "web-with-sidecar:v1"),
            ("web-content", "web-content:v1"),
            ("tcp-echo", "tcp-echo:v1"),
        ] {
            println!("Pushing {image} …");
            let path = modules.join(format!("{file}.wasm"));
            let told = self.hub_cli(&["push", &path.to_string_lossy(), image])?;
            // What comes after the new name is a warning: another build had the tag before.
            let warnings: Vec<&str> = told.lines().skip(1).collect();
            moved |= !warnings.is_empty();
            warnings.iter().for_each(|warning| println!("  {warning}"));
        }
        println!("Applying {} …", self.examples.display());
        let kubectl = |verb: &[&str]| {
            let mut command = Command::new(&self.kubectl);
            command.args(verb).arg(&self.examples).env("KUBECONFIG", &self.kubeconfig);
            run_command(&mut command)
        };
        kubectl(&["apply", "-f"])?;
        // A Deployment keeps the build that it was rolled out with.
        if moved { kubectl(&["rollout", "restart", "-f"]) } else { Ok(()) }
    }

    fn tell(&self) {
        println!("\nEverything is ready. In another terminal:\n");
        println!("  export KUBECONFIG={}\n", self.kubeconfig.display());
        println!("  kubectl get nodes -o wide          # your spokes, Ready");
        println!("  kubectl get deploy,pods,svc        # the examples, each READY n/n");
        println!(
            "  curl http://{}:{NODE_PORT}/      # hello from hello-http-…: a Wasm pod, through a NodePort",
            self.first
        );
        println!("\nCtrl-C stops everything.");
    }

    /// Waits for a state with a bound, watching that nobody has died; the last reason why not is told.
    fn until(
        &self,
        fleet: &mut Fleet,
        what: &str,
        mut reached: impl FnMut(&Self) -> Result<(), String>,
    ) -> Result<(), Stop> {
        let start = Instant::now();
        loop {
            let Err(why) = reached(self) else {
                println!("  {what} ({:.1} s)", start.elapsed().as_secs_f64());
                return Ok(());
            };
            // Ctrl-C reaches the children as well: asked first, it is not told as their death.
            if self.stop.recv_timeout(Duration::from_millis(200)).is_ok() {
                return Err(Stop("stopped by Ctrl-C".into()));
            }
            if let Some(who) = fleet.dead() {
                return Err(Stop(format!(
                    "{who} before {what}; its log is in {}",
                    self.data.display()
                )));
            }
            if PATIENCE < start.elapsed() {
                return Err(Stop(format!(
                    "waited {PATIENCE:?} until {what}: {why}; the logs are in {}",
                    self.data.display()
                )));
            }
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String, Stop> {
        output(Command::new(&self.kubectl).args(arguments).env("KUBECONFIG", &self.kubeconfig))
    }

    /// What kubectl gets.
    fn objects(&self, what: &[&str]) -> Result<Value, String> {
        let mut arguments = vec!["get", "-o", "json"];
        arguments.extend(what);
        let told = self.kubectl(&arguments).map_err(|stop| stop.0)?;
        serde_json::from_str(&told).map_err(|e| format!("kubectl's answer is no JSON: {e}"))
    }

    fn hub_cli(&self, arguments: &[&str]) -> Result<String, Stop> {
        output(
            Command::new(self.bin.join("hub")).args(arguments).env("KUBECONFIG", &self.kubeconfig),
        )
    }
}

/// The words without these flags and their values.
fn without<'a>(words: &[&'a str], flags: &[&str]) -> Vec<&'a str> {
    let mut out = Vec::new();
    let mut skip = false;
    for word in words {
        if skip {
            skip = false;
        } else if flags.contains(word) {
            skip = true;
        } else {
            out.push(*word);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_flags_replace_those_of_the_pasted_line() {
        let line = ["--hub", "127.0.0.1:6444", "--data", "DIR", "--token", "a.b"];
        assert_eq!(
            without(&line, &["--data", "--name"]),
            ["--hub", "127.0.0.1:6444", "--token", "a.b"]
        );
    }
}
