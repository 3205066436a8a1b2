//! `cargo xtask up`: one hub and some spokes on loopback, with the examples, until Ctrl-C.
//!
//! All data stays under `target/up`; a second `up` goes on from there.

mod state;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::command::{Stop, output, root, run as run_command, target};
use crate::{build_binaries, guests, kubectl};

/// What `up` can be told.
#[derive(Args)]
pub struct Options {
    /// How many spokes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    spokes: u8,
    /// Port of the Kubernetes API; the port after it takes the link
    #[arg(long, default_value_t = 6443)]
    port: u16,
    /// Stop once everything is ready instead of waiting for Ctrl-C
    #[arg(long, hide = true)]
    once: bool,
}

/// Where the example behind a NodePort is asked.
const FIRST_SPOKE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
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
            let _ = Command::new("kill").arg(child.id().to_string()).stderr(Stdio::null()).status();
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
}

/// Brings everything up and waits.
pub fn run(options: &Options) -> Result<(), Stop> {
    let (tell, stop) = mpsc::channel();
    ctrlc::set_handler(move || {
        // The receiver is gone only when we are leaving anyway.
        let _ = tell.send(());
    })
    .map_err(|e| Stop(format!("cannot listen for Ctrl-C: {e}")))?;
    free(options.port)?;
    println!("Building hub, spoke and example modules …");
    build_binaries()?;
    let modules = guests::build()?;
    let data = target().join("up");
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
    };
    let mut fleet = Fleet { children: Vec::new() };
    let no_room = || Stop("--port must leave room for the port after it".into());
    let link = options.port.checked_add(1).ok_or_else(no_room)?;
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

/// Another hub on our port would answer in our place.
fn free(port: u16) -> Result<(), Stop> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|_| ()).map_err(|e| {
        Stop(format!("port {port} on 127.0.0.1 is not free ({e}): stop what listens there, or give another with --port"))
    })
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
            (answers && demo.kubectl(&["get", "--raw", "/readyz"]).is_ok()).then_some(())
        })
    }

    fn spoke(&self, fleet: &mut Fleet, index: u8, link: u16) -> Result<(), Stop> {
        let name = format!("pi-{index}");
        let data = self.data.join(&name);
        let address = format!("127.0.0.{}", 10 + u16::from(index));
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
            let here = |name: &String| {
                state::is_ready(&nodes, name) && state::is_here(&leases, name, asked)
            };
            demo.spokes.iter().all(here).then_some(())
        })
    }

    fn pods_answer(&self, fleet: &mut Fleet) -> Result<(), Stop> {
        self.until(fleet, "all pods run and are Ready", |demo| {
            let pods = demo.objects(&["pods"])?;
            state::pods_run(&pods, &demo.spokes, demo.since).then_some(())
        })?;
        let address = SocketAddr::from((FIRST_SPOKE, NODE_PORT));
        self.until(fleet, &format!("http://{address}/ answers"), |_| {
            state::answers(address).then_some(())
        })
    }

    fn examples(&self, modules: &Path) -> Result<(), Stop> {
        for (file, image) in [
            ("hello-http", "hello-http:v1"),
            ("web-with-sidecar", "web-with-sidecar:v1"),
            ("web-content", "web-content:v1"),
            ("tcp-echo", "tcp-echo:v1"),
        ] {
            println!("Pushing {image} …");
            let path = modules.join(format!("{file}.wasm"));
            self.hub_cli(&["push", &path.to_string_lossy(), image])?;
        }
        let examples = root().join("manifests/examples");
        println!("Applying {} …", examples.display());
        run_command(
            Command::new(&self.kubectl)
                .args(["apply", "-f"])
                .arg(&examples)
                .env("KUBECONFIG", &self.kubeconfig),
        )
    }

    fn tell(&self) {
        println!("\nEverything is ready. In another terminal:\n");
        println!("  export KUBECONFIG={}\n", self.kubeconfig.display());
        println!("  kubectl get nodes -o wide          # your spokes, Ready");
        println!("  kubectl get deploy,pods,svc        # the examples, each READY n/n");
        println!(
            "  curl http://{FIRST_SPOKE}:{NODE_PORT}/      # hello from hello-http-…: a Wasm pod, through a NodePort"
        );
        println!("\nCtrl-C stops everything.");
    }

    /// Waits for a state with a bound, watching that nobody has died.
    fn until(
        &self,
        fleet: &mut Fleet,
        what: &str,
        mut reached: impl FnMut(&Self) -> Option<()>,
    ) -> Result<(), Stop> {
        let start = Instant::now();
        loop {
            if reached(self).is_some() {
                println!("  {what} ({:.1} s)", start.elapsed().as_secs_f64());
                return Ok(());
            }
            if let Some(who) = fleet.dead() {
                return Err(Stop(format!(
                    "{who} before {what}; its log is in {}",
                    self.data.display()
                )));
            }
            if PATIENCE < start.elapsed() {
                return Err(Stop(format!(
                    "waited {PATIENCE:?} until {what}; the logs are in {}",
                    self.data.display()
                )));
            }
            if self.stop.recv_timeout(Duration::from_millis(200)).is_ok() {
                return Err(Stop("stopped by Ctrl-C".into()));
            }
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String, Stop> {
        output(Command::new(&self.kubectl).args(arguments).env("KUBECONFIG", &self.kubeconfig))
    }

    /// What kubectl gets, if it gets anything.
    fn objects(&self, what: &[&str]) -> Option<Value> {
        let mut arguments = vec!["get", "-o", "json"];
        arguments.extend(what);
        serde_json::from_str(&self.kubectl(&arguments).ok()?).ok()
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
