//! What a container's start, run and end promise.

use std::time::{Duration, Instant};

use crate::support::{self, bounded, compile, compile_for, guest, node, node_of};
use freewheel_spoke_agent::host_dir::HostDir;
use freewheel_spoke_agent::ports::Containers as _;
use freewheel_spoke_agent::volumes::Mount;
use freewheel_spoke_engine::footprint;
use freewheel_spoke_runtime::LogOptions;

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_as_kubernetes_tells_them() {
    let node = node();
    let check = async |words: &[&str], code: i32, reason: &str| {
        let exit = node.run(node.kit(&words.join("-"), words)).await;
        assert_eq!((exit.code, exit.reason.as_str()), (code, reason), "{words:?}: {exit:?}");
    };
    check(&["nop"], 0, "Completed").await;
    check(&["fail"], 1, "Error").await;
    check(&["exit", "0"], 0, "Completed").await;
    check(&["exit", "1"], 1, "Error").await;
    // Plain std on WASI 0.2 tells no number: see `exit` for who does.
    check(&["exit", "3"], 1, "Error").await;
    check(&["panic"], 134, "Error").await;
    node.logged("panic", "panicked on purpose").await;
    node.logged("panic", "wasm backtrace").await;
    node.logged("fail", "failed on purpose").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_at_the_limit() {
    let node = node();
    let mut eater = node.kit("eater", &["eat"]);
    eater.0.memory_limit = Some(32 << 20);
    let exit = node.run(eater).await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"), "{exit:?}");
    let mut tiny = node.kit("tiny", &["nop"]);
    tiny.0.memory_limit = Some(64 << 10);
    let exit = node.run(tiny).await;
    assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_why() {
    let node = node();
    let run = async |name: &str, wat: &str| {
        let artifact = node.dir.path().join(name);
        compile(&wat::parse_str(wat).unwrap(), &artifact);
        node.run(node.container(name, &artifact)).await
    };
    let exit = run("strange", r#"(component (import "wasi:foo/bar@0.1.0" (instance)))"#).await;
    assert_eq!(exit.reason, "StartError");
    assert_eq!(exit.message, "module imports wasi:foo/bar@0.1.0 which no pod is given");
    let exit = run("empty", "(component)").await;
    assert!(exit.message.contains("exports neither wasi:cli/run"), "{exit:?}");
    let none = node.run(node.container("none", std::path::Path::new("/nonexistent"))).await;
    assert_eq!(none.reason, "StartError");
    let junk = node.dir.path().join("junk.cwasm");
    std::fs::write(&junk, b"this is no artifact").unwrap();
    let junk = node.run(node.container("junk", &junk)).await;
    assert!(junk.message.contains("cannot be loaded"), "{junk:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_stays_loaded_is_not_run_once_its_artifact_is_another_or_gone() {
    let node = node();
    let artifact = node.dir.path().join("a.cwasm");
    std::fs::copy(guest("kit"), &artifact).unwrap();
    let run = async |pod: &str| {
        let mut start = node.container(pod, &artifact);
        start.0.args.push("nop".to_owned());
        node.run(start).await
    };
    assert_eq!(run("first").await.code, 0);
    assert_eq!(run("again").await.code, 0);
    let junk = node.dir.path().join("junk");
    std::fs::write(&junk, b"this is no artifact").unwrap();
    std::fs::rename(&junk, &artifact).unwrap();
    assert!(run("replaced").await.message.contains("cannot be loaded"));
    std::fs::remove_file(&artifact).unwrap();
    assert_eq!(run("gone").await.reason, "StartError");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_before_its_module_is_loaded_is_gone_at_once() {
    let node = node();
    // Whoever opens it for reading waits until somebody opens it for writing: a card that stands still.
    let card = node.dir.path().join("card");
    assert!(std::process::Command::new("mkfifo").arg(&card).status().unwrap().success());
    let loads: Vec<_> =
        (0..3).map(|number| node.start(node.container(&format!("load{number}"), &card))).collect();
    let mut ends = Vec::new();
    for id in &loads {
        node.runtime.stop(id, Duration::from_secs(30));
        ends.push(tokio::time::timeout(Duration::from_secs(20), node.exited(id)).await);
    }
    // Only now: with a thread that waits, a test that fails would never end.
    let writer = std::fs::File::options().read(true).write(true).open(&card).unwrap();
    std::fs::remove_file(&card).unwrap();
    drop(writer);
    for end in ends {
        assert_eq!(end.unwrap().code, 143);
    }
    assert_eq!(node.run(node.kit("next", &["exit", "0"])).await.code, 0, "its turn comes");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_replaced_artifact_nothing_stays_loaded() {
    let node = node();
    let artifact = node.dir.path().join("a.cwasm");
    let put = |name: &str| {
        let fresh = node.dir.path().join("fresh");
        std::fs::copy(guest(name), &fresh).unwrap();
        std::fs::rename(fresh, &artifact).unwrap();
    };
    for name in ["kit", "greedy"] {
        put(name);
        node.run(node.container(name, &artifact)).await;
    }
    let description = footprint::read(&artifact).unwrap().description;
    let alone = async {
        while node.runtime.described() as u64 != description {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, alone).await.expect("the former is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_kept_also_when_its_directory_comes_late() {
    let node = node();
    let mut start = node.kit("early", &["fail"]);
    start.0.log = node.dir.path().join("not/there/yet.log");
    let log = start.0.log.clone();
    assert_eq!(node.run(start).await.code, 1);
    assert!(std::fs::read_to_string(log).unwrap().contains("failed on purpose"));
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_environment_and_files_are_what_the_pod_gives() {
    let node = node();
    let mut env = node.kit("env", &["env", "GREETING", "a b"]);
    env.0.env = vec![("GREETING".to_owned(), "hi".to_owned())];
    assert_eq!(node.run(env).await.code, 0);
    assert_eq!(node.log("env"), "hi [\"GREETING\", \"a b\"]\n");

    let shared = node.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let mounted = |pod: &str, words: &[&str], read_only| {
        let mut start = node.kit(pod, words);
        let dir = HostDir::open(&shared).unwrap();
        start.1 = vec![Mount { dir, guest: "/data".to_owned(), read_only }];
        start
    };
    assert_eq!(node.run(mounted("put", &["put", "/data/f", "kept"], false)).await.code, 0);
    assert_eq!(node.run(mounted("cat", &["cat", "/data/f"], true)).await.code, 0);
    assert_eq!(node.log("cat"), "kept\n");
    assert_eq!(node.run(mounted("ro", &["put", "/data/g", "no"], true)).await.code, 1);
    assert_eq!(node.run(mounted("out", &["cat", "/data/../../etc/passwd"], false)).await.code, 1);
    assert_eq!(node.run(node.kit("other", &["cat", "/data/f"])).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grace_period_a_spinning_guest_is_killed_at_once() {
    let node = node();
    let id = node.start(node.kit("spin", &["spin"]));
    node.started(&id).await;
    node.runtime.stop(&id, Duration::ZERO);
    assert_eq!(node.exited(&id).await.code, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_hear_a_stop_is_killed_when_its_grace_is_over() {
    let node = node();
    for word in ["spin", "sleep"] {
        let id = node.start(node.kit(word, &[word]));
        node.started(&id).await;
        let asked = Instant::now();
        node.runtime.stop(&id, Duration::from_millis(300));
        assert_eq!(node.exited(&id).await.code, 137);
        assert!(Duration::from_millis(300) <= asked.elapsed(), "{:?}", asked.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_stopped_may_finish_and_its_own_code_counts() {
    let node = node();
    let shared = node.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    for (pod, code) in [("well", 0), ("badly", 1)] {
        let file = format!("/data/{pod}");
        let mut start = node.kit(pod, &["finish", &file, &code.to_string()]);
        let dir = HostDir::open(&shared).unwrap();
        start.1 = vec![Mount { dir, guest: "/data".to_owned(), read_only: true }];
        let id = node.start(start);
        node.logged(pod, "ready").await;
        node.runtime.stop(&id, Duration::from_secs(60));
        std::fs::write(shared.join(pod), b"go").unwrap();
        let exit = node.exited(&id).await;
        assert_eq!(
            (exit.code, exit.was_asked_to_stop),
            (code, false),
            "it has no ear for the stop"
        );
        assert!(node.log(pod).contains("finished"), "{}", node.log(pod));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_the_sdk_is_told_of_its_stop() {
    let node = node();
    for (pod, word) in [("waits", "wait"), ("looks", "look")] {
        let mut start = node.container(pod, &guest("told"));
        start.0.args.push(word.to_owned());
        let id = node.start(start);
        node.logged(pod, "ready, nobody asked").await;
        node.runtime.stop(&id, Duration::from_secs(60));
        assert_eq!(node.exited(&id).await.code, 7);
        assert!(node.log(pod).contains("told, with time left"), "{}", node.log(pod));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_hears_the_stop_and_ends_by_itself() {
    let node = node();
    let id = node.start(node.kit("echo", &["echo", "0.0.0.0:7000"]));
    node.logged("echo", "ready").await;
    node.runtime.stop(&id, Duration::from_secs(30));
    assert_eq!(node.exited(&id).await.code, 0);
    assert!(node.log("echo").contains("leaving: ConnectionAborted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_asks_for_it_hears_the_stop_and_ends_with_its_own_code() {
    let node = node();
    let id = node.start(node.container("life", &guest("life")));
    node.logged("life", "ready None").await;
    node.runtime.stop(&id, Duration::from_secs(30));
    assert_eq!(node.exited(&id).await.code, 42);
    assert!(node.log("life").contains("stopping within true ms"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_end_is_killed_after_its_grace() {
    let node = node();
    let id = node.start(node.kit("echo", &["echo", "0.0.0.0:7000"]));
    node.logged("echo", "ready").await;
    // The server sits in this connection and does not come back to accept.
    let _held = node.dial("echo", 7000).unwrap();
    let asked = Instant::now();
    node.runtime.stop(&id, Duration::from_millis(300));
    assert_eq!(node.exited(&id).await.code, 137);
    assert!(Duration::from_millis(300) <= asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_grace_period_is_still_one() {
    let node = node();
    let id = node.start(node.kit("echo", &["echo", "0.0.0.0:7000"]));
    node.logged("echo", "ready").await;
    let _held = node.dial("echo", 7000).unwrap();
    node.runtime.stop(&id, Duration::from_secs(60));
    let asked = Instant::now();
    node.runtime.stop(&id, Duration::from_millis(400));
    assert_eq!(node.exited(&id).await.code, 137);
    assert!(Duration::from_millis(400) <= asked.elapsed(), "{:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_its_stop_does_not_spin() {
    let node = node();
    let id = node.start(node.kit("stubborn", &["stubborn", "0.0.0.0:7000"]));
    node.logged("stubborn", "ready").await;
    node.runtime.stop(&id, Duration::from_millis(500));
    assert_eq!(node.exited(&id).await.code, 137);
    assert_eq!(node.log("stubborn").matches("accepted or not").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_talk_over_the_pod_network() {
    let node = node();
    node.start(node.kit("server", &["echo", "0.0.0.0:7000"]));
    node.start(node.kit("udp", &["udp-echo", "0.0.0.0:7001"]));
    node.logged("server", "ready").await;
    node.logged("udp", "ready").await;
    let (server, udp) = (node.ip("server"), node.ip("udp"));
    let said = async |pod: &str, words: &[&str]| {
        let exit = node.run(node.kit(pod, words)).await;
        assert_eq!(exit.code, 0, "{exit:?} {}", node.log(pod));
        node.log(pod)
    };
    assert_eq!(said("a", &["ask", &format!("{server}:7000"), "hello"]).await, "hello\n");
    assert_eq!(said("b", &["udp-ask", &format!("{udp}:7001"), "hello"]).await, "hello\n");
    assert_eq!(said("c", &["connect", &format!("{server}:9")]).await, "ConnectionRefused\n");
    assert_eq!(said("d", &["connect", "10.64.9.9:80"]).await, "HostUnreachable\n");
    assert_eq!(said("e", &["connect", "1.1.1.1:80"]).await, "PermissionDenied\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_share_its_loopback_and_its_ports() {
    let node = node();
    let server = node.start(node.kit("pod", &["echo", "127.0.0.1:7000"]));
    node.logged("pod", "ready").await;
    let side = node.sidecar("pod", "side", &["ask", "localhost:7000", "hello"]);
    assert_eq!(node.run(side).await.code, 0);
    assert_eq!(node.log("side"), "hello\n");
    let late = node.sidecar("pod", "late", &["echo", "0.0.0.0:7000"]);
    assert_eq!(node.run(late).await.code, 1);
    assert!(node.log("late").contains("AddrInUse"), "{}", node.log("late"));
    // One container stops; the other one of the pod goes on.
    let other = node.start(node.sidecar("pod", "other", &["echo", "0.0.0.0:7001"]));
    node.logged("other", "ready").await;
    node.runtime.stop(&server, Duration::from_secs(30));
    assert_eq!(node.exited(&server).await.code, 0);
    let ask = node.sidecar("pod", "ask", &["ask", "127.0.0.1:7001", "still here"]);
    assert_eq!(node.run(ask).await.code, 0);
    node.runtime.stop(&other, Duration::from_secs(30));
    assert_eq!(node.exited(&other).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_little_address_space_runs_the_same_guests() {
    let node = node_of(bounded());
    let artifact = node.dir.path().join("kit.cwasm");
    compile_for(&bounded(), "kit", &artifact);
    let mut eater = node.container("eater", &artifact);
    eater.0.args.push("eat".to_owned());
    eater.0.memory_limit = Some(32 << 20);
    assert_eq!(node.run(eater).await.reason, "OOMKilled");
    // Made for the other profile: refused, not run.
    let other = node.run(node.kit("other", &["nop"])).await;
    assert_eq!(other.reason, "StartError");
    assert!(other.message.contains("cannot be loaded"), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_spin_do_not_disturb_their_neighbours() {
    let node = node();
    for pod in ["hog-a", "hog-b", "hog-c", "hog-d"] {
        let id = node.start(node.kit(pod, &["spin"]));
        node.started(&id).await;
        let demoted = async {
            while node
                .runtime
                .usage(&id)
                .unwrap()
                .0
                .demoted
                .load(std::sync::atomic::Ordering::Relaxed)
                == 0
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(support::SOON, demoted).await.unwrap();
    }
    node.start(node.kit("server", &["echo", "0.0.0.0:7000"]));
    node.logged("server", "ready").await;
    let server = format!("{}:7000", node.ip("server"));
    assert_eq!(node.run(node.kit("client", &["rounds", &server, "200"])).await.code, 0);
    let median: u64 = node.log("client").trim().parse().unwrap();
    // On one runtime with the hogs a round trip takes 20 000 µs and more; alone it takes 4.
    assert!(median < 5_000, "{median} µs");
    node.runtime.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_makes_a_guest_wait() {
    let node = node();
    let mut free = node.kit("free", &["nop"]);
    free.0.cpu_limit_milli = Some(0);
    let ended = tokio::time::timeout(support::SOON, node.run(free)).await;
    assert_eq!(ended.expect("a quota of nothing is none").code, 0);
    let mut worker = node.kit("worker", &["spin"]);
    worker.0.cpu_limit_milli = Some(200);
    let id = node.start(worker);
    node.started(&id).await;
    let (usage, _) = node.runtime.usage(&id).unwrap();
    let used = || usage.cpu_ns.load(std::sync::atomic::Ordering::Relaxed);
    let (before, start) = (used(), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let share = (used() - before) as f64 / start.elapsed().as_nanos() as f64;
    assert!((0.02..0.40).contains(&share), "{share}");
    node.runtime.stop(&id, Duration::ZERO);
    node.exited(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_guests_stands_still_when_none_runs() {
    let node = node();
    let id = node.start(node.kit("sleep", &["sleep"]));
    node.started(&id).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = node.runtime.ticks();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(node.runtime.ticks() <= before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_is_whole_in_the_log() {
    let node = node();
    let id = node.start(node.kit("lines", &["lines", "20000"]));
    node.started(&id).await;
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut pieces = node.runtime.logs(&node.dir.path().join("lines.log"), options);
    assert_eq!(node.exited(&id).await.code, 0);
    assert_eq!(node.log("lines").lines().count(), 20_000);
    let mut followed = 0;
    while let Some(piece) = pieces.recv().await {
        followed += piece.unwrap().iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!(followed, 20_000);
    node.runtime.forget_pod("lines");
    let gone = async {
        while node.dir.path().join("lines.log").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_guests_wrote_before_the_agent_ends_is_in_their_logs() {
    let node = node();
    let ids = ["a", "b"].map(|pod| node.start(node.kit(pod, &["begin", "a line without an end"])));
    for id in &ids {
        node.started(id).await;
    }
    for pod in ["a", "b"] {
        node.logged(pod, "ready").await;
    }
    node.runtime.end().await;
    for (pod, id) in ["a", "b"].into_iter().zip(&ids) {
        assert_eq!(node.log(pod), "ready\na line without an end\n");
        assert_eq!(node.exited(id).await.code, 137);
    }
}
