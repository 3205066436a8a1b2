//! P13: a Wasm HTTP handler behind a NodePort, beside `wasmtime serve` and native servers.
//!
//! All of them answer the same text to the same driver on 32 connections. `wasmtime serve` is asked directly; it and
//! ours once with an instance per request, as both do when nothing is said, and once with instances that serve 128.
//! The native server is asked behind the same proxy, which is what the gate asks, and directly.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use freewheel_xtask_kit::child::{self, Child};
use freewheel_xtask_kit::command::{Stop, cargo, run as run_command, target};
use freewheel_xtask_kit::ports::free_tcp;
use serde_json::{Value, json};

use crate::figures::{Ratios, column, median, spread};
use crate::folders::tools;
use crate::hub::{Hub, NODE, answers};
use crate::load;
use crate::plan::Plan;
use crate::report::Report;
use crate::row::{Row, Verdict};

const VERSION: &str = "48.0.8";
const NODE_PORT: u16 = 31313;
const NODE_PORT_ONCE: u16 = 31314;
const REUSE: u16 = 128;
const CONNECTIONS: u32 = 32;
const BUILD: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    load::program()?;
    let wasmtime = wasmtime();
    let hub = Hub::start(plan, "http")?;
    let module = hub.push("hello-http")?;
    let mut spoke = hub.spoke(plan, "warn")?;
    let proxied = proxied_program(plan)?;
    apply(&hub, "hello", REUSE, NODE_PORT)?;
    apply(&hub, "hello-once", 1, NODE_PORT_ONCE)?;
    let door = |port: u16| json!({"address": format!("{NODE}:{port}")});
    let (ours, once) = (door(NODE_PORT), door(NODE_PORT_ONCE));
    spoke.until("the NodePorts answer", PATIENCE, || answers(&ours, "/") && answers(&once, "/"))?;
    let (native, _native) = native(&hub)?;
    let (proxied, _proxied) = behind_the_proxy(&hub, &proxied)?;
    let peers = wasmtime.and_then(|program| {
        let peer = |reuse| serve(&hub, &program, &module, reuse);
        Ok((peer(REUSE)?, peer(1)?))
    });
    let mut turns = Turns::default();
    for round in 1..=plan.rounds {
        turns.ours.push(turn("ours (NodePort)", round, &ours, plan)?);
        turns.ours_once.push(turn("ours, once each (NodePort)", round, &once, plan)?);
        if let Ok(((server, _), (server_once, _))) = &peers {
            turns.serve.push(turn("wasmtime serve", round, server, plan)?);
            turns.serve_once.push(turn("wasmtime serve, once each", round, server_once, plan)?);
        }
        turns.proxied.push(turn("native (NodePort)", round, &proxied, plan)?);
        turns.native.push(turn("native, direct", round, &native, plan)?);
    }
    report.add(turns.row(plan, peers.err().as_ref()))
}

/// The figures of all rounds.
#[derive(Default)]
struct Turns {
    ours: Vec<Value>,
    ours_once: Vec<Value>,
    serve: Vec<Value>,
    serve_once: Vec<Value>,
    proxied: Vec<Value>,
    native: Vec<Value>,
}

impl Turns {
    /// `missing`: why there is no `wasmtime serve`.
    fn row(&self, plan: Plan, missing: Option<&Stop>) -> Row {
        let rate = |rounds: &[Value]| column(rounds, "per_second");
        let ratio = |other: &[Value]| Ratios::of(&rate(&self.ours), &rate(other));
        let (to_serve, to_proxied) = (ratio(&self.serve), ratio(&self.proxied));
        let once = Ratios::of(&rate(&self.ours_once), &rate(&self.serve_once));
        let line = |name: &str, rounds: &[Value]| {
            format!("{name} {:>6.0}/s, {}", median(&rate(rounds)), spread(rounds, ""))
        };
        let mut measured = vec![
            line("ours, through the NodePort:        ", &self.ours),
            line("ours, an instance per request:     ", &self.ours_once),
        ];
        if missing.is_none() {
            measured.push(line("wasmtime serve, direct:            ", &self.serve));
            measured.push(line("wasmtime serve, one per request:   ", &self.serve_once));
        }
        measured.push(line("native hyper, through the NodePort:", &self.proxied));
        measured.push(line("native hyper, direct:              ", &self.native));
        measured.push(format!(
            "ratio to wasmtime serve {to_serve}, with an instance per request {once}, to native through \
             the proxy {to_proxied}, directly {}",
            ratio(&self.native)
        ));
        let verdict = |holds: bool| match missing {
            Some(stop) => Verdict::None(stop.0.clone()),
            None => Verdict::of(plan, holds),
        };
        Row {
            id: "P13",
            what: "a Wasm HTTP handler (wasi:http) through the service proxy, 32 connections",
            measured,
            gate: (
                "≥ 0.9 × wasmtime serve direct, with and without reuse; ≥ 0.4 × native hyper through the same proxy",
                verdict(0.9 <= to_serve.median().min(once.median()) && 0.4 <= to_proxied.median()),
            ),
            stretch: ("≥ 1.1 × wasmtime serve", verdict(1.1 <= to_serve.median())),
            raw: json!({
                "ours": self.ours, "ours_once": self.ours_once, "wasmtime_serve": self.serve,
                "wasmtime_serve_once": self.serve_once, "native_proxied": self.proxied, "native": self.native,
            }),
        }
    }
}

