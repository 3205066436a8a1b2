//! P32 P32N: the hub of a fleet is killed and starts again; then twice as many spokes, for as long as all is well.

use std::time::{Duration, Instant};

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::Stop;
use serde_json::{Value, json};

use crate::figures::time;
use crate::load;
use crate::row::Row;
use crate::simulated_fleet::{FLEET, Fleet, SHORT, kib, number, pss};

/// How a fleet came back after its hub was killed.
struct Back {
    ready: f64,
    /// Seconds from the kill to the last greeting, and to its acknowledgement of what was changed after that.
    greeted: f64,
    in_sync: f64,
    /// Containers that were started or have ended meanwhile, and pods that are others.
    touched: u64,
    api: Value,
    raw: Value,
}

impl Fleet {
    /// So many pods on each, all running; seconds.
    fn pods(&mut self, each: u32) -> Result<f64, Stop> {
        let start = Instant::now();
        self.hub.daemon_sets(self.daemons..each)?;
        self.daemons = self.daemons.max(each);
        let all = u64::from(self.spokes) * u64::from(self.daemons) + u64::from(self.singles);
        let patience = Duration::from_secs(all / 100 + 300);
        let line = format!("until running {all} within {}s", patience.as_secs());
        self.swarm.tell(&line, patience + SHORT)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// P32.
    pub fn killed(&mut self) -> Result<Vec<Row>, Stop> {
        let before = pss(&self.hub)?;
        let seconds = self.pods(if self.plan.quick { 2 } else { 10 })?;
        child::rest(Duration::from_secs(if self.plan.quick { 3 } else { 60 }))?;
        let pods = f64::from(self.spokes * self.daemons);
        let body = kib(pss(&self.hub)?.saturating_sub(before)) / pods;
        let back = self.kill()?;
        let tail = number(&back.api, "/p99");
        let holds = |most: f64| back.in_sync <= most && tail <= 1e6 && back.touched == 0;
        Ok(vec![Row {
            id: "P32",
            what: "kill -9 of the hub under its fleet, and a new start at once",
            measured: vec![
                format!(
                    "{pods} pods of DaemonSets were made and ran after {seconds:.0} s; {body:.1} KiB of PSS each"
                ),
                back.told(),
                format!(
                    "the API meanwhile: p99 {}, {} of {} failed",
                    time(tail),
                    back.api["failed"],
                    back.api["count"]
                ),
            ],
            gate: (
                "10,000 in sync ≤ 15 s after the kill, API p99 ≤ 1 s, no pod touched",
                self.verdict(holds(15.0)),
            ),
            stretch: ("≤ 6 s", self.verdict(holds(6.0))),
            raw: back.raw,
        }])
    }

    fn kill(&mut self) -> Result<Back, Stop> {
        let pods = self.page_of_pods()?;
        self.tell("mark")?;
        let ready = self.hub.kill_and_start()?;
        let order = json!({
            "do": "page", "server": self.hub.server(), "path": "/api/v1/namespaces/default", "connections": 1,
            "count": 1_000_000, "seconds": 12.0,
        });
        let (api, told) = std::thread::scope(|side_by_side| {
            let api = side_by_side.spawn(|| load::ask(&order));
            let told = self.swarm.tell("until back within 170s", SHORT * 3);
            (api.join(), told)
        });
        let api = api.map_err(|_| Stop("the API's thread panicked".into()))??;
        let told = told?;
        let greeted = number(&told, "/since_mark");
        // Who holds what came after the kill is in sync with the hub that has it.
        let start = number(&self.tell("say")?, "/seconds");
        let change = self.one_change()?;
        let said = self.tell("say")?;
        let after = self.page_of_pods()?;
        let others = pods.iter().filter(|pod| !after.contains(pod)).count() as u64;
        let touched = ["/starts", "/ends"]
            .map(|field| said.pointer(field).and_then(Value::as_u64).unwrap_or(1));
        let in_sync = greeted + change;
        let touched = others + touched.iter().sum::<u64>();
        let raw = json!({
            "ready": ready, "told": told, "change": change, "change_began": start, "said": said, "api": api,
            "other_pods": others,
        });
        Ok(Back { ready, greeted, in_sync, touched, api, raw })
    }

    /// Some pods: name, UID and restarts.
    fn page_of_pods(&self) -> Result<Vec<String>, Stop> {
        let path = "/api/v1/namespaces/default/pods?limit=1000";
        let page = self.request("GET", path, &Value::Null)?;
        let one = |pod: &Value| {
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            format!("{} {} {restarts}", pod["metadata"]["name"], pod["metadata"]["uid"])
        };
        Ok(page["items"].as_array().into_iter().flatten().map(one).collect())
    }

    /// How a fleet of this size has done, told at once: the next one takes its time.
    fn attempt(&self, change: f64, back: &Back, holds: bool) -> Result<String, Stop> {
        let told = format!(
            "{} spokes, {} pods each, {} MiB: a change reaches all in {}; {}; {}",
            self.spokes,
            self.daemons,
            pss(&self.hub)? / 1024,
            time(change * 1e6),
            back.told(),
            if holds { "holds" } else { "does not hold" }
        );
        println!("{told}");
        Ok(told)
    }

    /// P32N: twice as many, for as long as all is well.
    pub fn largest(&mut self) -> Result<Vec<Row>, Stop> {
        let most = self.plan.spokes.1;
        let (mut measured, mut raw, mut largest) = (Vec::new(), Vec::new(), None);
        loop {
            let change = self.one_change()?;
            let back = self.kill()?;
            let holds = change <= 1.0 && back.in_sync <= 15.0 && back.touched == 0;
            measured.push(self.attempt(change, &back, holds)?);
            raw.push(
                json!({"spokes": self.spokes, "change": change, "back": back.raw, "holds": holds}),
            );
            if !holds {
                break;
            }
            largest = Some(self.spokes);
            let next = (self.spokes * 2).min(most);
            if next <= self.spokes {
                break;
            }
            // What stops it is the answer.
            let grown = self.join(next - self.spokes).and_then(|_| self.pods(self.daemons));
            if let Err(stop) = grown {
                child::go_on()?;
                measured.push(format!("{next} spokes: {stop}"));
                break;
            }
        }
        let all = measured.len();
        measured.push(format!(
            "the largest fleet that holds, of {all} that were tried: {}",
            largest.map_or("none".to_owned(), |largest| largest.to_string())
        ));
        Ok(vec![Row {
            id: "P32N",
            what: "the largest fleet on this machine that a change reaches in 1 s and that is back in 15 s",
            measured,
            gate: ("≥ 10,000", self.verdict(largest.is_some_and(|largest| FLEET <= largest))),
            stretch: ("≥ 100,000", self.verdict(largest.is_some_and(|largest| 100_000 <= largest))),
            raw: json!(raw),
        }])
    }
}

impl Back {
    fn told(&self) -> String {
        format!(
            "hub ready {:.1} s after the kill, the last spoke greeted after {:.1} s and in sync after {:.1} s; {} pods or containers touched",
            self.ready, self.greeted, self.in_sync, self.touched
        )
    }
}
