//! P20 P21 P22 P24 P32 P44 P45 P46 P47: a hub with its fleet, as simulated spokes see it (`tests/swarm`): real links and
//! agents of other processes, an engine that runs nothing. Both ends share the machine.
//!
//! ```text
//! few spokes: P46 P47 ─▶ all join: P20 ─▶ rest: P21 P44 P45 ─▶ changes: P22 P24 ─▶ pods, kill -9: P32 ─▶ twice as many …
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::Stop;
use serde_json::{Value, json};

use crate::figures::{median, time};
use crate::hub::Hub;
use crate::plan::Plan;
use crate::report::Report;
use crate::row::{Row, Verdict};
use crate::swarm_process::{self, SwarmProcess};
use crate::turns::Turns;
use crate::{load, proc};

/// The rows.
pub const IDS: [&str; 10] = ["P20", "P21", "P22", "P24", "P32", "P32N", "P44", "P45", "P46", "P47"];

/// What the gates speak of.
pub const FLEET: u32 = 10_000;
/// Of these the wire is measured spoke by spoke, before the others come.
const FEW: u32 = 50;
/// Seconds between heartbeats.
const BEAT: f64 = 10.0;
const MONTH: f64 = 30.0 * 86_400.0;
pub const SHORT: Duration = Duration::from_secs(60);

/// A hub, its spokes, and what is known of them so far.
pub struct Fleet {
    pub hub: Hub,
    pub swarm: SwarmProcess,
    pub plan: Plan,
    /// That have joined.
    pub spokes: u32,
    /// DaemonSets.
    pub daemons: u32,
    services: u32,
    /// Pods beside theirs.
    pub singles: u32,
    /// KiB of the hub without spokes.
    empty: u64,
    /// Bytes on the wire that a spoke at rest takes in a second.
    idle: f64,
}

type Step = fn(&mut Fleet) -> Result<Vec<Row>, Stop>;

const STEPS: [(&[&str], Step); 7] = [
    (&["P46", "P47"], Fleet::few),
    (&["P20"], Fleet::all),
    (&["P21", "P44", "P45"], Fleet::rest),
    (&["P22"], Fleet::changes),
    (&["P24"], Fleet::placements),
    (&["P32"], Fleet::killed),
    (&["P32N"], Fleet::largest),
];

pub fn run(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    load::program()?;
    if !plan.built {
        swarm_process::build()?;
    }
    let mut fleet = Fleet::start(plan)?;
    for (ids, step) in STEPS {
        println!("{} …", ids.join(" "));
        match step(&mut fleet) {
            Ok(rows) => rows.into_iter().try_for_each(|row| report.add(row))?,
            Err(stop) => {
                child::go_on()?;
                report.miss(ids, &stop)?;
            }
        }
    }
    Ok(())
}

impl Fleet {
    fn start(plan: Plan) -> Result<Self, Stop> {
        let hub = Hub::start(plan, "swarm")?;
        hub.push("kit")?;
        let order = hub.swarm_order("swarm")?;
        let swarm = SwarmProcess::start(&order, &[], true, &hub.dir.join("swarm.log"))?;
        child::rest(Duration::from_secs(if plan.quick { 3 } else { 30 }))?;
        let empty = pss(&hub)?;
        let (spokes, daemons, services, singles) = (0, 0, 0, 0);
        Ok(Self { hub, swarm, plan, spokes, daemons, services, singles, empty, idle: 0.0 })
    }

    pub fn tell(&mut self, line: &str) -> Result<Value, Stop> {
        self.swarm.tell(line, SHORT)
    }

    /// All that the swarm counts is told from a moment on, which ends here.
    fn counted(
        &mut self,
        doing: impl FnOnce(&mut Self) -> Result<(), Stop>,
    ) -> Result<Value, Stop> {
        self.tell("mark")?;
        doing(self)?;
        self.tell("say")
    }

    pub fn join(&mut self, count: u32) -> Result<f64, Stop> {
        let patience = Duration::from_secs(u64::from(count) / 10 + 300);
        let told = self.swarm.tell(&format!("join {count}"), patience)?;
        self.spokes += count;
        self.swarm.tell("until up within 5m", patience)?;
        Ok(number(&told, "/seconds"))
    }

    /// Bytes of this fleet on the wire beside those that it takes at rest, per spoke.
    fn beside_rest(&self, said: &Value) -> f64 {
        wire(said) / f64::from(self.spokes) - self.idle * number(said, "/seconds")
    }

