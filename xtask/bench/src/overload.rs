//! P33: one user with far more clients than the hub has room for; the system's own writes and a device beside it.
//!
//! The flood is a service account of a namespace; the system's writes are those of one of `kube-system`, whose priority
//! level is another. An administrator's would prove nothing: `system:masters` is exempt.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::Stop;
use serde_json::{Value, json};

use crate::figures::{column, median, spread};
use crate::hub::{Hub, condition};
use crate::plan::Plan;
use crate::report::Report;
use crate::row::{Row, Verdict};
use crate::{load, proc};

/// At the same time, each with one request under way.
const CLIENTS: u32 = 2_000;

pub fn run(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    load::program()?;
    let hub = Hub::start(plan, "overload")?;
    let _spoke = hub.spoke(plan, "warn")?;
    let (flood, system) = (user(&hub, "flood")?, user(&hub, "kube-system")?);
    let process = hub.process.id();
    let mut rounds = Vec::new();
    for round in 0..plan.rounds {
        child::rest(Duration::from_secs(if plan.quick { 1 } else { 5 }))?;
        let idle = proc::resident(process).map_or(0, |(now, _)| now);
        proc::forget_peak(process)?;
        let mut figures = one(&hub, plan, round, &flood, &system)?;
        let peak = proc::resident(process).map_or(0, |(_, peak)| peak);
        figures["memory"] = json!(ratio(peak, idle));
        figures["idle_kib"] = json!(idle);
        println!(
            "overload, round {}: {}",
            round + 1,
            told(std::slice::from_ref(&figures)).join("; ")
        );
        rounds.push(figures);
    }
    let sum = |field: &str| column(&rounds, field).iter().sum::<f64>();
    let tail = median(&column(&rounds, "system.p99"));
    let kept =
        sum("system.failed") + sum("not_ready") + sum("flood.silent") + sum("flood.other") <= 0.0;
    let memory = column(&rounds, "memory").into_iter().fold(f64::NAN, f64::max);
    let within = |p99: f64| Verdict::of(plan, kept && memory <= 2.0 && tail <= p99);
    report.add(Row {
        id: "P33",
        what: "2,000 clients of one user that ask again at once, for a minute; system writes and a device beside them",
        measured: told(&rounds),
        gate: (
            "no heartbeat and no system write lost, their p99 ≤ 2 s; 429 with Retry-After; memory ≤ 2 × idle",
            within(2e6),
        ),
        stretch: ("p99 ≤ 0.5 s", within(5e5)),
        raw: json!(rounds),
    })
}

/// A service account of this namespace that may write `ConfigMaps` in it, as the load generator's server.
fn user(hub: &Hub, namespace: &str) -> Result<Value, Stop> {
    let server = hub.server();
    let make = |path: String, body: Value| load::request(&server, "POST", &path, &body);
    if namespace != "kube-system" {
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        make("/api/v1/namespaces".to_owned(), body)?;
    }
    let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "load"}});
    make(accounts.clone(), body)?;
    let rights = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
    let body = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "load"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "ServiceAccount", "name": "load", "namespace": namespace}],
    });
    make(rights, body)?;
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86_400},
    });
    let token = make(format!("{accounts}/load/token"), body)?;
    let mut server = server.clone();
    server["token"] = token["status"]["token"].clone();
    Ok(server)
}

fn one(hub: &Hub, plan: Plan, round: u32, flood: &Value, system: &Value) -> Result<Value, Stop> {
    let seconds = if plan.quick { 5.0 } else { 60.0 };
    let not_ready = AtomicU32::new(0);
    let order = json!({
        "do": "flood", "server": flood, "path": "/api/v1/namespaces/flood/configmaps",
        "prefix": format!("f{round}"), "connections": CLIENTS, "seconds": seconds,
    });
    // Begins when the flood stands, ends before it does.
    let writes = json!({
        "do": "create", "server": system, "path": "/api/v1/namespaces/kube-system/configmaps",
        "prefix": format!("s{round}"), "connections": 1, "seconds": seconds * 0.8, "count": 1_000_000,
    });
    let (flooded, written) = std::thread::scope(|side_by_side| {
        let flooded = side_by_side.spawn(|| load::ask(&order));
        let watched = side_by_side.spawn(|| {
            while !flooded.is_finished() {
                let node = load::request(&hub.server(), "GET", "/api/v1/nodes/bench", &Value::Null);
                if !node.is_ok_and(|node| condition(&node, "Ready")) {
                    not_ready.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            flooded.join()
        });
        let written =
            child::rest(Duration::from_secs_f64(seconds * 0.1)).and_then(|()| load::ask(&writes));
        (watched.join().and_then(|flooded| flooded), written)
    });
    let flooded = flooded.map_err(|_| Stop("the flood's thread panicked".into()))??;
    Ok(
        json!({"flood": flooded, "system": written?, "not_ready": not_ready.load(Ordering::Relaxed)}),
    )
}

fn told(rounds: &[Value]) -> Vec<String> {
    let each = |field: &str| median(&column(rounds, field));
    let sum = |field: &str| column(rounds, field).iter().sum::<f64>();
    vec![
        format!(
            "the flood, per round: {:.0} done, {:.0} told to come later, {:.0} refused without a time, {:.0} answered otherwise, {:.0} broken off",
            each("flood.done"),
            each("flood.later"),
            each("flood.silent"),
            each("flood.other"),
            each("flood.broken"),
        ),
        format!(
            "the system's writes: {:.0}/s, {}; {:.0} failed; the node was seen not Ready {:.0} times",
            each("system.per_second"),
            spread(rounds, "system."),
            sum("system.failed"),
            sum("not_ready"),
        ),
        format!("peak memory {:.2} × idle", each("memory")),
    ]
}

fn ratio(peak: u64, idle: u64) -> f64 {
    let float = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX));
    float(peak) / float(idle)
}
