//! `kubectl logs` in all its forms.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::{Kubectl, Running};
use freewheel_tests::{Fleet, eventually};

/// A pod that counts its runs and fails, and one with a container of each sort.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  volumes: [{name: d, emptyDir: {}}]
  containers:
    - {name: c, image: 'kit:v1', args: [count, /d/runs, '3'], volumeMounts: [{name: d, mountPath: /d}]}
---
apiVersion: v1
kind: Pod
metadata: {name: many}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
    - {name: first, image: 'kit:v1', args: [say, from, init]}
    - {name: side, image: 'kit:v1', args: [tick], restartPolicy: Always}
  containers:
    - {name: main, image: 'kit:v1', args: [tick]}
";

#[test]
fn logs_of_every_container_and_start_can_be_read() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(PODS);
    of_each_container(&kubectl);
    in_parts(&kubectl);
    of_the_start_before(&kubectl);
    of_what_is_not_there(&kubectl);
    let mut follow = following(&fleet, &kubectl);
    fleet.kill_spoke("pi-1");
    eventually("the hub tells that the spoke is away", PATIENCE, || {
        let said = kubectl.try_run(&["logs", "many", "--tail=1"]);
        let clear = said.err.contains("pi-1") && said.err.contains("not connected");
        if !said.ok && clear { Ok(()) } else { Err(format!("{}{}", said.out, said.err)) }
    });
    let ended = eventually("who follows a log hears of its end", PATIENCE, || {
        follow.ended().ok_or_else(|| follow.out())
    });
    assert_eq!(ended.code(), Some(1), "what broke off is not called all of it: {ended}");
    // It comes back, and so do its logs.
    fleet.start_spoke("pi-1");
    wait_for(&kubectl, &["logs", "many", "--tail=1"], "tick");
}

#[track_caller]
fn wait_for(kubectl: &Kubectl, arguments: &[&str], part: &str) {
    eventually(&format!("{arguments:?} gives {part:?}"), PATIENCE, || {
        let said = kubectl.try_run(arguments);
        if said.ok && said.out.contains(part) {
            Ok(())
        } else {
            Err(format!("{}{}", said.out, said.err))
        }
    });
}

fn of_each_container(kubectl: &Kubectl) {
    wait_for(kubectl, &["logs", "many"], "tick 1\n");
    wait_for(kubectl, &["logs", "many", "-c", "side"], "tick 1\n");
    assert_eq!(kubectl.run(&["logs", "many", "-c", "first"]), "from init\n");
    let all = kubectl.run(&["logs", "many", "--all-containers", "--prefix"]);
    for part in ["[pod/many/first] from init", "[pod/many/side] tick 1", "[pod/many/main] tick 1"] {
        assert!(all.contains(part), "{part:?} is missing in:\n{all}");
    }
}

fn in_parts(kubectl: &Kubectl) {
    wait_for(kubectl, &["logs", "many"], "tick 15\n");
    let stamped = kubectl.run(&["logs", "many", "--timestamps", "--tail=2"]);
    let lines: Vec<&str> = stamped.lines().collect();
    assert_eq!(lines.len(), 2, "{stamped}");
    for line in lines {
        let (stamp, text) = line.split_once(' ').expect("a time and a text");
        assert!(stamp.contains('T') && stamp.ends_with('Z') && stamp.contains('.'), "{line}");
        assert!(text.starts_with("tick "), "{line}");
    }
    let recent = kubectl.run(&["logs", "many", "--since=1s"]);
    assert!(!recent.contains("tick 1\n"), "{recent}");
    assert!((1..=8).contains(&recent.lines().count()), "{recent}");
    let since = kubectl.run(&["logs", "many", "--since-time=2000-01-01T00:00:00Z"]);
    assert!(since.starts_with("tick 1\n"), "{since}");
    assert_eq!(kubectl.run(&["logs", "many", "--limit-bytes=9"]), "tick 1\nti");
    assert_eq!(kubectl.run(&["logs", "many", "--tail=0"]), "");
}

fn of_the_start_before(kubectl: &Kubectl) {
    // The second run follows at once; then it waits.
    wait_for(kubectl, &["get", "pod", "crash"], "CrashLoopBackOff");
    let run = |flags: &[&str]| {
        let said = kubectl.run(&[&["logs", "crash"], flags].concat());
        let number = said.trim().strip_prefix("run ").and_then(|n| n.parse::<u32>().ok());
        number.unwrap_or_else(|| panic!("a run's number in {said:?}"))
    };
    let before = run(&["-p"]);
    assert!(1 <= before);
    assert!(before <= run(&[]), "the start before is not the newest");
}

fn of_what_is_not_there(kubectl: &Kubectl) {
    for (arguments, why) in [
        (&["logs", "many", "-c", "nobody"][..], "container nobody is not valid for pod many"),
        (
            &["logs", "many", "-p"],
            "previous terminated container \"main\" in pod \"many\" not found",
        ),
        (&["logs", "nobody"], "pods \"nobody\" not found"),
    ] {
        let said = kubectl.fails(arguments);
        assert!(said.contains(why), "{said}");
    }
}

fn following(fleet: &Fleet, kubectl: &Kubectl) -> Running {
    let follow = kubectl.start(&["logs", "-f", "many", "--tail=1"], &fleet.path("follow.txt"));
    eventually("followed lines arrive", PATIENCE, || {
        let out = follow.out();
        if 5 <= out.lines().count() { Ok(()) } else { Err(out) }
    });
    follow
}
