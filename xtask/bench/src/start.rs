//! P07, P40: how long a pod takes to run.
//!
//! ```text
//! create sent ─▶ answered ─▶ deployment ▶ replicaset ▶ pod ▶ scheduler ▶ gateway ─▶ assignment received ─▶ guest main runs
//!      └────────────────────────────── P40 ──────────────────────────────────────────────────────────────┘
//!                                                                                        └────── P07 ──────┘
//! ```
//!
//! The last two are debug events of the spoke (target `freewheel::start`), timed by its log with microseconds; all
//! clocks are this machine's. One Deployment of one pod at a time; the module is on the spoke. Beside it in the same
//! minutes: `runc run` of a busybox `true`, from its start to its end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use freewheel_xtask_kit::child::{self, Child};
use freewheel_xtask_kit::command::Stop;
use serde_json::{Value, json};

use crate::figures::{Ratios, median, percentiles, time};
use crate::folders::{fresh, tools};
use crate::hub::Hub;
use crate::load;
use crate::plan::Plan;
use crate::report::Report;
use crate::row::{Row, Verdict};

const CONTAINERS: usize = 20;

/// Times in microseconds, of one round or all.
#[derive(Default)]
struct Times {
    on_device: Vec<f64>,
    whole: Vec<f64>,
    after_answer: Vec<f64>,
    runc: Vec<f64>,
}

pub fn run(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    load::program()?;
    let runc = Runc::find();
    let hub = Hub::start(plan, "start")?;
    hub.push("kit")?;
    let spoke = hub.spoke(plan, "info,freewheel::start=debug")?;
    // The first start brings the module to the spoke; it is not counted.
    starts(&hub, "warm", 3)?;
    let (mut all, mut rounds, mut seen) = (Times::default(), Vec::new(), Vec::new());
    let (mut p50s, mut runc_p50s) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let answer = starts(&hub, &format!("r{round}"), if plan.quick { 20 } else { 40 })?;
        let mut times = read(&answer, &spoke)?;
        if let Ok(runc) = &runc {
            times.runc = runc.run(round)?;
        }
        println!(
            "starts, round {}: on the device p50 {}, whole way p50 {}, runc p50 {}",
            round + 1,
            time(percentiles(&times.on_device).0),
            time(percentiles(&times.whole).0),
            time(percentiles(&times.runc).0)
        );
        p50s.push(percentiles(&times.on_device).0);
        runc_p50s.push(percentiles(&times.runc).0);
        seen.push(answer["seen"].clone());
        rounds.push(json!({
            "on_device": times.on_device, "whole": times.whole, "runc": times.runc,
            "seen": answer["seen"], "accepted": answer["accepted"],
        }));
        all.on_device.extend(times.on_device);
        all.whole.extend(times.whole);
        all.after_answer.extend(times.after_answer);
        all.runc.extend(times.runc);
    }
    let ratios = Ratios::of(&p50s, &runc_p50s);
    report.add(device(plan, &all, &ratios, runc.as_ref().err(), json!(rounds)))?;
    report.add(whole(plan, &all, &seen))
}

fn told(times: &[f64]) -> String {
    let (p50, p99, max) = percentiles(times);
    format!("p50 {}, p99 {}, max {} ({} times)", time(p50), time(p99), time(max), times.len())
}

fn device(plan: Plan, all: &Times, ratios: &Ratios, no_runc: Option<&Stop>, raw: Value) -> Row {
    let (p50, p99, _) = percentiles(&all.on_device);
    let mut measured = vec![
        format!("assignment received → guest main runs: {}", told(&all.on_device)),
        "(the ledger's fsync and the pod's network are in it)".to_owned(),
    ];
    let verdict = |holds: bool| match no_runc {
        Some(stop) => Verdict::None(format!("runc: {stop}")),
        None => Verdict::of(plan, holds),
    };
    if no_runc.is_none() {
        measured.push(format!("runc run of busybox true, start to end: {}", told(&all.runc)));
        measured.push(format!("ratio to runc, p50 by round: {ratios}"));
    }
    Row {
        id: "P07",
        what: "start on the device, module cached, beside runc",
        measured,
        gate: (
            "p50 ≤ 0.5 ms, p99 ≤ 3 ms, ≤ 1/20 of runc",
            verdict(p50 <= 500.0 && p99 <= 3000.0 && ratios.median() <= 0.05),
        ),
        stretch: ("p50 ≤ 0.2 ms", verdict(p50 <= 200.0)),
        raw,
    }
}

