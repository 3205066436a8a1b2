//! Mappings of this process's memory: what runs takes, and who gets none. One test at a time, as all look at the process.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use freewheel_spoke_agent::ports::Containers as _;
use support::{Node, compile_core, guest, node, node_with_addresses};
use tokio::sync::Mutex;

static ALONE: Mutex<()> = Mutex::const_new(());

/// A program that says hello and waits for ever; of so many memories more, each with something behind its beginning, and
/// as many large tables.
fn program(node: &Node, more: usize) -> PathBuf {
    let memory = |number: usize| {
        format!(
            r#"(memory $m{number} 3) (data (memory $m{number}) (i32.const 70000) "x") (table 30000 funcref)"#
        )
    };
    let memories: String = (0..more).map(memory).collect();
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 3)
            {memories}
            (data (i32.const 0) "\10\00\00\00\06\00\00\00")
            (data (i32.const 16) "hello\n")
            (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (i32.store (i32.const 1040) (i32.const 1))
                (i64.store (i32.const 1048) (i64.const 3600000000000))
                (drop (call $poll (i32.const 1024) (i32.const 1200) (i32.const 1) (i32.const 8)))))"#
    );
    let artifact = node.dir.path().join(format!("{more}.cwasm"));
    compile_core(&wat::parse_str(text).unwrap(), &artifact);
    artifact
}

fn mapped() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_has_no_more_mappings_than_are_counted() {
    let _alone = ALONE.lock().await;
    let node = node();
    // Threads come once.
    let first = node.start(node.container("first", &program(&node, 0)));
    node.logged("first", "hello").await;
    for more in [0, 10] {
        let artifact = program(&node, more);
        let (before, counted) = (mapped(), node.fabric.mappings().used());
        let mut all = Vec::new();
        for number in 0..40 {
            let pod = format!("{more}-{number}");
            all.push(node.start(node.container(&pod, &artifact)));
            node.logged(&pod, "hello").await;
        }
        let has = mapped() - before;
        let counted = node.fabric.mappings().used() - counted;
        assert!(has <= counted, "{more}: {has} mappings, and {counted} are counted");
        assert!(counted <= 3 * has, "{more}: {has} mappings, and {counted} are counted");
        for id in &all {
            node.runtime.stop(id, Duration::ZERO);
            node.exited(id).await;
        }
    }
    node.runtime.stop(&first, Duration::ZERO);
    node.exited(&first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_mappings_is_told_and_hurts_nobody() {
    let _alone = ALONE.lock().await;
    let node = node();
    // So large ones that a dozen are all that a pod may have.
    let artifact = program(&node, 60);
    let mut all = Vec::new();
    let refused = loop {
        let mut start = node.container("hog", &artifact);
        start.0.id.container = format!("c{}", all.len());
        start.0.log = node.dir.path().join(format!("c{}.log", all.len()));
        let id = node.start(start);
        tokio::select! {
            exit = node.exited(&id) => break exit,
            () = node.logged(&id.container, "hello") => all.push(id.clone()),
        }
        assert!(all.len() < 20);
    };
    assert!(10 <= all.len(), "{}", all.len());
    assert_eq!((refused.code, refused.reason.as_str()), (128, "StartError"), "{refused:?}");
    assert!(refused.message.starts_with("the pod has as many mappings"), "{refused:?}");
    // Its neighbours have theirs, until the node has none.
    let neighbour = node.start(node.container("neighbour", &program(&node, 0)));
    node.logged("neighbour", "hello").await;
    node.fabric.mappings().set_limit(node.fabric.mappings().used() as u64 + 20);
    let exit = node.run(node.container("late", &artifact)).await;
    assert_eq!(exit.reason, "StartError", "{exit:?}");
    assert!(exit.message.starts_with("the node has as many mappings"), "{exit:?}");
    let exit = node.run(node.container("new", &program(&node, 61))).await;
    assert!(exit.message.contains("the node has as many mappings"), "{exit:?}");
    for id in all.iter().chain([&neighbour]) {
        node.runtime.stop(id, Duration::ZERO);
        node.exited(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_shared_out_as_well() {
    let _alone = ALONE.lock().await;
    // As on a kernel of 39 bits: for 63 memories with guards.
    let node = node_with_addresses(256 << 30);
    let artifact = program(&node, 5);
    let mut all = Vec::new();
    let refused = loop {
        let pod = format!("p{}", all.len());
        let id = node.start(node.container(&pod, &artifact));
        tokio::select! {
            exit = node.exited(&id) => break exit,
            () = node.logged(&pod, "hello") => all.push(id.clone()),
        }
        assert!(all.len() < 20);
    };
    assert_eq!(all.len(), 63 / 6, "of six memories each");
    assert!(refused.message.starts_with("the node has as many mappings"), "{refused:?}");
    for id in &all {
        node.runtime.stop(id, Duration::ZERO);
        node.exited(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_the_mappings_of_an_instance() {
    let _alone = ALONE.lock().await;
    let node = node();
    let id = node.start(node.container("web", &guest("web")));
    node.started(&id).await;
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    // For two or three instances.
    node.fabric.mappings().set_limit(40);
    let answers = futures::future::join_all((0..10).map(|_| node.get("web", 8080, "/slow"))).await;
    let codes: Vec<u16> = answers.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [200; 10]);
    assert!(node.fabric.mappings().used() <= 40);
}