fn turn(name: &str, round: u32, server: &Value, plan: Plan) -> Result<Value, Stop> {
    let figures = load::steady(&json!({
        "do": "page", "server": server, "path": "/", "connections": CONNECTIONS, "count": 5_000_000,
        "seconds": if plan.quick { 2.0 } else { 5.0 },
    }))?;
    let rate = figures["per_second"].as_f64().unwrap_or_default();
    println!(
        "http, round {round}: {name} {rate:.0}/s, {}",
        spread(std::slice::from_ref(&figures), "")
    );
    Ok(figures)
}

fn apply(hub: &Hub, name: &str, reuse: u16, node_port: u16) -> Result<(), Stop> {
    let labels = json!({"app": name});
    let annotations = json!({"freewheel.dev/http-instance-reuse": reuse.to_string()});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": {"containers": [{
                "name": "hello", "image": "hello-http:v1", "ports": [{"containerPort": 8080}],
                "env": [{"name": "GREETING", "value": "hello"}],
            }]},
        }},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "targetPort": 8080, "nodePort": node_port}]},
    });
    let server = hub.server();
    load::request(&server, "POST", "/apis/apps/v1/namespaces/default/deployments", &deployment)?;
    load::request(&server, "POST", "/api/v1/namespaces/default/services", &service)?;
    Ok(())
}

/// A native server in the same words.
fn native(hub: &Hub) -> Result<(Value, Child), Stop> {
    let server = json!({"address": format!("127.0.0.1:{}", free_tcp()?)});
    let mut command = Command::new(load::path());
    command.arg(
        json!({"do": "serve", "address": server["address"], "body": "hello from native\n"})
            .to_string(),
    );
    let mut child = Child::start("the native server", &command, &hub.dir.join("native.log"))?;
    child.until("it answers", PATIENCE, || answers(&server, "/"))?;
    Ok((server, child))
}

/// hyper as a pod of the spoke's own network, built as the spoke that ships is.
fn proxied_program(plan: Plan) -> Result<PathBuf, Stop> {
    if !plan.built {
        let what = ["--package", "freewheel-spoke-net", "--example", "native"];
        let how = ["build", "--quiet", "--locked", "--profile", "dist"];
        run_command(cargo().args(how).args(what))?;
    }
    Ok(target().join("dist/examples/native"))
}

/// The same server behind a NodePort.
fn behind_the_proxy(hub: &Hub, program: &Path) -> Result<(Value, Child), Stop> {
    let server = json!({"address": format!("127.0.0.1:{}", free_tcp()?)});
    let mut command = Command::new(program);
    command.args([server["address"].as_str().unwrap_or_default(), "hello from native\n"]);
    let log = hub.dir.join("native-proxied.log");
    let mut child = Child::start("the native server behind the proxy", &command, &log)?;
    child.until("it answers", PATIENCE, || answers(&server, "/"))?;
    Ok((server, child))
}

/// `wasmtime serve` of the same component.
fn serve(hub: &Hub, program: &Path, module: &Path, reuse: u16) -> Result<(Value, Child), Stop> {
    let address = format!("127.0.0.1:{}", free_tcp()?);
    let server = json!({"address": address});
    let mut command = Command::new(program);
    command
        .args([
            "serve",
            "-Scli",
            // A limit of time is what turns epochs on and moves them; without one the first instance traps.
            "-Wtimeout=60s",
            &format!("--max-instance-reuse-count={reuse}"),
            "--env",
            "GREETING=hello",
            "--addr",
            &address,
        ])
        .arg(module);
    let mut child =
        Child::start("wasmtime serve", &command, &hub.dir.join(format!("wasmtime-{reuse}.log")))?;
    child.until("it answers", PATIENCE, || answers(&server, "/"))?;
    Ok((server, child))
}

/// wasmtime's own command line, built once.
fn wasmtime() -> Result<PathBuf, Stop> {
    let root = tools().join(format!("wasmtime-{VERSION}"));
    let program = root.join("bin/wasmtime");
    if program.exists() {
        return Ok(program);
    }
    println!("building wasmtime {VERSION} with cargo (some minutes, once) …");
    let mut command = Command::new("nice");
    command
        .args(["cargo", "install", "--quiet", "--locked", "--no-default-features", "--root"])
        .arg(&root);
    command.args(["--features", FEATURES, "--version", VERSION, "wasmtime-cli"]);
    command.env("CARGO_TARGET_DIR", root.join("build"));
    child::finish(&mut command, BUILD)
        .map_err(|stop| Stop(format!("peer not available: {stop}")))?;
    // Only the program is kept; if the rest stays, it merely takes room.
    let _ = std::fs::remove_dir_all(root.join("build"));
    Ok(program)
}

const FEATURES: &str = "run,serve,cranelift,component-model,component-model-async,pooling-allocator,parallel-compilation";