fn whole(plan: Plan, all: &Times, seen: &[Value]) -> Row {
    let (p50, p99, _) = percentiles(&all.whole);
    let seen: Vec<f64> = seen.iter().filter_map(|round| round["p50"].as_f64()).collect();
    Row {
        id: "P40",
        what: "a Deployment of one pod: API to guest main, module cached, one spoke, an idle fleet",
        measured: vec![
            format!("create sent → guest main runs:     {}", told(&all.whole)),
            format!("create answered → guest main runs: {}", told(&all.after_answer)),
            format!("create sent → a watch shows the pod Running: p50 {}", time(median(&seen))),
        ],
        gate: (
            "p50 ≤ 20 ms, p99 ≤ 100 ms (from sent)",
            Verdict::of(plan, p50 <= 20_000.0 && p99 <= 100_000.0),
        ),
        stretch: ("p50 ≤ 5 ms", Verdict::of(plan, p50 <= 5_000.0)),
        raw: Value::Null,
    }
}

fn starts(hub: &Hub, prefix: &str, count: u32) -> Result<Value, Stop> {
    load::ask(&json!({
        "do": "starts", "server": hub.server(), "namespace": "bench", "shape": "deployment",
        "image": "kit:v1", "args": ["sleep", "600"], "prefix": prefix, "count": count,
    }))
}

/// The driver's times joined with the spoke's trace by the pod's UID.
fn read(answer: &Value, spoke: &Child) -> Result<Times, Stop> {
    let said = spoke.said();
    let mut traced: HashMap<&str, [Option<f64>; 2]> = HashMap::new();
    for line in said.lines() {
        let Some((at, which, uid)) = trace_point(line) else { continue };
        // The first of each: a pod is told of again when its status changes the record.
        let times = traced.entry(uid).or_default();
        if let Some(slot) = times.get_mut(which) {
            slot.get_or_insert(at);
        }
    }
    let mut times = Times::default();
    for pod in answer["pods"].as_array().into_iter().flatten() {
        let uid = pod["uid"].as_str().unwrap_or_default();
        let (Some([Some(received), Some(main)]), Some(sent), Some(answered)) =
            (traced.get(uid), pod["sent"].as_f64(), pod["answered"].as_f64())
        else {
            return Err(Stop(format!("the spoke has not traced the start of pod {uid}")));
        };
        times.on_device.push((main - received) * 1e6);
        times.whole.push((main - sent) * 1e6);
        times.after_answer.push((main - answered) * 1e6);
    }
    Ok(times)
}

/// Unix time, 0 for the assignment or 1 for main, the pod's UID.
fn trace_point(line: &str) -> Option<(f64, usize, &str)> {
    let (which, rest) =
        match (line.split_once("assignment received"), line.split_once("guest main runs")) {
            (Some((_, rest)), _) => (0, rest),
            (_, Some((_, rest))) => (1, rest),
            _ => return None,
        };
    let uid = rest.split_once("pod=")?.1.split_whitespace().next()?.trim_matches('"');
    Some((unix(line.split_whitespace().next()?)?, which, uid))
}

