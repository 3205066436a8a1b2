//! What the agent does when it has died itself, and when its ledger has.

use super::*;
use crate::ledger::Found;
use crate::ports::Disk as _;

/// The agent dies.
async fn die(run: Run) {
    run.task.abort();
    let _ = run.task.await;
}

/// A disk with pods a, b and c, in this order, and this many bad ends.
async fn after_bad_ends(ends: usize) -> SimDisk {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.plan(vec![range()], vec![]).await;
    for name in ["a", "b", "c"] {
        first.plan(vec![pod_record(&pod(name))], vec![]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    die(first).await;
    for _ in 1..ends {
        let next = run(&disk);
        next.rest().await;
        assert_eq!(next.running().len(), 3, "all at once");
        die(next).await;
    }
    disk
}

#[tokio::test(start_paused = true)]
async fn what_killed_the_agent_three_times_does_not_come_back_at_once() {
    let disk = after_bad_ends(3).await;
    let mut run = run(&disk);
    run.send(Input::Connected(Some(1))).await;
    assert_eq!(run.names(), ["a"], "the oldest first");
    assert!(format!("{:?}", run.said("c").unwrap().containers[0].state).contains("AgentCrashLoop"));
    let told = "Warning BackOff: the agent of this node ended 3 times in a row";
    assert!(run.events().iter().any(|event| event.starts_with(told)), "{:?}", run.events());
    // One that is new waits behind them, and one that is deleted goes without having run.
    run.plan(vec![pod_record(&pod("d"))], vec![pod_record(&pod("b")).key]).await;
    assert_eq!(run.names(), ["a"]);
    seconds(&run, 3).await;
    assert_eq!(run.names(), ["a", "c"]);
    seconds(&run, 2).await;
    assert_eq!(run.names(), ["a", "c", "d"]);
    // A good while later all is forgiven.
    seconds(&run, 601).await;
    die(run).await;
    let next = self::run(&disk);
    next.rest().await;
    assert_eq!(next.names(), ["a", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn the_pod_that_was_tried_when_the_agent_died_comes_last() {
    let disk = after_bad_ends(3).await;
    let fourth = run(&disk);
    seconds(&fourth, 3).await;
    assert_eq!(fourth.names(), ["a", "b"]);
    die(fourth).await;
    let fifth = run(&disk);
    fifth.send(Input::Connected(Some(1))).await;
    assert_eq!(fifth.names(), ["a", "c"], "nobody suspects them");
    seconds(&fifth, 5).await;
    let told = "it was this pod's turn when it did, back-off 10s";
    assert!(fifth.events().iter().any(|event| event.ends_with(told)), "{:?}", fifth.events());
    seconds(&fifth, 4).await;
    assert_eq!(fifth.names(), ["a", "c"]);
    seconds(&fifth, 2).await;
    assert_eq!(fifth.names(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_waits_seconds_at_first_and_twice_as_long_each_time() {
    let disk = after_bad_ends(3).await;
    let fourth = run(&disk);
    seconds(&fourth, 3).await;
    assert_eq!(fourth.names(), ["a", "b"], "b is suspected from here on");
    die(fourth).await;
    for wait in [10, 20, 40, 80, 160, 320] {
        let next = run(&disk);
        seconds(&next, wait - 1).await;
        assert_eq!(next.names(), ["a", "c"], "nobody else waits the {wait} s");
        seconds(&next, 2).await;
        assert_eq!(next.names(), ["a", "b", "c"], "after {wait} s");
        die(next).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_suspect_waits_as_any_other() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    die(first).await;
    for _ in 0..3 {
        let next = run(&disk);
        next.rest().await;
        assert_eq!(next.names(), ["a"], "the only one, and nobody suspects it yet");
        die(next).await;
    }
    let fifth = run(&disk);
    seconds(&fifth, 9).await;
    assert_eq!(fifth.names(), [""; 0]);
    seconds(&fifth, 2).await;
    assert_eq!(fifth.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn new_pods_do_not_wait_with_the_suspects() {
    let disk = after_bad_ends(3).await;
    let fourth = run(&disk);
    seconds(&fourth, 3).await;
    die(fourth).await;
    let mut fifth = run(&disk);
    fifth.rest().await;
    assert_eq!(fifth.names(), ["a", "c"], "and b is suspected");
    fifth.plan(["d", "e"].map(|name| pod_record(&pod(name))).into(), vec![]).await;
    assert_eq!(fifth.names(), ["a", "c", "d", "e"], "at once");
    seconds(&fifth, 11).await;
    assert_eq!(fifth.names(), ["a", "b", "c", "d", "e"]);
    fifth.plan(["f", "g"].map(|name| pod_record(&pod(name))).into(), vec![]).await;
    assert_eq!(fifth.names(), ["a", "b", "c", "d", "e", "f", "g"]);
}

#[tokio::test(start_paused = true)]
async fn one_more_that_kills_the_agent_is_found_among_the_others() {
    let disk = after_bad_ends(3).await;
    let fourth = run(&disk);
    seconds(&fourth, 3).await;
    assert_eq!(fourth.names(), ["a", "b"], "b is suspected from here on");
    die(fourth).await;
    let fifth = run(&disk);
    fifth.rest().await;
    assert_eq!(fifth.names(), ["a", "c"]);
    die(fifth).await;
    let mut sixth = run(&disk);
    sixth.rest().await;
    assert_eq!(sixth.names(), ["a"], "b does not explain that");
    sixth.plan(vec![pod_record(&pod("d"))], vec![]).await;
    seconds(&sixth, 9).await;
    assert_eq!(sixth.names(), ["a", "c"], "c is suspected, too");
    die(sixth).await;
    let seventh = run(&disk);
    seventh.rest().await;
    assert_eq!(seventh.names(), ["a", "d"]);
    seconds(&seventh, 11).await;
    assert_eq!(seventh.names(), ["a", "b", "d"]);
    seconds(&seventh, 10).await;
    assert_eq!(seventh.names(), ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_is_gone_explains_nothing() {
    let disk = after_bad_ends(3).await;
    let mut fourth = run(&disk);
    seconds(&fourth, 3).await;
    assert_eq!(fourth.names(), ["a", "b"], "b is suspected from here on");
    fourth.plan(vec![], vec![pod_record(&pod("b")).key]).await;
    die(fourth).await;
    let fifth = run(&disk);
    fifth.rest().await;
    assert_eq!(fifth.names(), ["a"], "one by one");
    seconds(&fifth, 5).await;
    assert_eq!(fifth.names(), ["a", "c"]);
}

/// Lets an agent go on until `killer` has run for so many seconds, which ends it. What ran then, and for how long the
/// agent did.
async fn killed_by(disk: &SimDisk, killer: &str, after: u64) -> (Vec<String>, u64) {
    let run = run(disk);
    run.rest().await;
    let (mut lived, mut ran) = (0, 0);
    while ran < after {
        seconds(&run, 10).await;
        lived += 10;
        ran += if run.names().contains(&killer.to_owned()) { 10 } else { 0 };
    }
    let names = run.names();
    die(run).await;
    (names, lived)
}

#[tokio::test(start_paused = true)]
async fn who_kills_slowly_is_found_beside_a_suspect_that_does_nothing() {
    for after in [320, 400, 500, 590] {
        let disk = after_bad_ends(3).await;
        let fourth = run(&disk);
        seconds(&fourth, 3).await;
        assert_eq!(fourth.names(), ["a", "b"], "b is suspected from here on");
        die(fourth).await;
        let mut lives = Vec::new();
        for _ in 0..18 {
            lives.push(killed_by(&disk, "c", after).await.1);
        }
        assert!(lives.is_sorted(), "it waits longer and longer: {lives:?}");
        let last = run(&disk);
        seconds(&last, 600).await;
        assert_eq!(last.names(), ["a", "b"], "who has been well for a while is suspected no more");
        seconds(&last, 2900).await;
        assert_eq!(last.names(), ["a", "b"]);
        seconds(&last, 200).await;
        assert_eq!(last.names(), ["a", "b", "c"], "and its turn comes");
    }
}

#[tokio::test(start_paused = true)]
async fn suspects_come_back_however_many_new_pods_come() {
    let disk = after_bad_ends(3).await;
    let fourth = run(&disk);
    seconds(&fourth, 3).await;
    die(fourth).await;
    let mut fifth = run(&disk);
    for name in ["d", "e", "f"] {
        seconds(&fifth, 3).await;
        fifth.plan(vec![pod_record(&pod(name))], vec![]).await;
    }
    assert_eq!(fifth.names(), ["a", "c", "d", "e", "f"]);
    seconds(&fifth, 2).await;
    assert_eq!(fifth.names(), ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test(start_paused = true)]
async fn power_cuts_hold_no_pod_back() {
    let disk = after_bad_ends(1).await;
    let boot = |boot: u32| {
        let node = NodeStatusV1 { boot_id: boot.to_string(), ..node() };
        run_on(node, &disk, vec![], NOW)
    };
    for round in 0..3 {
        for cut in 0..5 {
            let next = boot(10 * round + cut);
            next.rest().await;
            assert_eq!(next.names().len(), 3, "all at once, round {round}, cut {cut}");
            die(next).await;
        }
        // A good while, and what was before is forgotten.
        let next = boot(10 * round + 5);
        seconds(&next, 601).await;
        assert_eq!(next.names().len(), 3);
        die(next).await;
    }
    // It goes on: something takes the machine down.
    for cut in 40..47 {
        let next = boot(cut);
        next.rest().await;
        die(next).await;
    }
    let last = boot(50);
    last.rest().await;
    assert_eq!(last.names(), ["a"], "one by one");
}

#[tokio::test(start_paused = true)]
async fn an_end_in_order_forgives() {
    let disk = after_bad_ends(2).await;
    let third = run(&disk);
    third.rest().await;
    third.end().await;
    for _ in 0..2 {
        let next = run(&disk);
        next.rest().await;
        assert_eq!(next.names().len(), 3);
        die(next).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_ledger_runs_on_is_told_and_asks_for_the_whole_plan() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    first.plan(vec![pod_record(&pod("b"))], vec![]).await;
    let end = disk.len();
    first.plan(vec![pod_record(&pod("c"))], vec![]).await;
    first.end().await;
    let mut file = disk.read().unwrap();
    file[end - 40] ^= 1;
    disk.replace(&file).unwrap();

    let second = run(&disk);
    assert_eq!(second.revision, 0, "no older plan: none");
    second.send(Input::Connected(Some(1))).await;
    let running = second.names();
    assert!(running.contains(&"a".to_owned()) && running.contains(&"c".to_owned()), "{running:?}");
    let damaged = |run: &Run| {
        let reports = run.world.uplink.reports.lock();
        let newest = reports.iter().rev().find_map(|(_, report)| match report {
            Report::Node(node) => Some(node.pressure.clone()),
            _ => None,
        });
        newest.unwrap().contains(&"LedgerDamaged".to_owned())
    };
    assert!(damaged(&second));
    assert!(matches!(
        crate::ledger::Ledger::inspect(&disk.aside().unwrap()),
        Found::Damaged { .. }
    ));
    // The hub sends all of it.
    let put = [range()].into_iter().chain(["a", "b", "c"].map(|name| pod_record(&pod(name))));
    let to = generation(9);
    let base = Generation::NONE;
    let part = PlanPart { base, to, snapshot: true, put: put.collect(), remove: vec![] };
    second.send(Input::Plan(part)).await;
    second.rest().await;
    assert_eq!(second.names(), ["a", "b", "c"]);
    assert!(!damaged(&second));
    second.end().await;
    assert_eq!(Ledger::inspect(&disk.read().unwrap()), Found::Sound);
}
