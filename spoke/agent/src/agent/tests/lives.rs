//! What a pod holds on this device while it lives, and that nothing of it stays afterwards.

use freewheel_link::message::RefusalV1;
use freewheel_link::plan::PodEndedV1;

use super::*;

/// A range with one address for pods.
pub(super) fn one_address() -> Record {
    let base = [10, 64, 3, 0].into();
    record(Kind::POD_CIDR_V1, "10.64.3.0/30", &PodCidrV1 { base, prefix: 30 })
}

pub(super) fn job(name: &str) -> PodV1 {
    PodV1 { restart: RestartPolicy::Never, ..pod(name) }
}

pub(super) fn unreadable(pod: &PodV1) -> Record {
    Record { body: vec![9], ..pod_record(pod) }
}

#[tokio::test(start_paused = true)]
async fn two_pods_never_have_one_address() {
    let mut run = run(&SimDisk::default());
    run.plan(vec![one_address(), pod_record(&job("a"))], vec![]).await;
    run.world.engine.end("web", 0);
    run.rest().await;
    run.plan(vec![pod_record(&pod("b"))], vec![]).await;
    assert_eq!(run.running(), ["b web/0"], "the address of a pod that has ended is free");
    // The pod that had it first goes: it has nothing to give back any more.
    run.plan(vec![], vec![pod_record(&job("a")).key]).await;
    run.plan(vec![pod_record(&pod("c"))], vec![]).await;
    assert_eq!(run.running(), ["b web/0"], "c waits for an address of its own");
    run.plan(vec![], vec![pod_record(&pod("b")).key]).await;
    assert_eq!(run.running(), ["c web/0"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ended_shows_its_address_and_does_not_hold_it_over_a_restart() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.plan(vec![one_address(), pod_record(&job("a"))], vec![]).await;
    first.world.engine.end("web", 0);
    first.rest().await;
    first.plan(vec![pod_record(&pod("b"))], vec![]).await;
    first.end().await;
    let mut second = run(&disk);
    second.send(Input::Connected(Some(1))).await;
    assert_eq!(second.running(), ["b web/1"]);
    assert_eq!(second.said("a").unwrap().ip, second.said("b").unwrap().ip);
    second.plan(vec![], vec![pod_record(&job("a")).key]).await;
    second.plan(vec![pod_record(&pod("c"))], vec![]).await;
    assert_eq!(second.running(), ["b web/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ended_with_the_agent_does_not_hold_its_address() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.plan(vec![one_address(), pod_record(&job("a"))], vec![]).await;
    first.end().await;
    let mut second = run(&disk);
    second.send(Input::Connected(Some(1))).await;
    let ended = second.said("a").unwrap();
    assert_eq!((ended.phase, ended.ip), (PhaseV1::Failed, Some([10, 64, 3, 2].into())));
    second.plan(vec![pod_record(&pod("b"))], vec![]).await;
    assert_eq!(second.running(), ["b web/0"]);
}

/// The range that the hub has given to this device in place of the first one.
fn other_range() -> Record {
    let base = [10, 64, 9, 0].into();
    record(Kind::POD_CIDR_V1, "10.64.9.0/24", &PodCidrV1 { base, prefix: 24 })
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_address_is_another_devices_by_now_goes_on_with_a_new_one() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a")), pod_record(&job("b"))], vec![]).await;
    // Without any range there is none to move to, and nothing says whose the address is.
    run.plan(vec![], vec![range().key]).await;
    assert_eq!(run.running(), ["a web/0", "b web/0"]);
    run.plan(vec![other_range()], vec![]).await;
    assert_eq!(run.running(), ["a web/1", "b web/1"]);
    let addresses: Vec<_> =
        run.world.fabric.pods.lock().values().map(|pod| pod.ip.octets()).collect();
    assert_eq!(addresses, [[10, 64, 9, 2], [10, 64, 9, 3]]);
    assert_eq!(run.said("a").unwrap().ip, Some([10, 64, 9, 2].into()));
    let moved = run.reasons().iter().filter(|reason| *reason == "SandboxChanged").count();
    assert_eq!(moved, 2, "{:?}", run.events());
    run.plan(vec![pod_record(&pod("c"))], vec![]).await;
    assert_eq!(run.running(), ["a web/1", "b web/1", "c web/0"]);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_was_kept_over_a_restart_is_used_only_while_it_is_this_devices() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    first.plan(vec![unreadable(&pod("a"))], vec![]).await;
    first.end().await;
    // It cannot come back at once; until it can, its address is given away.
    let mut second = run(&disk);
    second.plan(vec![other_range()], vec![range().key]).await;
    second.plan(vec![pod_record(&pod("a"))], vec![]).await;
    assert_eq!(second.running(), ["a web/1"]);
    assert_eq!(second.world.fabric.pods.lock()["uid-a"].ip.octets(), [10, 64, 9, 2]);
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn modules_of_pods_that_ended_are_not_held() {
    let mut run = run(&SimDisk::default());
    let mut other = pod("other");
    other.containers[0].module = ModuleV1::Component(Digest::of(b"other"));
    run.plan(vec![range(), pod_record(&job("a")), pod_record(&other)], vec![]).await;
    assert_eq!(run.world.modules.kept.lock().len(), 2);
    let deleted = PodV1 { deleting: Some(0), ..other };
    run.plan(vec![pod_record(&deleted)], vec![]).await;
    assert_eq!(*run.world.modules.kept.lock(), [Digest::of(b"hello")], "gone, and still planned");
    run.world.engine.end("web", 0);
    run.rest().await;
    assert_eq!(*run.world.modules.kept.lock(), [], "done, and its record stays");
}

#[tokio::test(start_paused = true)]
async fn of_a_deleted_pod_nothing_stays_in_memory() {
    let (world, ports, mut queue) = FakeWorld::new(SimDisk::default(), 1_800_000_000_000);
    let config =
        Config { data: "/data".into(), node: node(), files: world.files, thresholds: vec![] };
    let mut agent = Agent::open(ports, config).unwrap();
    let mut revision = 0;
    let mut plan = |agent: &mut Agent, put, remove| {
        let base = generation(revision);
        revision += 1;
        let (to, snapshot) = (generation(revision), revision == 1);
        agent.handle(Input::Plan(PlanPart { base, to, snapshot, put, remove }));
        agent.settle();
        while let Ok(input) = queue.try_recv() {
            agent.handle(input);
            agent.settle();
        }
    };
    plan(&mut agent, vec![range(), pod_record(&pod("a"))], vec![]);
    let deleted = pod_record(&PodV1 { deleting: Some(30), ..pod("a") });
    plan(&mut agent, vec![deleted.clone()], vec![]);
    assert!(
        agent.pods.is_empty()
            && agent.turns.is_empty()
            && agent.sandboxes.pod_networks.keeps_nothing()
    );
    assert_eq!(agent.gone.len(), 1, "its UID, so that it is not taken on again");
    plan(&mut agent, vec![], vec![deleted.key]);
    assert!(agent.gone.is_empty());
    assert!(agent.ledger.pods().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_does_not_end_its_pod() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.send(Input::Connected(Some(1))).await;
    first.plan(vec![range(), pod_record(&pod("a")), pod_record(&pod("b"))], vec![]).await;
    first.plan(vec![unreadable(&pod("a"))], vec![]).await;
    assert_eq!(first.running(), ["a web/0", "b web/0"]);
    assert!(first.reasons().contains(&"UnreadableRecord".to_owned()), "{:?}", first.reasons());
    let ip = first.world.fabric.pods.lock()["uid-a"].ip;
    first.end().await;
    // Without its record it cannot run, but it keeps its place until it can be read again.
    let mut second = run(&disk);
    second.send(Input::Connected(Some(1))).await;
    assert_eq!(second.running(), ["b web/1"]);
    assert!(second.world.files.removed.lock().is_empty());
    assert_eq!(second.said("a").unwrap().reason, "UnreadableRecord");
    second.plan(vec![pod_record(&pod("a")), pod_record(&pod("c"))], vec![]).await;
    assert_eq!(second.running(), ["a web/1", "b web/1", "c web/0"]);
    assert_eq!(second.world.fabric.pods.lock()["uid-a"].ip, ip);
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_read_goes_with_its_record() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.plan(vec![one_address(), pod_record(&pod("a"))], vec![]).await;
    first.plan(vec![unreadable(&pod("a"))], vec![]).await;
    first.end().await;
    let mut second = run(&disk);
    second.send(Input::Connected(Some(1))).await;
    second.plan(vec![pod_record(&pod("b"))], vec![pod_record(&pod("a")).key]).await;
    second.plan(vec![one_address()], vec![]).await;
    assert_eq!(second.running(), ["b web/0"], "its address is free");
    let gone = Report::PodGone { realm: ClusterName::root(), uid: "uid-a".to_owned() };
    assert!(second.world.uplink.reports.lock().iter().any(|(_, report)| *report == gone));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_read_stays_as_it_was() {
    use freewheel_link::plan::ServiceV1;
    let service = ServiceV1 {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        cluster_ip: None,
        external_name: None,
        ports: vec![],
        endpoints: vec![],
        affinity_seconds: None,
    };
    let mut run = run(&SimDisk::default());
    let known = record(Kind::SERVICE_V1, "default/web", &service);
    run.plan(vec![known.clone()], vec![]).await;
    assert_eq!(run.world.fabric.services.lock().len(), 1);
    run.plan(vec![Record { body: vec![9], ..known.clone() }], vec![]).await;
    assert_eq!(run.world.fabric.services.lock().len(), 1);
    run.plan(vec![], vec![known.key]).await;
    assert_eq!(run.world.fabric.services.lock().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_protects_a_realm_and_is_not_known_here_keeps_its_pods_from_starting() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let key = RecordKey { realm: ClusterName::root(), kind: Kind(999), key: "policy".to_owned() };
    let policy = Record { key: key.clone(), revision: 1, needs: 1 << 40, body: vec![7] };
    run.plan(vec![range(), policy.clone(), pod_record(&pod("a"))], vec![]).await;
    assert_eq!(run.running(), [""; 0]);
    assert_eq!(run.said("a").unwrap().reason, "UnsupportedFeature");
    run.plan(vec![], vec![key]).await;
    assert_eq!(run.running(), ["a web/0"]);
    run.plan(vec![Record { needs: 0, ..policy }, pod_record(&pod("b"))], vec![]).await;
    assert_eq!(run.running(), ["a web/0", "b web/0"], "what needs nothing is left to newer agents");
}

#[tokio::test(start_paused = true)]
async fn a_changed_config_map_costs_the_pods_that_name_it_and_no_others() {
    use freewheel_link::plan::{ProjectedV1, VolumeSourceV1, VolumeV1};
    let shows = |name: &str, of: &str| {
        let mut pod = pod(name);
        let from = ProjectedV1 {
            kind: Kind::CONFIG_MAP_V1,
            name: of.to_owned(),
            items: vec![],
            mode: 0o644,
            optional: false,
        };
        let source = VolumeSourceV1::Config(from);
        pod.volumes = vec![VolumeV1 { name: "conf".to_owned(), source }];
        pod
    };
    let conf = |name: &str, value: &str| {
        let data = vec![("key".to_owned(), value.as_bytes().to_vec())];
        record(Kind::CONFIG_MAP_V1, &format!("default/{name}"), &ConfigV1 { data })
    };
    let mut run = run(&SimDisk::default());
    let pods = ["a", "b", "c"].map(|name| pod_record(&shows(name, &format!("of-{name}"))));
    let confs = ["a", "b", "c"].map(|name| conf(&format!("of-{name}"), "1"));
    run.plan([range()].into_iter().chain(pods).chain(confs).collect(), vec![]).await;
    assert_eq!(run.names(), ["a", "b", "c"]);
    let before = *run.world.files.written.lock();
    run.plan(vec![conf("of-b", "2")], vec![]).await;
    assert_eq!(*run.world.files.written.lock() - before, 1);
    let shown =
        run.world.files.sets.lock()[&PathBuf::from("/data/pods/uid-b/volumes/conf")].clone();
    assert_eq!(shown[0].bytes, b"2");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_runs_keeps_its_limits_and_says_so() {
    let mut run = run(&SimDisk::default());
    let mut resized = pod("a");
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&resized)], vec![]).await;
    let deferred =
        |run: &Run| run.events().iter().filter(|event| event.contains("ResizeDeferred")).count();
    resized.containers[0].memory_limit = Some(64 << 20);
    run.plan(vec![pod_record(&resized)], vec![]).await;
    assert_eq!((run.running(), deferred(&run)), (vec!["a web/0".to_owned()], 1));
    resized.labels.push(("a".into(), "b".into()));
    run.plan(vec![pod_record(&resized)], vec![]).await;
    assert_eq!(deferred(&run), 1, "nothing else was asked for");
}

/// Of a newer hub: the end of it is nothing that this agent knows.
fn unreadable_end(pod: &PodV1) -> Record {
    let mut record = pod_record(pod);
    record.body.truncate(record.body.len() - 1);
    record
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_pod_is_confirmed_also_when_its_record_cannot_be_read() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.send(Input::Connected(Some(1))).await;
    let (a, b) = (pod("a"), pod("b"));
    first.plan(vec![range(), pod_record(&a), pod_record(&b)], vec![]).await;
    let deleted = |pod: PodV1| unreadable_end(&PodV1 { deleting: Some(5), ..pod });
    let gone = |run: &Run| {
        let reports = run.world.uplink.reports.lock();
        let gone = reports.iter().filter_map(|(_, report)| match report {
            Report::PodGone { uid, .. } => Some(uid.clone()),
            _ => None,
        });
        gone.collect::<Vec<_>>()
    };
    first.plan(vec![deleted(a), unreadable_end(&b)], vec![]).await;
    assert!(first.world.engine.log().contains(&"stop web/0 5s".to_owned()));
    assert_eq!(
        (first.running(), gone(&first)),
        (vec!["b web/0".to_owned()], vec!["uid-a".to_owned()])
    );
    first.end().await;
    // One that this life has never read.
    let mut second = run(&disk);
    second.send(Input::Connected(Some(1))).await;
    second.plan(vec![deleted(b)], vec![]).await;
    assert_eq!(gone(&second).last().map(String::as_str), Some("uid-b"));
    assert!(second.world.files.removed.lock().contains(&"/data/pods/uid-b".into()));
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_ledger_left_goes_once_the_hub_has_sent_its_plan() {
    let disk = SimDisk::default();
    let mut run = run(&disk);
    let dir = |name: &str| PathBuf::from(format!("/data/pods/uid-{name}"));
    *run.world.files.left.lock() = ["a", "b", "gone"].map(|name| dir(name).join("volumes")).into();
    run.send(Input::Connected(Some(1))).await;
    assert!(run.world.files.removed.lock().is_empty(), "there is no plan yet");
    disk.set_full(true);
    let unreadable = unreadable(&pod("b"));
    run.plan(vec![range(), pod_record(&pod("a")), unreadable], vec![]).await;
    assert!(run.world.files.removed.lock().is_empty(), "it is not durable yet");
    disk.set_full(false);
    tokio::time::sleep(DISK_RETRY).await;
    run.rest().await;
    assert_eq!(*run.world.files.removed.lock(), [dir("gone")]);
    assert_eq!(run.names(), ["a"]);
    // What comes to be there later is not of a lost ledger.
    run.world.files.left.lock().insert(dir("late"));
    run.plan(vec![pod_record(&pod("c"))], vec![]).await;
    assert_eq!(*run.world.files.removed.lock(), [dir("gone")]);
    run.end().await;
}

/// The same pod, as the hub tells it once it has ended.
fn ended(mut pod: PodV1) -> PodV1 {
    let (reason, message) = ("DeadlineExceeded".to_owned(), String::new());
    pod.parts.put(&PodEndedV1 { failed: true, reason, message }).unwrap();
    pod
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_by_the_hubs_word_does_not_run_again() {
    // The ledger that knew it is gone; the log of what it has done may be there.
    for logged in [false, true] {
        known_as_ended(logged).await;
    }
}

async fn known_as_ended(logged: bool) {
    let disk = SimDisk::default();
    let mut run = run(&disk);
    for restart in [false, true] {
        if restart {
            run.end().await;
            run = self::run(&disk);
        }
        if logged {
            run.world.files.left.lock().insert(log("a", "0.log"));
        }
        run.send(Input::Connected(Some(1))).await;
        run.plan(vec![range(), pod_record(&ended(job("a"))), pod_record(&pod("b"))], vec![]).await;
        assert_eq!(run.names(), ["b"]);
        assert_eq!(run.said("a"), None, "the hub knows more of it than this device: {logged}");
        let events = run.world.uplink.reports.lock().clone();
        let about = |report: &Report| matches!(report, Report::Event(event) if event.pod == "a");
        assert!(!events.iter().any(|(_, report)| about(report)), "{events:?}");
        assert!(!run.world.fabric.pods.lock().contains_key("uid-a"));
        let removed = run.world.files.removed.lock().clone();
        assert!(removed.iter().all(|dir| !dir.ends_with("uid-a")), "its logs stay: {removed:?}");
    }
    let deleted = PodV1 { deleting: Some(30), ..ended(job("a")) };
    run.plan(vec![pod_record(&deleted)], vec![]).await;
    let gone = Report::PodGone { realm: ClusterName::root(), uid: "uid-a".to_owned() };
    assert!(run.world.uplink.reports.lock().iter().any(|(_, report)| *report == gone));
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_hub_could_not_keep_is_said_again_when_its_record_changes() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    let of_a = |run: &Run| {
        let reports = run.world.uplink.reports.lock();
        let of_a = |report: &Report| matches!(report, Report::Pod(pod) if pod.uid == "uid-a");
        let stamps = reports.iter().filter(|(_, report)| of_a(report)).map(|(stamp, _)| *stamp);
        stamps.collect::<Vec<_>>()
    };
    let said = of_a(&run);
    let why = RefusalV1::new("RequestEntityTooLarge", "with it the pod would be too large");
    let newest = run.world.uplink.reports.lock().last().unwrap().0;
    run.send(Input::ReportRefused(*said.last().unwrap(), why)).await;
    run.send(Input::ReportsTaken(newest)).await;
    // Another pod comes, and time passes.
    run.plan(vec![pod_record(&pod("b"))], vec![]).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    run.rest().await;
    assert_eq!(of_a(&run), said, "it is not said in a loop");
    let smaller = PodV1 { labels: vec![("a".to_owned(), "b".to_owned())], ..pod("a") };
    run.plan(vec![pod_record(&smaller)], vec![]).await;
    assert_eq!(of_a(&run).len(), said.len() + 1);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_makes_no_pod_older() {
    let minute = Duration::from_secs(60);
    let with_deadline = PodV1 { deadline_seconds: Some(600), ..pod("a") };
    // The clock is set in the life that has started the pod, or in the next.
    for lives in [1, 2] {
        let disk = SimDisk::default();
        let mut first = run_at(&disk, vec![], 10_000);
        first.plan(vec![range(), pod_record(&with_deadline)], vec![]).await;
        tokio::time::sleep(minute).await;
        let unset = if lives == 1 {
            first
        } else {
            first.end().await;
            run_at(&disk, vec![], 70_000)
        };
        unset.send(Input::Connected(Some(1))).await;
        unset.world.clock.set(NOW);
        unset.send(Input::Connected(Some(1))).await;
        tokio::time::sleep(minute).await;
        unset.end().await;

        let second = run_at(&disk, vec![], NOW + 120_000);
        second.send(Input::Connected(Some(1))).await;
        assert_eq!(second.names(), ["a"], "{lives}");
        let said = second.said("a").unwrap();
        assert!(NOW - 120_000 <= said.started.unwrap(), "{said:?}");
        tokio::time::sleep(9 * minute).await;
        second.rest().await;
        assert_eq!(second.said("a").unwrap().reason, "DeadlineExceeded", "{lives}");
    }
}

fn log(name: &str, file: &str) -> PathBuf {
    format!("/data/pods/uid-{name}/logs/web/{file}").into()
}

#[tokio::test(start_paused = true)]
async fn starts_are_counted_on_from_the_logs_that_a_lost_ledger_left() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    let logs = [log("a", "0.log"), log("a", "1.log"), log("b", "9.log.1"), log("job", "0.log")];
    *first.world.files.left.lock() = logs.into();
    first.send(Input::Connected(Some(1))).await;
    let records = [pod("a"), pod("b"), pod("c"), job("job")].map(|pod| pod_record(&pod));
    first.plan([range()].into_iter().chain(records).collect(), vec![]).await;
    assert_eq!(first.running(), ["a web/2", "b web/10", "c web/0"]);
    let said = first.said("a").unwrap().containers.remove(0);
    assert_eq!((said.restarts, said.last.unwrap().reason.as_str()), (2, "ContainerStatusUnknown"));
    // It may have done its work, or half of it: what runs once at most does not run again.
    assert_eq!(first.said("job").unwrap().phase, PhaseV1::Failed);
    first.end().await;
    // Power cuts take what the ledger knew of the last starts, and the logs may be there.
    let (world, ports, _queue) = FakeWorld::new(disk, NOW);
    *world.files.left.lock() = [log("a", "5.log"), log("c", "0.log")].into();
    let files = world.files.clone();
    let config = Config { data: "/data".into(), node: node(), files, thresholds: vec![] };
    Agent::open(ports, config).unwrap().settle();
    let running: Vec<_> = world.engine.running().iter().map(|start| start.id.attempt).collect();
    assert_eq!(running, [6, 11, 1], "of a, b and c");
}