/// `2026-11-20T16:00:46.123456Z` as seconds since 1970.
fn unix(stamp: &str) -> Option<f64> {
    let (date, clock) = stamp.strip_suffix('Z')?.split_once('T')?;
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    // Days from civil, years beginning in March.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = y.div_euclid(400);
    let of_era = y - era * 400;
    let of_year = (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(
        f64::from(i32::try_from(days).ok()?) * 86_400.0 + hours * 3600.0 + minutes * 60.0 + seconds,
    )
}

/// Debian's runc and a bundle that says true.
struct Runc {
    program: PathBuf,
    dir: PathBuf,
}

impl Runc {
    fn find() -> Result<Self, Stop> {
        let program = debian("runc", &["usr/sbin/runc", "usr/bin/runc"])?;
        let busybox = debian("busybox-static", &["bin/busybox", "usr/bin/busybox"])?;
        let dir = fresh("runc")?;
        let failed = |e: std::io::Error| Stop(format!("cannot make a bundle for runc: {e}"));
        let bin = dir.join("bundle/rootfs/bin");
        std::fs::create_dir_all(&bin).map_err(failed)?;
        std::fs::copy(busybox, bin.join("true")).map_err(failed)?;
        let bundle = dir.join("bundle");
        child::finish(Command::new(&program).args(["spec", "--bundle"]).arg(&bundle), PATIENCE)?;
        let path = bundle.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let mut spec: Value =
            serde_json::from_str(&text).map_err(|e| Stop(format!("runc's spec: {e}")))?;
        spec["process"]["args"] = json!(["/bin/true"]);
        spec["process"]["terminal"] = json!(false);
        std::fs::write(&path, spec.to_string()).map_err(failed)?;
        let runc = Self { program, dir };
        runc.one("try")?;
        Ok(runc)
    }

    fn one(&self, name: &str) -> Result<f64, Stop> {
        let start = Instant::now();
        let status = Command::new(&self.program)
            .arg("--root")
            .arg(self.dir.join("root"))
            .args(["run", "--bundle"])
            .arg(self.dir.join("bundle"))
            .arg(format!("freewheel-bench-{name}"))
            .output()
            .map_err(|e| Stop(format!("cannot start runc: {e}")))?;
        let took = start.elapsed().as_secs_f64() * 1e6;
        if status.status.success() {
            Ok(took)
        } else {
            Err(Stop(format!(
                "runc cannot run here: {}",
                String::from_utf8_lossy(&status.stderr).trim()
            )))
        }
    }

    fn run(&self, round: u32) -> Result<Vec<f64>, Stop> {
        (0..CONTAINERS)
            .map(|n| {
                child::go_on()?;
                self.one(&format!("{round}-{n}"))
            })
            .collect()
    }
}

const PATIENCE: Duration = Duration::from_secs(120);

/// A program of a Debian package: installed, else unpacked below `target/tools` once.
fn debian(package: &str, places: &[&str]) -> Result<PathBuf, Stop> {
    let dir = tools().join("debian");
    let look = |root: &Path| places.iter().map(|place| root.join(place)).find(|path| path.exists());
    if let Some(found) = look(Path::new("/")).or_else(|| look(&dir)) {
        return Ok(found);
    }
    let failed =
        |stop: Stop| Stop(format!("peer not available: {package} is not installed, and {stop}"));
    std::fs::create_dir_all(&dir)
        .map_err(|e| Stop(format!("cannot make {}: {e}", dir.display())))?;
    child::finish(Command::new("apt-get").current_dir(&dir).args(["download", package]), PATIENCE)
        .map_err(failed)?;
    let files = std::fs::read_dir(&dir).map_err(|e| Stop(format!("{}: {e}", dir.display())))?;
    for file in files.flatten().map(|entry| entry.path()) {
        if file.extension().is_some_and(|ext| ext == "deb") {
            child::finish(Command::new("dpkg").arg("-x").arg(&file).arg(&dir), PATIENCE)
                .map_err(failed)?;
        }
    }
    look(&dir).ok_or_else(|| {
        Stop(format!("peer not available: {package} has no {}", places.join(" or ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_a_point_in_time() {
        let line =
            "2026-11-20T16:00:46.250000Z TRACE container{pod=web-1}: guest main runs pod=\"u-1\"";
        let (at, which, uid) = trace_point(line).unwrap();
        assert_eq!((which, uid), (1, "u-1"));
        assert!((at - 1_795_190_446.25).abs() < 1e-6, "{at}");
    }
}
