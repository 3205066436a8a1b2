//! What programs touch of their native stacks, on the node's memory.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use crate::support::{self, Node, compile_core, node};
use freewheel_spoke_agent::ports::{ContainerId, Containers as _};
use freewheel_spoke_engine::GUEST_STACK_BYTES;

/// A program of one page that goes so many calls deep, says hello, and waits for ever.
fn program(node: &Node, depth: usize) -> PathBuf {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00")
            (data (i32.const 16) "hello\n")
            (func $deep (param i32) (result i32)
                (if (result i32) (local.get 0)
                    (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
                    (else (i32.const 0))))
            (func (export "_start")
                (drop (call $deep (i32.const {depth})))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (i32.store (i32.const 1040) (i32.const 1))
                (i64.store (i32.const 1048) (i64.const 3600000000000))
                (drop (call $poll (i32.const 1024) (i32.const 1200) (i32.const 1) (i32.const 8)))))"#
    );
    let artifact = node.dir.path().join(format!("{depth}.cwasm"));
    compile_core(&wat::parse_str(text).unwrap(), &artifact);
    artifact
}

/// Waits until it waits, and its stack is counted; with what the node's guests hold then.
async fn waiting(node: &Node, pod: &str, depth: usize, least: usize) -> (ContainerId, usize) {
    let id = node.start(node.container(pod, &program(node, depth)));
    node.logged(pod, "hello").await;
    let held = || node.fabric.account().used() - node.runtime.described();
    let counted = async {
        while held() < least {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, counted).await.unwrap();
    (id, held())
}

async fn end(node: &Node, id: &ContainerId) {
    node.runtime.stop(id, Duration::ZERO);
    node.exited(id).await;
    let gone = async {
        while node.fabric.account().used() != node.runtime.described() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, gone).await.unwrap();
}

/// Deep enough for three quarters of a stack, whatever a call takes.
const DEEP: usize = 12_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_node_counts_what_a_program_has_touched_of_its_stack() {
    let node = node();
    let page = 64 << 10;
    let (id, flat) = waiting(&node, "flat", 1, page).await;
    assert!(flat < page + GUEST_STACK_BYTES / 4, "{flat}");
    // Its container counts all that it could touch, so that its limit is what it was.
    assert!(page + GUEST_STACK_BYTES <= node.runtime.usage(&id).unwrap().1);
    end(&node, &id).await;
    let (id, deep) = waiting(&node, "deep", DEEP, flat + GUEST_STACK_BYTES / 2).await;
    assert!(deep < flat + GUEST_STACK_BYTES + page, "{deep}");
    end(&node, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_touches_more_stack_than_there_is_room_for_ends() {
    let node = node();
    let (id, flat) = waiting(&node, "flat", 1, 64 << 10).await;
    // For another one as flat, and its module.
    let room = 2 * (node.runtime.described() + flat) + GUEST_STACK_BYTES / 8;
    node.fabric.account().set_limit(room as u64);
    let exit = node.run(node.container("deep", &program(&node, DEEP))).await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"), "{exit:?}");
    assert!(exit.message.starts_with("the node's memory is used up"), "{exit:?}");
    // Who waited meanwhile still does.
    assert!(node.runtime.usage(&id).is_some());
    end(&node, &id).await;
}
