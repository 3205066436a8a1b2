//! The agent between a plan and an engine that runs nothing.

use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use freewheel_link::part::Parts;
use freewheel_link::plan::{
    ConfigV1, ContainerV1, EnvFromV1, HttpV1, Kind, ModuleV1, PodCidrV1, PodV1, Record, RecordKey,
    RestartPolicy,
};
use freewheel_link::report::{PhaseV1, PodStatusV1, Report};
use tokio::task::JoinHandle;

use super::persist::{DISK_RETRY, SYNC_WITHIN};
use super::*;
use crate::fake::{FakeWorld, SimDisk, node};
use crate::ports::{ContainerId, PlanPart};

mod admits;
mod farewells;
mod instances;
mod lives;
mod mounts;
mod needs;
mod node_ports;
mod power_cuts;
mod pressure;
mod probes;
mod pulls;
mod recovery;
mod spans;
mod starts;
mod storage;
mod waits;

fn record<B: serde::Serialize>(kind: Kind, key: &str, body: &B) -> Record {
    let key = RecordKey { realm: ClusterName::root(), kind, key: key.to_owned() };
    Record::new(key, 1, 0, body).unwrap()
}

fn pod(name: &str) -> PodV1 {
    PodV1 {
        uid: format!("uid-{name}"),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        node: "pi-7".to_owned(),
        labels: vec![],
        annotations: vec![],
        service_account: "default".to_owned(),
        hostname: name.to_owned(),
        subdomain: String::new(),
        restart: RestartPolicy::Always,
        priority: 0,
        grace_seconds: 30,
        deadline_seconds: None,
        deleting: None,
        service_links: true,
        host_aliases: vec![],
        init: vec![],
        containers: vec![ContainerV1 {
            name: "web".to_owned(),
            image: "hello:1".to_owned(),
            module: ModuleV1::Component(Digest::of(b"hello")),
            args: vec![],
            env_from: vec![],
            env: vec![],
            ports: vec![],
            mounts: vec![],
            memory_limit: None,
            cpu_limit_milli: None,
            requests: (None, None),
            sidecar: false,
            working_dir: String::new(),
            http: HttpV1::default(),
        }],
        volumes: vec![],
        parts: Parts::default(),
    }
}

fn pod_record(pod: &PodV1) -> Record {
    record(Kind::POD_V1, &pod.uid, pod)
}

fn range() -> Record {
    let base = [10, 64, 3, 0].into();
    record(Kind::POD_CIDR_V1, "10.64.3.0/24", &PodCidrV1 { base, prefix: 24 })
}

fn generation(revision: u64) -> Generation {
    Generation { incarnation: 1, revision }
}

/// One life of an agent.
struct Run {
    world: FakeWorld,
    stop: CancellationToken,
    task: JoinHandle<()>,
    revision: u64,
}

fn run(disk: &SimDisk) -> Run {
    let defaults = crate::eviction::defaults().into_iter();
    run_with(disk, defaults.chain([crate::eviction::of_guests()]).collect())
}

fn run_with(disk: &SimDisk, thresholds: Vec<crate::eviction::Threshold>) -> Run {
    run_at(disk, thresholds, NOW)
}

async fn seconds(run: &Run, seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    run.rest().await;
}

/// By the wall clock.
const NOW: u64 = 1_800_000_000_000;

fn run_at(disk: &SimDisk, thresholds: Vec<crate::eviction::Threshold>, unix_ms: u64) -> Run {
    run_on(node(), disk, thresholds, unix_ms)
}

/// On this device.
fn run_on(
    node: NodeStatusV1,
    disk: &SimDisk,
    thresholds: Vec<crate::eviction::Threshold>,
    unix_ms: u64,
) -> Run {
    let (world, ports, queue) = FakeWorld::new(disk.clone(), unix_ms);
    let config = Config { data: "/data".into(), node, files: world.files.clone(), thresholds };
    let agent = Agent::open(ports, config).unwrap();
    let revision = agent.held().0.revision;
    let stop = CancellationToken::new();
    let task = tokio::spawn(agent.run(queue, stop.clone()));
    Run { world, stop, task, revision }
}

