//! Files of components, which wait for a disk that is slow.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use crate::support::{self, Node, Start, node};
use freewheel_spoke_agent::host_dir::HostDir;
use freewheel_spoke_agent::ports::{ContainerId, Containers as _};
use freewheel_spoke_agent::volumes::Mount;

/// The program `kit` that shows one of the node's files.
fn shows(node: &Node, pod: &str, container: &str, name: &str) -> Start {
    let mut start = node.sidecar(pod, container, &["cat", &format!("/v/{name}")]);
    let dir = HostDir::open(node.dir.path()).unwrap();
    start.1 = vec![Mount { dir, guest: "/v".to_owned(), read_only: true }];
    start
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_file_calls_of_one_pods_components_hold_up_no_other() {
    let node = node();
    // Whoever opens it for reading waits until somebody opens it for writing.
    let pipe = node.dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::write(node.dir.path().join("file"), "at once").unwrap();
    let slow: Vec<ContainerId> = (0..9)
        .map(|number| node.start(shows(&node, "slow", &format!("c{number}"), "pipe")))
        .collect();
    // Of each its mount, and the file that it waits for.
    let all_wait = async {
        while node.fabric.files().used() < 2 * slow.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, all_wait).await.unwrap();
    assert_eq!(node.run(shows(&node, "other", "other", "file")).await.code, 0);
    assert_eq!(node.log("other"), "at once\n");
    let writer = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    for id in &slow {
        // What is no file, upstream refuses once it is open; or it is read to its end.
        node.exited(id).await;
    }
    drop(writer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_thread_has_its_places_when_its_container_is_gone() {
    let node = node();
    let pipe = node.dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let all: Vec<ContainerId> = (0..9)
        .map(|number| node.start(shows(&node, "slow", &format!("c{number}"), "pipe")))
        .collect();
    let used = |wanted: usize| {
        let node = &node;
        async move {
            while node.fabric.files().used() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    tokio::time::timeout(support::SOON, used(2 * all.len())).await.unwrap();
    for id in &all {
        node.runtime.stop(id, Duration::ZERO);
        node.exited(id).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let left = node.fabric.files().used();
    let writer = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    // None of those that wait has its file open, and each the directory that it is in.
    assert_eq!(left, all.len());
    tokio::time::timeout(support::SOON, used(0)).await.unwrap();
    drop(writer);
}

async fn soon(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, wait).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_brings_counts_until_its_turn_has_come() {
    let node = node();
    let pipe = node.dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut all = vec![node.start(node.greedy("slow", &["overwrite"]))];
    node.logged("slow", "ready").await;
    // These have all of the pod's threads, and each its mount and a file beside those of the first.
    for number in 0..4 {
        all.push(node.start(shows(&node, "slow", &format!("c{number}"), "pipe")));
    }
    soon(|| node.fabric.files().used() == 10).await;
    let used = || node.runtime.usage(&all[0]).unwrap().1;
    let before = used();
    let _begin = node.dial("slow", 7000).unwrap();
    let piece = 64 << 10;
    soon(|| before + piece <= used()).await;
    for id in &all {
        node.runtime.stop(id, Duration::ZERO);
        node.exited(id).await;
    }
    let held = || node.fabric.account().used() - node.runtime.described();
    // Stores go with their tasks, a moment after the end was told.
    soon(|| held() < 2 * piece).await;
    let left = held();
    let writer = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    assert!((piece..piece + 100).contains(&left), "{left} bytes");
    soon(|| held() == 0).await;
    drop(writer);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_is_longer_than_the_kernel_takes() {
    let node = node();
    assert_eq!(node.run(node.greedy("paths", &["paths"])).await.code, 0);
    assert_eq!(node.log("paths"), "name-too-long\n".repeat(14) + "done\n");
}
