//! Guests whose single instructions are long: whom they hold up, and whom they do not.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use freewheel_spoke_agent::ports::{ContainerId, Containers as _};
use support::{Node, compile, compile_core, guest, node, node_and_lane};

/// A component that begins with so many pages, grows by so many, and does this.
fn component(node: &Node, name: &str, (first, more): (usize, usize), work: &str) -> PathBuf {
    let text = format!(
        r#"(component
            (core module $m (memory {first}) (func (export "run") (result i32) (local $i i32)
                (drop (memory.grow (i32.const {more}))) {work}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $r (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $r)))"#
    );
    let artifact = node.dir.path().join(format!("{name}.cwasm"));
    compile(&wat::parse_str(text).unwrap(), &artifact);
    artifact
}

/// Half a gibibyte, three times over, without a loop in between.
fn fill() -> String {
    let once = "(memory.fill (i32.const 0) (i32.const 7) (i32.const 0x20000000))";
    format!("{once} {once} {once} (unreachable)")
}

/// The longest that somebody who asks for a turn every millisecond waits for it, until these have ended.
async fn longest_wait(node: &Node, lane: &tokio::runtime::Handle, ids: &[ContainerId]) -> Duration {
    let neighbour = lane.spawn(async {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            WAITED.store(u64::try_from(longest.as_millis()).unwrap(), Relaxed);
        }
    });
    for id in ids {
        assert_eq!(node.exited(id).await.code, 134);
    }
    // What it waited for last has to be over.
    tokio::time::sleep(Duration::from_millis(50)).await;
    neighbour.abort();
    Duration::from_millis(WAITED.load(Relaxed))
}

static WAITED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn one_instruction_over_a_large_memory_holds_up_no_neighbour() {
    let (node, lane) = node_and_lane();
    let grows = component(&node, "grows", (1, 0x2000), &fill());
    let begins = component(&node, "begins", (0x2000, 1), &fill());
    let pods = [("a", &grows), ("b", &begins)];
    let ids = pods.map(|(pod, artifact)| node.start(node.container(pod, artifact)));
    let longest = longest_wait(&node, &lane, &ids).await;
    // Where they run among the others, it waits for a whole instruction: more than half a second.
    assert!(longest < Duration::from_millis(250), "{longest:?}");
}

/// Whether it is on the other lane, a while after it is up.
async fn has_moved(node: &Node, pod: &str, artifact: &std::path::Path) -> bool {
    let id = node.start(node.container(pod, artifact));
    node.logged(pod, "ready").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let moved = node.runtime.usage(&id).unwrap().0.demoted.load(Relaxed);
    node.runtime.stop(&id, Duration::ZERO);
    node.exited(&id).await;
    moved == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_much_memory_leaves_the_others_before_it_can_work_on_it() {
    let node = node();
    let program = |first: usize, more: usize| {
        let text = format!(
            r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") {first} 1000)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00")
            (data (i32.const 16) "ready\n")
            (func (export "_start")
                (drop (memory.grow (i32.const {more})))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (i32.store (i32.const 1040) (i32.const 1))
                (i64.store (i32.const 1048) (i64.const 3600000000000))
                (drop (call $poll (i32.const 1024) (i32.const 1200) (i32.const 1) (i32.const 8)))))"#
        );
        let artifact = node.dir.path().join(format!("{first}-{more}.cwasm"));
        compile_core(&wat::parse_str(text).unwrap(), &artifact);
        artifact
    };
    // In pages of 64 KiB.
    assert!(!has_moved(&node, "small", &program(1, 1)).await);
    assert!(!has_moved(&node, "up-to-the-bound", &program(1, 255)).await);
    assert!(has_moved(&node, "beyond", &program(1, 256)).await);
    assert!(has_moved(&node, "from-the-start", &program(257, 1)).await);
    assert!(!has_moved(&node, "refused-by-its-own-maximum", &program(1, 2000)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_had_much_memory_once_stays_away() {
    let node = node();
    let mut web = node.container("web", &guest("web"));
    web.0.memory_limit = Some(64 << 20);
    let id = node.start(web);
    node.started(&id).await;
    let moved = || node.runtime.usage(&id).unwrap().0.demoted.load(Relaxed);
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    assert_eq!(moved(), 0);
    assert_eq!(node.get("web", 8080, "/eat").await.0, 500);
    assert_eq!(moved(), 1);
    // The next instance begins where the last one was.
    assert_eq!(node.get("web", 8080, "/eat").await.0, 500);
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    assert_eq!(moved(), 1);
}