    pub fn verdict(&self, holds: bool) -> Verdict {
        if self.spokes < FLEET {
            Verdict::None(format!("{} spokes; the gate is for {FLEET}", self.spokes))
        } else {
            Verdict::once(holds)
        }
    }

    pub fn request(&self, method: &str, path: &str, body: &Value) -> Result<Value, Stop> {
        load::request(&self.hub.server(), method, path, body)
    }

    /// P46 and P47, where the wire is not full of others.
    fn few(&mut self) -> Result<Vec<Row>, Stop> {
        let few = FEW.min(self.plan.spokes.0 / 2);
        self.join(few)?;
        for number in 0..few {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("single-{number}")},
                "spec": {
                    "nodeName": format!("swarm-{number}"),
                    "containers": [{"name": "main", "image": "kit:v1"}],
                },
            });
            self.request("POST", "/api/v1/namespaces/default/pods", &pod)?;
            self.singles += 1;
        }
        self.tell(&format!("until running {few} within 50s"))?;
        child::rest(Duration::from_secs(3))?;
        let long = Duration::from_secs(if self.plan.quick { 10 } else { 60 });
        let said = self.counted(|_| child::rest(long))?;
        self.idle = wire(&said) / f64::from(few) / number(&said, "/seconds");
        Ok(vec![self.one_pod()?, self.partition()?])
    }

    /// A label of each of the single pods changes: its spoke is told, and says that it holds that.
    fn one_pod(&mut self) -> Result<Row, Stop> {
        let few = self.spokes;
        let said = self.counted(|fleet| {
            let change = json!({"metadata": {"labels": {"turn": "1"}}});
            for number in 0..few {
                let path = format!("/api/v1/namespaces/default/pods/single-{number}");
                fleet.request("PATCH", &path, &change)?;
            }
            child::rest(Duration::from_secs(2))
        })?;
        if number(&said, "/plans") < f64::from(few) {
            return Err(Stop(format!("{few} pods were changed, plans taken: {}", said["plans"])));
        }
        let whole = self.beside_rest(&said);
        let part = |way: &str| number(&said, &format!("/carried/session/{way}")) / f64::from(few);
        Ok(Row {
            id: "P46",
            what: "a label of a pod changes, and its spoke is told: bytes on the wire, acknowledgement included",
            measured: vec![format!(
                "{few} spokes, one change each: {whole:.0} bytes on the wire, of which {:.0} are the plan and {:.0} the answer",
                part("down"),
                part("up")
            )],
            gate: ("≤ 1.2 KB", Verdict::once(whole <= 1200.0)),
            stretch: ("≤ 600 B", Verdict::once(whole <= 600.0)),
            raw: said,
        })
    }

    /// Nothing gets through for a while, and nothing changes: within the session, and longer than that lives.
    fn partition(&mut self) -> Result<Row, Stop> {
        self.tell("silent 100%")?;
        child::rest(Duration::from_secs(8))?;
        let short = self.counted(|fleet| {
            fleet.tell("silent 0%")?;
            child::rest(Duration::from_secs(10))
        })?;
        let mut measured = vec![format!(
            "8 s without a way: {:.0} bytes per spoke beside its heartbeats; {} new sessions",
            self.beside_rest(&short),
            short["greetings"]
        )];
        let mut long = Value::Null;
        if !self.plan.quick {
            self.tell("silent 100%")?;
            child::rest(Duration::from_secs(45))?;
            long = self.counted(|fleet| {
                fleet.tell("silent 0%")?;
                fleet.tell("until back within 55s").map(drop)
            })?;
            measured.push(format!(
                "45 s without a way, so that each makes a new session: {:.0} bytes per spoke",
                self.beside_rest(&long)
            ));
        }
        let same = short["greetings"] == 0;
        let most = self.beside_rest(&short);
        Ok(Row {
            id: "P47",
            what: "a partition without a change ends: bytes on the wire until hub and spoke agree again",
            measured,
            gate: ("≤ 2 KB, in a session that outlives it", Verdict::once(same && most <= 2048.0)),
            stretch: ("≤ 600 B", Verdict::once(same && most <= 600.0)),
            raw: json!({"short": short, "long": long}),
        })
    }

    /// P20: the others join, without pods.
    fn all(&mut self) -> Result<Vec<Row>, Stop> {
        let more = self.plan.spokes.0 - self.spokes;
        let seconds = self.join(more)?;
        child::rest(Duration::from_secs(if self.plan.quick { 5 } else { 90 }))?;
        let (whole, said) = (pss(&self.hub)?, self.tell("say")?);
        let spokes = f64::from(self.spokes);
        let each = kib(whole.saturating_sub(self.empty)) / spokes;
        Ok(vec![Row {
            id: "P20",
            what: "memory of the hub per connected spoke: connection, session and all objects of its cluster",
            measured: vec![
                format!(
                    "{spokes} spokes: {each:.1} KiB of PSS each; the hub has {:.0} MiB, {:.0} MiB without spokes",
                    kib(whole) / 1024.0,
                    kib(self.empty) / 1024.0
                ),
                format!(
                    "{:.0} joined a second; a simulated spoke takes {:.0} KiB",
                    f64::from(more) / seconds,
                    number(&said, "/memory_kib") / spokes
                ),
            ],
            gate: ("≤ 64 KiB at 10,000", self.verdict(each <= 64.0)),
            stretch: ("≤ 40 KiB", self.verdict(each <= 40.0)),
            raw: json!({"pss_kib": whole, "empty_kib": self.empty, "join_seconds": seconds, "said": said}),
        }])
    }

    /// P21, P44 and P45: nothing happens.
    fn rest(&mut self) -> Result<Vec<Row>, Stop> {
        let long = Duration::from_secs(if self.plan.quick { 10 } else { 120 });
        let both = [self.hub.process.id(), self.swarm.id()];
        let before = both.map(proc::cpu_seconds);
        let said = self.counted(|_| child::rest(long))?;
        let (spokes, seconds) = (f64::from(self.spokes), number(&said, "/seconds"));
        let [core, theirs] = [0, 1].map(|at| (proc::cpu_seconds(both[at]) - before[at]) / seconds);
        let each = wire(&said) / spokes / seconds;
        let (beat, month) = (each * BEAT, each * MONTH / 1e6);
        let row = |id, what, measured, gate, stretch| Row {
            id,
            what,
            measured: vec![measured],
            gate,
            stretch,
            raw: said.clone(),
        };
        Ok(vec![
            row(
                "P21",
                "processor time of the hub while its spokes rest, a heartbeat each 10 s",
                format!(
                    "{spokes} spokes for {seconds:.0} s: {:.1} % of a core, and {:.1} % for their own ends",
                    core * 100.0,
                    theirs * 100.0
                ),
                ("≤ 25 % of a core at 10,000", self.verdict(core <= 0.25)),
                ("≤ 6 %", self.verdict(core <= 0.06)),
            ),
            row(
                "P44",
                "bytes on the wire per heartbeat that is acknowledged, IPv4 and UDP included",
                format!("{spokes} spokes: {beat:.0} bytes, all that was carried meanwhile counted"),
                ("≤ 200 B", Verdict::once(beat <= 200.0)),
                ("≤ 150 B", Verdict::once(beat <= 150.0)),
            ),
            row(
                "P45",
                "data of an idle spoke in 30 days, a heartbeat each 10 s",
                format!("{month:.1} MB, from {seconds:.0} s of {spokes} spokes"),
                ("≤ 52 MB", Verdict::once(month <= 52.0)),
                ("≤ 39 MB", Verdict::once(month <= 39.0)),
            ),
        ])
    }

    /// A Service with a port on all nodes, from the request to the last spoke's durable word: seconds.
    pub fn one_change(&mut self) -> Result<f64, Stop> {
        self.services += 1;
        let body = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{}", self.services)},
            "spec": {"type": "NodePort", "selector": {"app": "nobody"}, "ports": [{"port": 80}]},
        });
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let made = self.request("POST", "/api/v1/namespaces/default/services", &body)?;
        let revision = made["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let told = self.tell(&format!("until held {revision} within 50s"))?;
        let last = Duration::from_micros(told["last"].as_u64().unwrap_or_default());
        child::rest(Duration::from_secs(1))?;
        Ok(last.saturating_sub(before).as_secs_f64())
    }

    /// P22.
    fn changes(&mut self) -> Result<Vec<Row>, Stop> {
        let mut times = Vec::new();
        for _ in 0..self.plan.rounds {
            times.push(self.one_change()? * 1e6);
        }
        let silent = self.tell("silent 1%")?;
        let living = self.one_change()? * 1e6;
        self.tell("silent 0%")?;
        self.swarm.tell("until up within 2m", SHORT * 3)?;
        let middle = median(&times);
        let most = times.iter().copied().fold(living, f64::max);
        Ok(vec![Row {
            id: "P22",
            what: "one change of the root that concerns all: from the request to the last spoke's durable word",
            measured: vec![
                format!(
                    "{} spokes, {} rounds: median {}, max {}",
                    self.spokes,
                    times.len(),
                    time(middle),
                    time(most)
                ),
                format!(
                    "while {} spokes are silent, of the others: {}",
                    silent["silent"],
                    time(living)
                ),
            ],
            gate: ("10,000 ≤ 1 s, also of the living", self.verdict(middle.max(living) <= 1e6)),
            stretch: ("≤ 0.4 s", self.verdict(middle.max(living) <= 4e5)),
            raw: json!({"micros": times, "while_silent": living}),
        }])
    }

    /// P24: the controller's own time for each of its turns, as the hub counts it.
    fn placements(&mut self) -> Result<Vec<Row>, Stop> {
        let binding = json!({
            "apiVersion": "cluster.open-cluster-management.io/v1beta2", "kind": "ManagedClusterSetBinding",
            "metadata": {"name": "global"}, "spec": {"clusterSet": "global"},
        });
        let at = "/apis/cluster.open-cluster-management.io";
        let own = |kind: &str| format!("{at}/v1beta1/namespaces/default/{kind}");
        self.request(
            "POST",
            &format!("{at}/v1beta2/namespaces/default/managedclustersetbindings"),
            &binding,
        )?;
        let before = self.turns()?;
        let count = if self.plan.quick { 10 } else { 100 };
        for number in 0..count {
            let labels = json!({"site": format!("s{}", number % 10)});
            let body = json!({
                "apiVersion": "cluster.open-cluster-management.io/v1beta1", "kind": "Placement",
                "metadata": {"name": format!("p{number}")},
                "spec": {"numberOfClusters": 10, "predicates": [
                    {"requiredClusterSelector": {"labelSelector": {"matchLabels": labels}}},
                ]},
            });
            self.request("POST", &own("placements"), &body)?;
        }
        child::rest(Duration::from_secs(3))?;
        let decided = self.turns()?;
        let last =
            self.request("GET", &format!("{}/p{}", own("placements"), count - 1), &Value::Null)?;
        if last["status"]["numberOfSelectedClusters"].as_u64().is_none_or(|chosen| chosen == 0) {
            return Err(Stop(format!("the last Placement chose nobody: {}", last["status"])));
        }
        let change = json!({"metadata": {"labels": {"swarm": "changed"}}});
        self.request("PATCH", &format!("{at}/v1/managedclusters/swarm-0"), &change)?;
        child::rest(Duration::from_secs(3))?;
        let changed = self.turns()?;
        let (first, again) = (decided.since(&before), changed.since(&decided));
        Ok(vec![self.placed(count, &first, &again)])
    }

    fn placed(&self, count: u32, first: &Turns, again: &Turns) -> Row {
        let (tail, second) = (first.p99(), again.mean());
        Row {
            id: "P24",
            what: "Placements with a selector over all clusters: the controller's time for a turn, its writes included",
            measured: vec![
                format!(
                    "{} clusters, {count} Placements made: {:.0} turns, mean {}, p99 ≤ {}",
                    self.spokes,
                    first.count,
                    time(first.mean() * 1e6),
                    time(tail * 1e6)
                ),
                format!(
                    "a label of one cluster changes: {:.0} turns, mean {}",
                    again.count,
                    time(second * 1e6)
                ),
            ],
            gate: (
                "10,000 clusters: p99 ≤ 50 ms; after one cluster's change ≤ 5 ms",
                self.verdict(tail <= 0.05 && (again.count <= 0.0 || second <= 0.005)),
            ),
            stretch: (
                "≤ 10 ms; ≤ 1 ms",
                self.verdict(tail <= 0.01 && (again.count <= 0.0 || second <= 0.001)),
            ),
            raw: json!({"first": first.raw(), "again": again.raw()}),
        }
    }

    fn turns(&self) -> Result<Turns, Stop> {
        let text = self.request("GET", "/metrics", &Value::Null)?;
        Ok(Turns::read(text.as_str().unwrap_or_default(), "placement-controller"))
    }
}

pub fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// Bytes that went either way.
fn wire(said: &Value) -> f64 {
    number(said, "/wire/up/bytes") + number(said, "/wire/down/bytes")
}

pub fn kib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX))
}

pub fn pss(hub: &Hub) -> Result<u64, Stop> {
    let memory = proc::memory(hub.process.id());
    memory.map(|(pss, _)| pss).ok_or_else(|| Stop("the hub has no smaps_rollup".into()))
}