impl Run {
    async fn send(&self, input: Input) {
        self.world.inputs.send(input).await.unwrap();
        self.rest().await;
    }

    /// Lets the agent come to rest; time is paused, so this costs none.
    async fn rest(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    async fn plan(&mut self, put: Vec<Record>, remove: Vec<RecordKey>) {
        let base = generation(self.revision);
        self.revision += 1;
        let snapshot = self.revision == 1;
        let to = generation(self.revision);
        self.send(Input::Plan(PlanPart { base, to, snapshot, put, remove })).await;
    }

    fn running(&self) -> Vec<String> {
        let all = self.world.engine.running();
        all.iter().map(|s| format!("{} {}/{}", s.pod_name, s.id.container, s.id.attempt)).collect()
    }

    /// Names of pods that run, in order.
    fn names(&self) -> Vec<String> {
        self.world.engine.running().iter().map(|start| start.pod_name.clone()).collect()
    }

    /// The newest word about a pod.
    fn said(&self, name: &str) -> Option<PodStatusV1> {
        self.world.uplink.reports.lock().iter().rev().find_map(|(_, report)| match report {
            Report::Pod(status) if status.name == name => Some(status.clone()),
            _ => None,
        })
    }

    fn reasons(&self) -> Vec<String> {
        let reports = self.world.uplink.reports.lock();
        let reason = |report: &Report| match report {
            Report::Event(event) => Some(event.reason.clone()),
            _ => None,
        };
        reports.iter().filter_map(|(_, report)| reason(report)).collect()
    }

    /// Events as (type, reason, message).
    fn events(&self) -> Vec<String> {
        let reports = self.world.uplink.reports.lock();
        let text = |report: &Report| match report {
            Report::Event(event) => {
                let severity = if event.warning { "Warning" } else { "Normal" };
                Some(format!("{severity} {}: {}", event.reason, event.message))
            }
            _ => None,
        };
        reports.iter().filter_map(|(_, report)| text(report)).collect()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_planned_pod_runs_and_is_reported_and_acknowledged() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    assert_eq!(run.running(), ["a web/0"]);
    let said = run.said("a").unwrap();
    assert_eq!(said.phase, PhaseV1::Running);
    assert_eq!(said.ip, Some([10, 64, 3, 2].into()));
    assert_eq!(run.reasons(), ["Pulled", "Created", "Started"]);
    assert_eq!(run.world.uplink.took.lock().last().unwrap().0, generation(1));
    assert_eq!(run.world.fabric.pods.lock()["uid-a"].ip, said.ip.unwrap());
    assert_eq!(*run.world.modules.kept.lock(), [Digest::of(b"hello")]);
}

#[tokio::test(start_paused = true)]
async fn after_a_power_cut_and_without_a_hub_the_same_pods_come_back() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.plan(vec![range(), pod_record(&pod("a")), pod_record(&pod("b"))], vec![]).await;
    first.world.engine.end("web", 1);
    tokio::time::sleep(SYNC_WITHIN * 2).await;
    let mut before: Vec<_> = first.running();
    before.sort();
    assert_eq!(before, ["a web/1", "b web/0"]);
    let ip = first.world.fabric.pods.lock()["uid-b"].ip;
    first.task.abort();
    disk.cut_power(&mut fastrand::Rng::with_seed(1));

    let second = run(&disk);
    second.rest().await;
    let mut after = second.running();
    after.sort();
    assert_eq!(after, ["a web/2", "b web/1"], "as after a reboot of a node");
    assert_eq!(second.world.fabric.pods.lock()["uid-b"].ip, ip);
    // The hub returns: everything is said, nothing is replaced.
    second.send(Input::Connected(Some(1))).await;
    assert_eq!(second.said("a").unwrap().containers[0].restarts, 2);
    assert_eq!(second.world.uplink.took.lock().last().unwrap().0, generation(1));
    assert!(second.world.uplink.reports.lock().iter().all(|(stamp, _)| stamp.boot_epoch == 2));
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_said_to_be_gone_and_not_taken_on_again() {
    let disk = SimDisk::default();
    let mut run = run(&disk);
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    let deleted = PodV1 { deleting: Some(7), ..pod("a") };
    run.plan(vec![pod_record(&deleted)], vec![]).await;
    let log = run.world.engine.log();
    assert_eq!(log, ["start web/0", "stop web/0 7s", "forget uid-a"]);
    assert!(run.world.fabric.pods.lock().is_empty());
    // The hub was away: it hears of it when it comes.
    run.send(Input::Connected(Some(1))).await;
    let gone = Report::PodGone { realm: ClusterName::root(), uid: "uid-a".to_owned() };
    let count = |run: &Run| {
        run.world.uplink.reports.lock().iter().filter(|(_, report)| *report == gone).count()
    };
    assert_eq!(count(&run), 1);
    run.send(Input::Connected(Some(1))).await;
    assert_eq!(count(&run), 2, "until it is taken");
    let last = run.world.uplink.reports.lock().last().unwrap().0;
    run.send(Input::ReportsTaken(last)).await;
    run.send(Input::Connected(Some(1))).await;
    assert_eq!(count(&run), 2);
    // Labels change while the plan still has it: nothing starts.
    let touched = PodV1 { labels: vec![("a".to_owned(), "b".to_owned())], ..deleted.clone() };
    run.plan(vec![pod_record(&touched)], vec![]).await;
    assert_eq!(run.running(), [""; 0]);
    run.plan(vec![], vec![pod_record(&deleted).key]).await;
    run.end().await;
    let next = self::run(&disk);
    next.rest().await;
    assert_eq!(next.running(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_stops_what_it_does_not_name() {
    let mut run = run(&SimDisk::default());
    run.plan(vec![range(), pod_record(&pod("a")), pod_record(&pod("b"))], vec![]).await;
    let part = PlanPart {
        base: Generation::NONE,
        to: Generation { incarnation: 2, revision: 1 },
        snapshot: true,
        put: vec![range(), pod_record(&pod("b"))],
        remove: vec![],
    };
    run.send(Input::Plan(part)).await;
    assert_eq!(run.running(), ["b web/0"], "and b was not touched");
}

#[tokio::test(start_paused = true)]
async fn a_plan_on_another_base_is_answered_with_what_is_held() {
    let mut run = run(&SimDisk::default());
    run.plan(vec![range()], vec![]).await;
    let part = PlanPart {
        base: generation(77),
        to: generation(78),
        snapshot: false,
        put: vec![pod_record(&pod("a"))],
        remove: vec![],
    };
    run.send(Input::Plan(part)).await;
    assert_eq!(run.running(), [""; 0]);
    assert_eq!(run.world.uplink.took.lock().last().unwrap().0, generation(1));
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_not_acknowledged_while_the_disk_is_full() {
    let disk = SimDisk::default();
    let mut run = run(&disk);
    run.plan(vec![range()], vec![]).await;
    disk.set_full(true);
    run.plan(vec![pod_record(&pod("a"))], vec![]).await;
    assert_eq!(run.running(), ["a web/0"], "the pod need not wait for the disk");
    assert_eq!(run.world.uplink.took.lock().last().unwrap().0, generation(1));
    disk.set_full(false);
    tokio::time::sleep(DISK_RETRY * 2).await;
    assert_eq!(run.world.uplink.took.lock().last().unwrap().0, generation(2));
}

#[tokio::test(start_paused = true)]
async fn missing_configuration_is_named_and_waited_for() {
    let mut run = run(&SimDisk::default());
    let mut pod = pod("a");
    pod.containers[0].env_from = vec![EnvFromV1 {
        kind: Kind::CONFIG_MAP_V1,
        name: "conf".to_owned(),
        prefix: String::new(),
        optional: false,
    }];
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod)], vec![]).await;
    let waiting = |run: &Run| format!("{:?}", run.said("a").unwrap().containers[0].state);
    assert!(waiting(&run).contains("CreateContainerConfigError"), "{}", waiting(&run));
    assert!(waiting(&run).contains("configmap \\\"conf\\\" not found"), "{}", waiting(&run));
    let data = vec![("K".to_owned(), b"v".to_vec())];
    let conf = record(Kind::CONFIG_MAP_V1, "default/conf", &ConfigV1 { data });
    run.plan(vec![conf], vec![]).await;
    assert_eq!(run.running(), ["a web/0"]);
    let env = &run.world.engine.running()[0].env;
    assert!(env.contains(&("K".to_owned(), "v".to_owned())), "{env:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_an_address() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![pod_record(&pod("a"))], vec![]).await;
    assert_eq!(run.running(), [""; 0]);
    assert_eq!(run.reasons(), ["FailedCreatePodSandBox"]);
    run.plan(vec![range()], vec![]).await;
    assert_eq!(run.running(), ["a web/0"]);
}

#[tokio::test(start_paused = true)]
async fn records_that_cannot_be_understood_disturb_nothing() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let key = |kind, key: &str| RecordKey { realm: ClusterName::root(), kind, key: key.to_owned() };
    let odd =
        |kind, name: &str| Record { key: key(kind, name), revision: 1, needs: 0, body: vec![9] };
    let mut needy = pod_record(&pod("needy"));
    needy.needs = 1 << 50;
    let mut escaping = pod("x");
    escaping.uid = "../../etc".to_owned();
    run.plan(
        vec![
            range(),
            odd(Kind::POD_V1, "uid-odd"),
            odd(Kind(999), "future"),
            odd(Kind::SERVICE_V1, "noslash"),
            needy,
            pod_record(&escaping),
            pod_record(&pod("a")),
        ],
        vec![],
    )
    .await;
    assert_eq!(run.running(), ["a web/0"]);
    assert_eq!(run.said("needy").unwrap().reason, "UnsupportedFeature");
    assert_eq!(run.said("x").unwrap().reason, "InvalidPod");
    let told = run.events();
    assert!(told.iter().any(|event| event.starts_with("Warning InvalidPod: ")), "{told:?}");
    assert!(told.iter().any(|event| event.starts_with("Warning UnsupportedFeature: ")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn crash_loops_are_timed_by_the_agent_itself() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    for _ in 0..2 {
        run.world.engine.end("web", 1);
        run.rest().await;
    }
    assert_eq!(run.running(), [""; 0]);
    assert!(run.reasons().contains(&"BackOff".to_owned()));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(run.running(), [""; 0]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    run.rest().await;
    assert_eq!(run.running(), ["a web/2"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_image_is_told_once_and_starts_when_it_is_pushed() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let mut missing = pod("a");
    missing.containers[0].module = ModuleV1::Missing("ErrImagePull".into(), "not there".into());
    run.plan(vec![range(), pod_record(&missing)], vec![]).await;
    let failed = [
        "Warning Failed: Failed to pull image \"hello:1\": not there",
        "Warning Failed: Error: ErrImagePull",
    ];
    assert_eq!(run.events(), failed);
    // The same record again says nothing new, and the back-off comes once.
    missing.labels = vec![("a".into(), "b".into())];
    run.plan(vec![pod_record(&missing)], vec![]).await;
    assert_eq!(run.events(), failed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    run.rest().await;
    assert_eq!(
        run.events()[2..],
        ["Normal BackOff: Back-off pulling image \"hello:1\": not there"]
    );
    run.plan(vec![pod_record(&pod("a"))], vec![]).await;
    assert_eq!(run.running(), ["a web/0"]);
}

#[tokio::test(start_paused = true)]
async fn no_two_events_have_one_time() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    let reports = run.world.uplink.reports.lock().clone();
    let times: Vec<u64> = reports
        .iter()
        .filter_map(|(_, report)| match report {
            Report::Event(event) => Some(event.at),
            _ => None,
        })
        .collect();
    assert_eq!(times.len(), 3);
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}
