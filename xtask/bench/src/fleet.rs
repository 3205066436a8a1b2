//! P20S, P22S, P23S: what spokes and pods cost the hub, of themselves: sessions over pipes in memory, in one process with the
//! hub (`hub/gateway/benches/fleet`). The rows without an S count the network and all of the hub beside it.

use freewheel_xtask_kit::command::{Stop, cargo, output};
use serde_json::{Value, json};

use crate::figures::{median, time};
use crate::plan::Plan;
use crate::report::Report;
use crate::row::{Row, Verdict};

const SESSIONS: u32 = 1000;
const SERVICES: u32 = 1000;
/// Of a ConfigMap that pods on all spokes read.
const CONFIG_BYTES: u32 = 128 << 10;
/// Of the sessions those with pods in the root.
const BUSY: u32 = 100;
const PODS: u32 = 10_000;
/// Pods that come one by one to one spoke.
const IN_A_ROW: u32 = 2000;

/// One order to the program beside the gateway.
fn ask(what: &str, first: u32, second: u32) -> Result<Value, Stop> {
    println!("{what} …");
    let (first, second) = (first.to_string(), second.to_string());
    let mut command = cargo();
    command.args(["bench", "--quiet", "--locked", "--package", "freewheel-hub-gateway"]);
    command.args(["--bench", "fleet", "--", what, &first, &second]);
    let text = output(&mut command)?;
    serde_json::from_str(&text).map_err(|e| Stop(format!("the fleet's bench said {text:?}: {e}")))
}

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or(f64::NAN)
}

pub fn run(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    let share = if plan.quick { 10 } else { 1 };
    let verdict = |holds: bool| {
        if plan.quick {
            Verdict::None("fewer of everything with --quick".into())
        } else {
            Verdict::once(holds)
        }
    };
    report.add(sessions(
        &ask("sessions", SESSIONS / share, SERVICES / share)?,
        &ask("configured", SESSIONS / share, CONFIG_BYTES)?,
        verdict,
    ))?;
    report.add(fan(ask("fan", SESSIONS / share, BUSY / share)?, verdict))?;
    report.add(pods(&ask("pods", PODS / share, IN_A_ROW / share)?, verdict))
}

fn sessions(told: &Value, configured: &Value, verdict: impl Fn(bool) -> Verdict) -> Row {
    let kib = |told: &Value| number(told, "bytes_per_session") / 1024.0;
    let (idle, reads) = (kib(told), kib(configured));
    let most = idle.max(reads);
    Row {
        id: "P20S",
        what: "an idle session at the hub, its spoke told of what all spokes are told",
        measured: vec![
            format!(
                "{} sessions, {} Services with node ports: {idle:.1} KiB of PSS each, with its Node and with the spoke's end of the pipes",
                told["spokes"], told["services"]
            ),
            format!(
                "{} sessions, each with a pod of the root that reads one ConfigMap of {:.0} KiB: {reads:.1} KiB of PSS each",
                configured["spokes"],
                number(configured, "bytes") / 1024.0
            ),
        ],
        gate: (
            "≤ 64 KiB with 1,000 Services in the root, or with a shared ConfigMap",
            verdict(most <= 64.0),
        ),
        stretch: ("≤ 40 KiB", verdict(most <= 40.0)),
        raw: json!({"services": told, "config": configured}),
    }
}

fn fan(told: Value, verdict: impl Fn(bool) -> Verdict) -> Row {
    let rounds = told["changes"].as_array().cloned().unwrap_or_default();
    let mut kinds: Vec<&str> = rounds.iter().filter_map(|round| round["what"].as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let (mut measured, mut whole) = (Vec::new(), f64::NAN);
    for what in kinds {
        let of: Vec<&Value> = rounds.iter().filter(|round| round["what"] == what).collect();
        let column = |field| of.iter().map(|round| number(round, field)).collect::<Vec<_>>();
        let (concerned, last) = (median(&column("concerned")), median(&column("last")));
        let each = median(&column("cpu")) * 1e6 / concerned.max(1.0);
        measured.push(format!(
            "{what}: concerns {concerned:.0}, wakes {:.0}; last spoke holds it after {}; {each:.0} µs CPU each, both ends",
            median(&column("woken")),
            time(last),
        ));
        if what == "a NodePort Service" {
            whole = last;
        }
    }
    let exact = rounds.iter().all(|round| round["woken"] == round["concerned"]);
    Row {
        id: "P22S",
        what: "a change of the root among 1,000 sessions, 100 of them with pods there",
        measured,
        gate: (
            "who is woken is who is concerned; all 1,000 ≤ 100 ms",
            verdict(exact && whole <= 100_000.0),
        ),
        stretch: ("all 1,000 ≤ 40 ms", verdict(exact && whole <= 40_000.0)),
        raw: told,
    }
}

fn pods(told: &Value, verdict: impl Fn(bool) -> Verdict) -> Row {
    let beside = number(told, "bytes") - number(told, "body");
    let times: Vec<f64> =
        told["times"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let tenth = times.len() / 10;
    let first = median(times.get(..tenth).unwrap_or_default());
    let last = median(times.get(times.len() - tenth..).unwrap_or_default());
    let growth = last / first;
    Row {
        id: "P23S",
        what: "a pod that is bound and told to its spoke: memory of the hub, and time of one more",
        measured: vec![
            format!(
                "{} pods: {beside:.0} bytes of PSS each beside a body of {:.0}",
                told["pods"],
                number(told, "body")
            ),
            format!(
                "one by one on one spoke, create → held: {} for the first tenth of {}, {} for the last ({growth:.2} ×)",
                time(first),
                times.len(),
                time(last)
            ),
        ],
        gate: (
            "≤ 4 KiB beside the body; the last pods take ≤ 2 × the first ones' time",
            verdict(beside <= 4096.0 && growth <= 2.0),
        ),
        stretch: ("≤ 2 KiB; ≤ 1.2 ×", verdict(beside <= 2048.0 && growth <= 1.2)),
        raw: json!({"bytes": told["bytes"], "body": told["body"], "first": first, "last": last}),
    }
}
