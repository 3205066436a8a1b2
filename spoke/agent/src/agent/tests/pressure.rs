//! What a device does that is short of memory or disk.

use super::*;
use crate::eviction::{Left, Observed, Signal};

fn left(signal: Signal, available: u64) -> Input {
    let left = Left { available, capacity: 100 << 30 };
    Input::Signals(Observed::from([(signal, left)]))
}

fn asking(name: &str, memory: u64) -> PodV1 {
    let mut pod = pod(name);
    pod.containers[0].requests = (Some(memory), None);
    pod
}

impl Run {
    fn has(&self, name: &str, bytes: u64) {
        self.world.engine.memory.lock().insert(format!("uid-{name}"), bytes);
    }

    /// The node's conditions as the hub was told last.
    fn pressure(&self) -> Vec<String> {
        let reports = self.world.uplink.reports.lock();
        let node = reports.iter().rev().find_map(|(_, report)| match report {
            Report::Node(node) => Some(node.pressure.clone()),
            _ => None,
        });
        node.unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn memory_pressure_evicts_one_pod_after_another_in_kubelets_order() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let pods = [asking("good", 64 << 20), asking("over", 10 << 20), pod("greedy")];
    let records = pods.iter().map(pod_record).chain([range()]).collect();
    run.plan(records, vec![]).await;
    run.has("good", 50 << 20);
    run.has("over", 30 << 20);
    run.has("greedy", 200 << 20);
    run.send(left(Signal::Memory, 200 << 20)).await;
    assert_eq!((run.names().len(), run.pressure().len()), (3, 0));
    run.send(left(Signal::Memory, 50 << 20)).await;
    assert_eq!(run.names(), ["good", "over"]);
    let frozen: Vec<_> =
        run.world.engine.log().into_iter().filter(|l| l.contains("freeze")).collect();
    assert_eq!(frozen, ["freeze uid-greedy"], "it gets no more while it ends");
    assert_eq!(run.pressure(), ["MemoryPressure"]);
    let said = run.said("greedy").unwrap();
    assert_eq!((said.phase, said.reason.as_str()), (PhaseV1::Failed, "Evicted"));
    let why = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container web was using 200Mi, request is 0, has larger consumption of memory. ";
    assert_eq!(said.message, why);
    assert!(run.events().contains(&format!("Warning Evicted: {why}")), "{:?}", run.events());
    run.send(left(Signal::Memory, 60 << 20)).await;
    assert_eq!(run.names(), ["good"]);
    run.send(left(Signal::Memory, 300 << 20)).await;
    assert_eq!(run.names(), ["good"], "it has what it asked for, and there is room again");
    assert_eq!(run.pressure(), ["MemoryPressure"], "a condition does not flicker");
    tokio::time::sleep(crate::eviction::PRESSURE_TRANSITION_PERIOD).await;
    run.send(left(Signal::Memory, 300 << 20)).await;
    assert_eq!(run.pressure(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn disk_pressure_takes_what_nobody_needs_and_then_the_pod_that_has_most() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let job = PodV1 { restart: RestartPolicy::Never, ..pod("job") };
    run.plan(vec![range(), pod_record(&job)], vec![]).await;
    run.world.engine.end("web", 0);
    run.rest().await;
    run.plan(vec![pod_record(&pod("a")), pod_record(&pod("b"))], vec![]).await;
    for (name, bytes) in [("a", 4096), ("b", 1 << 20)] {
        let path = format!("/data/pods/uid-{name}/logs/web");
        run.world.files.sizes.lock().insert(path.into(), bytes);
    }
    run.world.files.removed.lock().clear();
    run.send(left(Signal::Disk, 1 << 20)).await;
    assert_eq!(run.pressure(), ["DiskPressure"]);
    assert_eq!(*run.world.modules.cleared.lock(), 1);
    assert_eq!(*run.world.files.removed.lock(), [PathBuf::from("/data/pods/uid-job")]);
    assert_eq!(run.names(), ["a", "b"], "that may have been enough");
    run.send(left(Signal::Disk, 1 << 20)).await;
    run.rest().await;
    assert_eq!(run.names(), ["a"]);
    assert!(
        run.said("b")
            .unwrap()
            .message
            .starts_with("The node was low on resource: ephemeral-storage. ")
    );
    run.send(left(Signal::Disk, 50 << 30)).await;
    assert_eq!(run.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_device_under_pressure_takes_on_no_new_pods() {
    let disk = SimDisk::default();
    let mut run = run(&disk);
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("old"))], vec![]).await;
    run.send(left(Signal::Memory, 50 << 20)).await;
    run.send(left(Signal::Memory, 300 << 20)).await;
    let records = vec![pod_record(&pod("best-effort")), pod_record(&asking("asking", 1 << 20))];
    run.plan(records, vec![]).await;
    assert_eq!(run.names(), ["asking", "old"]);
    // One that has left its logs ran here before the ledger was lost.
    run.world.files.left.lock().insert("/data/pods/uid-known/logs/web/0.log".into());
    run.plan(vec![pod_record(&pod("known"))], vec![]).await;
    assert_eq!(run.names(), ["asking", "known", "old"]);
    let said = run.said("best-effort").unwrap();
    assert_eq!((said.phase, said.reason.as_str()), (PhaseV1::Failed, "Evicted"));
    assert_eq!(said.message, "Pod was rejected: The node had condition: [MemoryPressure]. ");
}

impl Run {
    fn fills(&self, name: &str, bytes: u64) {
        let path = format!("/data/pods/uid-{name}/logs/web");
        self.world.files.sizes.lock().insert(path.into(), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn room_is_made_before_a_pod_goes_also_while_another_is_on_its_way_out() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("greedy")), pod_record(&pod("a"))], vec![]).await;
    run.has("greedy", 200 << 20);
    run.fills("a", 1 << 20);
    *run.world.engine.stubborn.lock() = true;
    run.send(left(Signal::Memory, 50 << 20)).await;
    assert!(run.world.engine.log().contains(&"stop web/0 1s".to_owned()));
    // The disk gets short while that one goes: nothing is done yet.
    run.send(left(Signal::Disk, 1 << 20)).await;
    assert_eq!(*run.world.modules.cleared.lock(), 0);
    *run.world.engine.stubborn.lock() = false;
    run.world.engine.end_of("uid-greedy");
    run.rest().await;
    run.send(left(Signal::Disk, 1 << 20)).await;
    assert_eq!(*run.world.modules.cleared.lock(), 1);
    assert_eq!(run.names(), ["a"], "what nobody needs goes first");
    seconds(&run, 10).await;
    run.send(left(Signal::Disk, 1 << 20)).await;
    run.rest().await;
    assert_eq!(run.names(), [""; 0], "that was not enough");
}

#[tokio::test(start_paused = true)]
async fn a_measurement_for_limits_evicts_nobody_for_the_device() {
    use freewheel_link::plan::{PodStorageV1, StorageV1};
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let mut limited = pod("limited");
    let web = StorageV1 { container: "web".to_owned(), limit: Some(1 << 30), request: None };
    limited.parts.put(&PodStorageV1 { containers: vec![web] }).unwrap();
    run.plan(vec![range(), pod_record(&limited), pod_record(&pod("hog"))], vec![]).await;
    run.fills("limited", 4096);
    run.fills("hog", 1 << 30);
    run.send(left(Signal::Disk, 1 << 20)).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    run.rest().await;
    assert_eq!(*run.world.files.measured.lock(), 1, "for its limit");
    assert_eq!(run.names(), ["hog", "limited"], "room was made, and nobody has looked since");
    run.send(left(Signal::Disk, 1 << 20)).await;
    run.rest().await;
    assert_eq!(run.names(), ["limited"]);
}

#[tokio::test(start_paused = true)]
async fn a_greeting_says_what_the_device_is_short_of() {
    let disk = SimDisk::default();
    let run = run(&disk);
    let greeting = |run: &Run| run.world.uplink.device.lock().clone().unwrap().pressure;
    assert_eq!(greeting(&run), [""; 0]);
    // There is no hub to tell it to: the next one must not hear that all is well first.
    run.send(left(Signal::Memory, 50 << 20)).await;
    assert_eq!(greeting(&run), ["MemoryPressure"]);
    run.end().await;

    let (world, ports, _queue) = FakeWorld::new(disk, 1_800_000_000_000);
    let files = world.files.clone();
    let thresholds = crate::eviction::defaults();
    let config = Config { data: "/data".into(), node: node(), files, thresholds };
    let mut agent = Agent::open(ports, config).unwrap();
    let Input::Signals(left) = left(Signal::Memory, 50 << 20) else { unreachable!() };
    agent.begin_with(&left);
    assert_eq!(world.uplink.device.lock().clone().unwrap().pressure, ["MemoryPressure"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_files_are_too_many_to_see_is_not_spared() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("good")), pod_record(&pod("many"))], vec![]).await;
    // Of a gigabyte in small files this much was seen in the first round.
    run.fills("good", 2 << 20);
    run.fills("many", 1 << 20);
    *run.world.files.too_large.lock() = true;
    run.send(left(Signal::Disk, 900 << 20)).await;
    run.send(left(Signal::Disk, 900 << 20)).await;
    assert_eq!(run.names(), ["good", "many"], "there is some room, and who has most is not known");
    run.fills("many", 1 << 30);
    *run.world.files.too_large.lock() = false;
    run.rest().await;
    assert_eq!(run.names(), ["good"]);
    // Without room somebody has to go by what is known.
    *run.world.files.too_large.lock() = true;
    seconds(&run, 10).await;
    for _ in 0..2 {
        run.send(left(Signal::Disk, 100 << 20)).await;
        run.rest().await;
    }
    assert_eq!(run.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_still_being_removed_holds_up_room_on_the_disk_and_no_memory() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a")), pod_record(&pod("b"))], vec![]).await;
    run.has("a", 2 << 20);
    run.has("b", 1 << 20);
    run.fills("b", 1 << 20);
    *run.world.files.removing.lock() = true;
    for _ in 0..2 {
        run.send(left(Signal::Disk, 900 << 20)).await;
    }
    assert_eq!(
        (*run.world.modules.cleared.lock(), run.names().len()),
        (0, 2),
        "that may be enough"
    );
    run.send(left(Signal::Memory, 50 << 20)).await;
    assert_eq!(run.names(), ["b"], "memory does not come of what is removed from the disk");
    *run.world.files.removing.lock() = false;
    seconds(&run, 10).await;
    for _ in 0..2 {
        run.send(left(Signal::Disk, 1 << 20)).await;
    }
    run.rest().await;
    assert_eq!(run.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_more_priority_outlives_one_that_has_less_beyond_its_request() {
    let mut run = run(&SimDisk::default());
    let important = PodV1 { priority: 1000, ..pod("important") };
    run.plan(vec![range(), pod_record(&important), pod_record(&pod("ordinary"))], vec![]).await;
    for (name, bytes) in [("important", 200 << 20), ("ordinary", 1 << 20)] {
        run.has(name, bytes);
        run.fills(name, bytes);
    }
    run.send(left(Signal::Memory, 50 << 20)).await;
    assert_eq!(run.names(), ["important"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_stays_while_another_ones_files_are_removed() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a")), pod_record(&pod("b"))], vec![]).await;
    run.fills("a", 2 << 20);
    run.fills("b", 1 << 20);
    *run.world.files.slow.lock() = Some(vec![]);
    for _ in 0..3 {
        run.send(left(Signal::Disk, 900 << 20)).await;
    }
    run.world.files.finish();
    run.rest().await;
    assert_eq!(run.names(), ["b"]);
    // What was asked for before that one went says nothing of what is left when it is gone.
    *run.world.files.removing.lock() = true;
    run.world.files.finish();
    run.rest().await;
    assert_eq!(run.names(), ["b"]);
    // Nor is a measurement that ends while files are removed.
    *run.world.files.removing.lock() = false;
    seconds(&run, 10).await;
    for _ in 0..2 {
        run.send(left(Signal::Disk, 900 << 20)).await;
        run.rest().await;
    }
    *run.world.files.removing.lock() = true;
    run.world.files.finish();
    run.rest().await;
    assert_eq!(run.names(), ["b"]);
    *run.world.files.removing.lock() = false;
    seconds(&run, 10).await;
    run.send(left(Signal::Disk, 900 << 20)).await;
    run.rest().await;
    run.world.files.finish();
    run.rest().await;
    assert_eq!(run.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_frees_nothing_does_not_spare_a_full_disk() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    run.fills("a", 1 << 20);
    *run.world.files.removing.lock() = true;
    for available in 1..=3 {
        run.send(left(Signal::Disk, available)).await;
        run.rest().await;
    }
    assert_eq!(run.names(), ["a"], "it frees something");
    for _ in 0..2 {
        run.send(left(Signal::Disk, 1)).await;
        run.rest().await;
    }
    assert_eq!(run.names(), ["a"], "it may yet");
    for _ in 0..5 {
        seconds(&run, 15).await;
        run.send(left(Signal::Disk, 1)).await;
        run.rest().await;
    }
    assert_eq!(run.names(), [""; 0]);
}

/// A second after the other of a disk that is short.
async fn looks(run: &Run, count: u32, available: u64) {
    for _ in 0..count {
        run.send(left(Signal::Disk, available)).await;
        seconds(run, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_pod_goes_alone_where_that_is_enough() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let pods = ["large", "b", "c"].map(|name| pod_record(&pod(name)));
    run.plan(pods.into_iter().chain([range()]).collect(), vec![]).await;
    for (name, bytes) in [("large", 10 << 30), ("b", 2 << 20), ("c", 1 << 20)] {
        run.fills(name, bytes);
    }
    looks(&run, 2, 0).await;
    assert_eq!(run.names(), ["b", "c"]);
    // Its files are removed, which says nothing for a while; nor do the figures for a while after.
    *run.world.files.removing.lock() = true;
    looks(&run, 25, 0).await;
    *run.world.files.removing.lock() = false;
    run.world.files.removed.lock().clear();
    looks(&run, 9, 0).await;
    assert_eq!(run.names(), ["b", "c"]);
    let logs = [PathBuf::from("/data/pods/uid-large")];
    assert_eq!(*run.world.files.removed.lock(), logs, "what it has logged takes room, too");
    looks(&run, 60, 10 << 30).await;
    assert_eq!(run.names(), ["b", "c"]);
    // Where it was not enough, the next one goes, and waits for its turn.
    looks(&run, 3, 0).await;
    assert_eq!(run.names(), ["c"]);
    looks(&run, 8, 0).await;
    assert_eq!(run.names(), ["c"]);
    looks(&run, 4, 0).await;
    assert_eq!(run.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_another_pod_eats_up_does_not_spare_a_full_disk() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    run.fills("a", 1 << 20);
    *run.world.files.removing.lock() = true;
    for _ in 0..60 {
        looks(&run, 1, 1 << 20).await;
        looks(&run, 1, 2 << 20).await;
    }
    assert_eq!(run.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_measurement_that_ends_with_a_little_more_does_not_spare_a_full_disk() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    run.fills("a", 1 << 20);
    *run.world.files.removing.lock() = true;
    *run.world.files.slow.lock() = Some(vec![]);
    for _ in 0..60 {
        looks(&run, 1, 1 << 20).await;
        looks(&run, 1, 2 << 20).await;
        run.world.files.finish();
        run.rest().await;
    }
    assert_eq!(run.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn guests_at_their_bound_lose_the_one_that_has_most() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a")), pod_record(&pod("b"))], vec![]).await;
    run.has("a", 2 << 20);
    run.has("b", 1 << 20);
    run.send(left(Signal::Guests, 50 << 20)).await;
    assert_eq!(
        (run.names(), run.pressure()),
        (vec!["b".to_owned()], vec!["MemoryPressure".to_owned()])
    );
    assert!(run.world.engine.log().contains(&"freeze uid-a".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_may_take_its_time_gets_memory_meanwhile() {
    let soft = crate::eviction::parse("memory.available<500Mi=60").unwrap();
    let mut run = run_with(&SimDisk::default(), vec![soft]);
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    run.has("a", 2 << 20);
    run.send(left(Signal::Memory, 400 << 20)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    run.send(left(Signal::Memory, 400 << 20)).await;
    assert_eq!(run.names(), [""; 0]);
    assert!(!run.world.engine.log().contains(&"freeze uid-a".to_owned()));
}

impl Run {
    /// What was told of the Node.
    fn of_node(&self) -> Vec<String> {
        let reports = self.world.uplink.reports.lock();
        let texts = reports.iter().filter_map(|(_, report)| match report {
            Report::NodeEvent(event) => Some(format!("{}: {}", event.reason, event.message)),
            _ => None,
        });
        texts.collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_node_says_what_is_reclaimed_now_and_then() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range()], vec![]).await;
    run.send(left(Signal::Memory, 200 << 20)).await;
    assert_eq!(run.of_node(), [""; 0]);
    for _ in 0..100 {
        run.send(left(Signal::Memory, 50 << 20)).await;
        run.send(left(Signal::Memory, 200 << 20)).await;
        run.send(left(Signal::Disk, 1 << 20)).await;
        run.send(left(Signal::Inodes, 1 << 20)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let said = ["memory", "ephemeral-storage", "inodes"]
        .map(|what| format!("EvictionThresholdMet: Attempting to reclaim {what}"));
    assert_eq!(run.of_node(), said);
    tokio::time::sleep(crate::eviction::PRESSURE_TRANSITION_PERIOD).await;
    run.send(left(Signal::Memory, 50 << 20)).await;
    assert_eq!(run.of_node().len(), 4, "it is not over");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_of_the_modules_own_evicts_nobody() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    run.fills("a", 1 << 20);
    let full = Left { available: 1 << 20, capacity: 8 << 30 };
    let empty = Left { available: 50 << 30, capacity: 100 << 30 };
    let of = |disk, images| {
        Input::Signals(Observed::from([(Signal::Disk, disk), (Signal::Images, images)]))
    };
    for _ in 0..5 {
        run.send(of(empty, full)).await;
        run.rest().await;
    }
    assert_eq!(run.pressure(), ["DiskPressure"]);
    assert_eq!(*run.world.modules.cleared.lock(), 1, "what nobody needs goes once");
    assert_eq!(run.names(), ["a"]);
    // On one file system it is the pods' as well.
    for _ in 0..2 {
        run.send(of(full, full)).await;
        run.rest().await;
    }
    assert_eq!(run.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_of_the_modules_own_hides_no_other_shortage() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    run.has("a", 200 << 20);
    let full = Left { available: 1 << 20, capacity: 8 << 30 };
    let empty = Left { available: 50 << 30, capacity: 100 << 30 };
    let look = |memory, disk| {
        let memory = Left { available: memory, capacity: 8 << 30 };
        Input::Signals(Observed::from([
            (Signal::Memory, memory),
            (Signal::Disk, disk),
            (Signal::Images, full),
        ]))
    };
    for _ in 0..3 {
        run.send(look(4 << 30, empty)).await;
        run.rest().await;
    }
    assert_eq!((*run.world.modules.cleared.lock(), run.names()), (1, vec!["a".to_owned()]));
    // What nobody needs goes for the pods' own disk, too, before a pod does.
    run.send(look(4 << 30, Left { available: 1 << 20, capacity: 100 << 30 })).await;
    run.rest().await;
    assert_eq!((*run.world.modules.cleared.lock(), run.names()), (2, vec!["a".to_owned()]));
    run.send(look(4 << 30, empty)).await;
    run.send(look(50 << 20, empty)).await;
    assert_eq!(run.names(), [""; 0], "memory is short as well");
}

#[tokio::test(start_paused = true)]
async fn who_has_most_inodes_goes_for_them_whatever_it_takes() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("honest")), pod_record(&pod("maker"))], vec![]).await;
    run.fills("honest", 1 << 20);
    for (name, inodes) in [("honest", 1), ("maker", 1_000_000)] {
        let path = format!("/data/pods/uid-{name}/logs/web");
        run.world.files.inodes.lock().insert(path.into(), inodes);
    }
    for _ in 0..2 {
        run.send(left(Signal::Inodes, 1 << 10)).await;
        run.rest().await;
    }
    assert_eq!(run.names(), ["honest"]);
    assert!(
        run.said("maker").unwrap().message.starts_with("The node was low on resource: inodes.")
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_takes_its_time_to_leave_goes_before_its_neighbours() {
    for signal in [Signal::Memory, Signal::Disk] {
        let mut run = run(&SimDisk::default());
        run.send(Input::Connected(Some(1))).await;
        let fat = PodV1 { grace_seconds: 3600, ..pod("fat") };
        run.plan(vec![range(), pod_record(&fat), pod_record(&pod("small"))], vec![]).await;
        for (name, bytes) in [("fat", 500 << 20), ("small", 1 << 20)] {
            run.has(name, bytes);
            run.fills(name, bytes);
        }
        *run.world.engine.stubborn.lock() = true;
        let deleted = PodV1 { deleting: Some(3600), ..fat };
        run.plan(vec![pod_record(&deleted)], vec![]).await;
        for _ in 0..2 {
            run.send(left(signal, 50 << 20)).await;
            run.rest().await;
        }
        let stops: Vec<_> =
            run.world.engine.log().into_iter().filter(|line| line.starts_with("stop")).collect();
        assert_eq!(stops, ["stop web/0 3600s", "stop web/0 1s"], "{signal:?}");
        run.world.engine.end_of("uid-fat");
        run.rest().await;
        assert_eq!(run.names(), ["small"], "{signal:?}");
    }
}
