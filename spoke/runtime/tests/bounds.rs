//! What a guest may make the host hold, and what it hears when that is too much.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use crate::support::{self, Node, compile, guest, node};
use freewheel_spoke_agent::ports::Containers as _;
use freewheel_spoke_engine::{GUEST_STACK_BYTES, footprint};
use freewheel_spoke_net::{FILES_LEAST, MAX_FILES, POD_RECEIVE_BYTES_MAX};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Runs it to its end as OOMKilled, and nothing of it is held by then.
async fn is_out_of_memory(node: &Node, words: &[&str]) {
    let pod = words[0];
    let exit = node.run(node.greedy(pod, words)).await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"), "{pod}: {exit:?}");
    assert!(exit.message.contains("memory limit of 33554432 bytes"), "{pod}: {}", exit.message);
    nothing_is_held(node).await;
}

/// Stores go with their tasks, a moment after the end was told.
async fn nothing_is_held(node: &Node) {
    let gone = async {
        while node.fabric.account().used() != node.runtime.described()
            || node.fabric.files().used() != 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_holds_for_a_guest_is_on_its_memory() {
    let node = node();
    is_out_of_memory(&node, &["fields", "16000"]).await;
    is_out_of_memory(&node, &["clones", "16000"]).await;
    is_out_of_memory(&node, &["bodies", "5000"]).await;
    is_out_of_memory(&node, &["streams", "16000"]).await;
    is_out_of_memory(&node, &["requests", "600"]).await;
    is_out_of_memory(&node, &["views", "1000"]).await;
    is_out_of_memory(&node, &["emptied", "1000"]).await;
    is_out_of_memory(&node, &["burst", "400"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_request_needs_is_refused() {
    let node = node();
    let exit = node.run(node.greedy("words", &["words"])).await;
    assert_eq!(exit.code, 0, "{exit:?} {}", node.log("words"));
    let exit = node.run(node.greedy("few", &["requests", "100"])).await;
    assert_eq!(exit.code, 0, "words that are set again are there once: {exit:?}");
    let exit = node.run(node.greedy("trailers", &["trailers", "1000"])).await;
    assert_eq!(exit.code, 0, "{exit:?}");
    assert!(
        node.log("trailers").contains("trailers of more than 16384 bytes"),
        "{}",
        node.log("trailers")
    );
    let exit = node.run(node.greedy("waits", &["waits", "100000"])).await;
    assert_eq!(exit.code, 134, "{exit:?}");
    assert!(exit.message.contains("handle limit exceeded"), "{exit:?}");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_counts_until_its_answer_is_gone() {
    let node = node();
    let web = node.start(node.container("web", &guest("web")));
    node.started(&web).await;
    let web = format!("{}:8080", node.ip("web"));
    let id = node.start(node.greedy("uploads", &["uploads", &web, "4"]));
    node.logged("uploads", "ready").await;
    let used = || node.runtime.usage(&id).unwrap().1;
    let before = used();
    let _begin = node.dial("uploads", 7000).unwrap();
    node.logged("uploads", "kept").await;
    // What each connection has read and has to write, two pieces of the body that wait, and its trailers.
    let each = 8 * (64 << 10) + (16 << 10);
    let more = used() - before;
    assert!((4 * each..5 * each).contains(&more), "{more} bytes, and {} are expected", 4 * each);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_a_guest_has_no_place_for_is_broken_off() {
    let node = node();
    let id = node.start(node.greedy("crowded", &["crowded"]));
    node.logged("crowded", "listening").await;
    let mut conn = node.dial("crowded", 7000).unwrap();
    conn.write_all(b"hello").await.unwrap();
    let ended = tokio::time::timeout(support::SOON, conn.read(&mut [0; 8])).await.unwrap();
    assert!(ended.is_err(), "it looked whole: {ended:?}");
    node.logged("crowded", "new-socket-limit").await;
    node.runtime.stop(&id, Duration::ZERO);
    node.exited(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_lets_go_is_its_own_again() {
    let node = node();
    assert_eq!(node.run(node.greedy("turnover", &["turnover", "5000"])).await.code, 0);
    let mut few = node.greedy("few", &["handles", "1000"]);
    few.0.memory_limit = Some(4 << 20);
    assert_eq!(node.run(few).await.code, 0);
    let mut many = node.greedy("many", &["handles", "16000"]);
    many.0.memory_limit = Some(4 << 20);
    assert_eq!(node.run(many).await.reason, "OOMKilled");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_memory() {
    let node = node();
    let component = |tables: usize| {
        let tables = "(table 100000 funcref)".repeat(tables);
        let text = format!(
            r#"(component
                (core module $m {tables} (func (export "run") (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (func $run (result (result)) (canon lift (core func $i "run")))
                (instance $r (export "run" (func $run)))
                (export "wasi:cli/run@0.2.0" (instance $r)))"#
        );
        let artifact = node.dir.path().join(format!("{}.cwasm", text.len()));
        compile(&wat::parse_str(text).unwrap(), &artifact);
        artifact
    };
    let mut start = node.container("small", &component(10));
    start.0.memory_limit = Some(16 << 20);
    assert_eq!(node.run(start).await.reason, "Completed");
    let mut start = node.container("full", &component(30));
    start.0.memory_limit = Some(16 << 20);
    assert_eq!(node.run(start).await.reason, "OOMKilled");
}

/// Of one page, and never done.
const SPIN: &str = r#"(component
    (core module $m (memory 1) (func (export "run") (result i32) (loop $on (br $on)) (unreachable)))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $r (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $r)))"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_stack_of_every_instance_is_on_its_memory() {
    let node = node();
    let artifact = node.dir.path().join("spin.cwasm");
    compile(&wat::parse_str(SPIN).unwrap(), &artifact);
    let id = node.start(node.container("spin", &artifact));
    node.started(&id).await;
    // It is up a moment before its instance is made.
    let its_own = async {
        while node.runtime.usage(&id).unwrap().1 < GUEST_STACK_BYTES + (64 << 10) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, its_own).await.expect("a stack and a page are on it");
    let used = node.runtime.usage(&id).unwrap().1;
    assert!(used < 1 << 20, "{used}");
    node.runtime.stop(&id, Duration::ZERO);
    node.exited(&id).await;
    nothing_is_held(&node).await;
    // Of a handler there are as many as fit with their stacks.
    let mut start = node.container("web", &guest("web"));
    start.0.memory_limit = Some(8 << 20);
    let id = node.start(start);
    node.started(&id).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut conn = node.dial("web", 8080).unwrap();
        conn.write_all(b"GET /event HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        streams.push(conn);
    }
    let mut served = 0;
    for conn in &mut streams {
        let mut head = [0; 12];
        tokio::time::timeout(support::SOON, conn.read_exact(&mut head)).await.unwrap().unwrap();
        served += usize::from(&head == b"HTTP/1.1 200");
    }
    let used = node.runtime.usage(&id).unwrap().1;
    assert!(
        (1..8).contains(&served) && served * (GUEST_STACK_BYTES + (1 << 20)) <= used,
        "{served}: {used}"
    );
    assert!(used <= 8 << 20, "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptions_of_modules_are_on_the_nodes_memory() {
    let node = node();
    let (described, account) = (|| node.runtime.described(), node.fabric.account());
    let module = |name: &str, types: usize| {
        let types: String =
            (0..types).map(|n| format!("(type (func (param{})))", " i32".repeat(n))).collect();
        let text = SPIN.replacen("(core module $m", &format!("(core module $m {types}"), 1);
        let artifact = node.dir.path().join(format!("{name}.cwasm"));
        compile(&wat::parse_str(text).unwrap(), &artifact);
        artifact
    };
    let (small, large) = (module("small", 1), module("large", 200));
    let size = |artifact| usize::try_from(footprint::read(artifact).unwrap().description).unwrap();
    assert!(1 << 20 < size(&large), "{}", size(&large));
    let end = async |pod: &str, artifact: &std::path::Path| {
        let id = node.start(node.container(pod, artifact));
        node.started(&id).await;
        node.runtime.stop(&id, Duration::ZERO);
        node.exited(&id).await;
    };
    // It stays loaded, once for all that run it.
    end("one", &small).await;
    end("two", &small).await;
    assert_eq!(described(), size(&small));
    nothing_is_held(&node).await;
    // Where there is room for one of them only, the one that nothing runs goes.
    account.set_limit((size(&large) + size(&small) / 2) as u64);
    let exit = node.run(node.container("three", &large)).await;
    assert_eq!(exit.reason, "OOMKilled", "its description has room, and no instance: {exit:?}");
    assert_eq!(described(), size(&large));
    nothing_is_held(&node).await;
    end("four", &small).await;
    assert_eq!(described(), size(&small));
    nothing_is_held(&node).await;
    account.set_limit(size(&small) as u64 + 100);
    let exit = node.run(node.container("five", &large)).await;
    assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"), "{exit:?}");
    assert!(exit.message.contains("the node's memory is used up"), "{exit:?}");
    assert_eq!(described(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_that_nothing_runs_make_room_for_guests() {
    let node = node();
    let artifact = node.dir.path().join("idle.cwasm");
    let types: String =
        (0..200).map(|n| format!("(type (func (param{})))", " i32".repeat(n))).collect();
    let text = SPIN.replacen("(core module $m", &format!("(core module $m {types}"), 1);
    compile(&wat::parse_str(text).unwrap(), &artifact);
    let id = node.start(node.container("idle", &artifact));
    node.started(&id).await;
    node.runtime.stop(&id, Duration::ZERO);
    node.exited(&id).await;
    nothing_is_held(&node).await;
    let idle = node.runtime.described();
    assert_eq!(node.run(node.kit("first", &["exit", "0"])).await.code, 0);
    let (both, account) = (node.runtime.described(), node.fabric.account());
    assert!(1 << 20 < idle && idle < both, "{idle} of {both}");
    // With the idle module there is no room for the guest that comes.
    account.set_limit((both + (1 << 20)) as u64);
    let mut start = node.kit("second", &["exit", "0"]);
    start.0.env = vec![("A".to_owned(), "a".repeat(266 << 10))];
    let exit = node.run(start).await;
    assert_eq!(exit.code, 0, "{exit:?}");
    assert_eq!(node.runtime.described(), both - idle);
}

/// Takes one page after the other, slowly, for ever.
const HOG: &str = r#"(component
    (core module $m (memory 1) (func (export "run") (result i32) (local $i i32)
        (loop $more
            (drop (memory.grow (i32.const 1)))
            (local.set $i (i32.const 100000))
            (loop $wait (br_if $wait (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
            (br $more))
        (unreachable)))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $r (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $r)))"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_hog_that_is_evicted_gets_nothing_more_and_its_neighbour_does() {
    let node = node();
    node.fabric.account().set_limit(256 << 20);
    let artifact = node.dir.path().join("hog.cwasm");
    compile(&wat::parse_str(HOG).unwrap(), &artifact);
    let hog = node.start(node.container("hog", &artifact));
    node.fabric.account().reach(64 << 20).await;
    node.runtime.freeze_memory("hog");
    let exit = node.exited(&hog).await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"), "{exit:?}");
    assert!(
        exit.message.contains("memory limit of the pod"),
        "its own bound, not all pods': {exit:?}"
    );
    let exit = node.run(node.kit("neighbour", &["exit", "0"])).await;
    assert_eq!(exit.code, 0, "{exit:?}");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_environment_are_memory() {
    let node = node();
    let mut start = node.greedy("env", &["stay"]);
    start.0.env = vec![("A".to_owned(), "a".repeat(40 << 20))];
    assert_eq!(node.run(start).await.reason, "OOMKilled");
    // Whoever asks for it makes a copy.
    let mut start = node.greedy("copy", &["turnover", "1"]);
    start.0.env = vec![("A".to_owned(), "a".repeat(18 << 20))];
    assert_eq!(node.run(start).await.reason, "OOMKilled");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_idle_handler_was_given_is_on_its_memory() {
    let node = node();
    let mut start = node.container("web", &guest("web"));
    start.0.env = vec![("A".to_owned(), "a".repeat(4 << 20))];
    start.0.args.push("b".repeat(1 << 20));
    let id = node.start(start);
    node.started(&id).await;
    let used = || node.runtime.usage(&id).unwrap().1;
    let idle = used();
    assert!((5 << 20..(5 << 20) + (4 << 10)).contains(&idle), "{idle}");
    // What an instance takes beside it goes with the instance.
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    let gone = async {
        while used() != idle {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, gone).await.expect("its instance goes");
    node.runtime.stop(&id, Duration::ZERO);
    node.exited(&id).await;
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_has_no_room_for_what_it_is_given_is_out_of_memory() {
    let node = node();
    let mut start = node.container("web", &guest("web"));
    start.0.memory_limit = Some(16 << 20);
    start.0.env = vec![("A".to_owned(), "a".repeat(17 << 20))];
    let exit = node.run(start).await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"), "{exit:?}");
    assert!(exit.message.contains("memory limit of 16777216 bytes"), "{}", exit.message);
    // A pod is not larger for having many of them.
    node.pod_of("many", 16 << 20);
    let mut started = Vec::new();
    let why = loop {
        let mut start = node.container("many", &guest("web"));
        start.0.id.container = started.len().to_string();
        start.0.ports = vec![8000 + u16::try_from(started.len()).unwrap()];
        start.0.env = vec![("A".to_owned(), "a".repeat(5 << 20))];
        let id = node.start(start);
        // The first are up, and the next is not.
        if started.len() == 3 {
            break node.exited(&id).await;
        }
        node.started(&id).await;
        started.push(id);
    };
    assert_eq!((why.code, why.reason.as_str()), (137, "OOMKilled"), "{why:?}");
    assert!(why.message.contains("memory limit of the pod"), "{}", why.message);
    for id in &started {
        node.runtime.stop(id, Duration::ZERO);
        node.exited(id).await;
    }
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_opens_files_is_told_when_it_has_enough() {
    let node = node();
    let exit = node.run(node.greedy("files", &["files", "/v"])).await;
    assert_eq!(exit.code, 0, "{exit:?}");
    // Its mount is one of them.
    let opened = format!("opened {}: ", MAX_FILES - 1);
    assert!(node.log("files").contains(&opened), "{}", node.log("files"));
    assert!(node.log("files").contains("\"quota\""), "{}", node.log("files"));
    assert!(node.log("files").contains("the pod has 256 files open, as many as it may"));
    assert!(node.log("files").contains("again: true"), "what was closed may be opened again");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_opens_files_leaves_its_neighbours_some() {
    let node = node();
    node.fabric.files().set_limit(64);
    let _hog = node.greedy("hog", &["files", "/v"]);
    let files = node.fabric.pod("hog").unwrap().files().clone();
    let held: Vec<_> = std::iter::from_fn(|| files.take_share(1, FILES_LEAST).ok()).collect();
    assert_eq!(held.len(), 32, "half of what the node has");
    let exit = node.run(node.greedy("files", &["files", "/v"])).await;
    assert_eq!(exit.code, 0, "{exit:?}");
    // Half of the rest, and its mount is one of them.
    let log = node.log("files");
    assert!(log.contains("opened 15: ") && log.contains("\"quota\""), "{log}");
    assert!(log.contains("the pod has 16 files open, as many as it may"), "{log}");
    drop(held);
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_may_open_no_more_mounts_nothing() {
    let node = node();
    let start = || node.greedy("full", &["handles", "10"]);
    let waiting = start();
    let most = usize::try_from(MAX_FILES).unwrap();
    let others = node.fabric.pod("full").unwrap().files().take(most).unwrap();
    let exit = node.run(waiting).await;
    assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"));
    assert_eq!(exit.message, "cannot mount its volumes: too many open files");
    drop(others);
    let mut again = start();
    again.0.id.attempt = 1;
    assert_eq!(node.run(again).await.code, 0);
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_large_directories_are_memory() {
    let node = node();
    let exit = node.run(node.greedy("lists", &["lists", "2000"])).await;
    assert_eq!(exit.code, 0, "{exit:?} {}", node.log("lists"));
    let log = node.log("lists");
    let kept: usize = log.split(' ').next().unwrap().parse().unwrap();
    assert!(kept < 500, "{log}");
    assert!(log.contains("insufficient-memory") && log.contains("again: true"), "{log}");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_read_is_bounded_whoever_asks() {
    let node = node();
    let exit = node.run(node.greedy("unasked", &["unasked", "100000000"])).await;
    assert_eq!(exit.code, 134, "{exit:?}");
    assert!(exit.message.contains("exceeds what check-write allowed"), "{}", exit.message);
    let id = node.start(node.greedy("asked", &["asked", "1000", "stay"]));
    node.logged("asked", "done").await;
    let most = POD_RECEIVE_BYTES_MAX + (32 << 20) / 2;
    let used = node.fabric.pod("asked").unwrap().account().used();
    assert!((1 << 20..most + (2 << 20)).contains(&used), "{used} bytes are held");
    node.runtime.stop(&id, Duration::ZERO);
    node.exited(&id).await;
    let id = node.start(node.greedy("datagrams", &["datagrams", "1000", "stay"]));
    node.logged("datagrams", "1000 ports are full").await;
    let used = node.fabric.pod("datagrams").unwrap().account().used();
    assert!((1 << 20..POD_RECEIVE_BYTES_MAX + (4 << 20)).contains(&used), "{used} bytes are held");
    node.runtime.stop(&id, Duration::ZERO);
    node.exited(&id).await;
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_bind_the_ipv6_wildcard_serve_the_pod_s_addresses() {
    let node = node();
    for (pod, bind, to, seen) in [
        ("any", "[::]:7000", "IP:7000", "from ::ffff:IP to ::ffff:IP"),
        ("loop", "[::1]:7000", "127.0.0.1:7000", "from ::ffff:127.0.0.1 to ::ffff:127.0.0.1"),
        ("both", "[::]:7000", "[::1]:7000", "from ::1 to ::1"),
        ("four", "0.0.0.0:7000", "[::1]:7000", "from 127.0.0.1 to 127.0.0.1"),
        ("mapped", "[::]:7000", "[::ffff:IP]:7000", "from ::ffff:IP to ::ffff:IP"),
    ] {
        let id = node.start(node.greedy(pod, &["greet", bind]));
        node.logged(pod, &format!("listening on {bind}")).await;
        let of = |text: &str| text.replace("IP", &node.ip(pod));
        let mut client = node.greedy(pod, &["meet", &of(to)]);
        client.0.id.container = "client".to_owned();
        client.0.log = node.dir.path().join(format!("{pod}-client.log"));
        let exit = node.run(client).await;
        assert_eq!(exit.code, 0, "{pod}: {exit:?} {}", node.log(&format!("{pod}-client")));
        assert_eq!(node.exited(&id).await.code, 0, "{pod}: {}", node.log(pod));
        assert!(node.log(pod).contains(&of(seen)), "{pod}: {}", node.log(pod));
    }
}
