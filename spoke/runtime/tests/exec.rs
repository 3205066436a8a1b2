//! Commands in containers that run.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::time::Duration;

use crate::support::{Node, SOON, guest, node};
use freewheel_spoke_agent::ports::Containers as _;
use freewheel_spoke_agent::uplink::Stdin;
use freewheel_spoke_runtime::{CannotExec, Executing, Source};

fn exec(
    node: &Node,
    pod: &str,
    words: &[&str],
    stdin: Option<Stdin>,
) -> Result<Executing, CannotExec> {
    let words = words.iter().map(ToString::to_string).collect();
    node.runtime.exec((pod, "main"), words, stdin)
}

/// All that a command says, and its code.
async fn said(mut command: Executing) -> (String, String, i32) {
    let (mut out, mut err) = (String::new(), String::new());
    let all = async {
        while let Some(pieces) = command.output().await {
            for (source, bytes) in pieces {
                let to = if source == Source::Stdout { &mut out } else { &mut err };
                to.push_str(std::str::from_utf8(&bytes).unwrap());
            }
        }
        command.exit().await.code
    };
    let code = tokio::time::timeout(SOON, all).await.unwrap();
    (out, err, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_beside_its_program_and_ends_with_it() {
    let node = node();
    let mut program = node.kit("p", &["begin", ""]);
    program.0.env = vec![("COLOUR".to_owned(), "blue".to_owned())];
    let id = node.start(program);
    node.logged("p", "ready").await;
    let (out, err, code) = said(exec(&node, "p", &["kit", "env", "COLOUR"], None).unwrap()).await;
    assert_eq!((out.as_str(), err.as_str(), code), ("blue [\"COLOUR\"]\n", "", 0));
    let (out, err, code) = said(exec(&node, "p", &["kit", "fail"], None).unwrap()).await;
    assert!(out.is_empty() && err.contains("failed on purpose"), "{out} {err}");
    assert_eq!(code, 1);
    // Its input, as much as there is of it.
    let input: Stdin = Box::new(std::io::Cursor::new(vec![b'x'; 300_000]));
    let (out, _, code) = said(exec(&node, "p", &["kit", "pass"], Some(input)).unwrap()).await;
    assert_eq!((out.len(), code), (300_000, 0));
    // What it says is not in the program's log.
    assert!(!node.log("p").contains("blue"));
    let sleeping = exec(&node, "p", &["kit", "sleep"], None).unwrap();
    let spinning = exec(&node, "p", &["kit", "spin"], None).unwrap();
    node.runtime.stop(&id, Duration::ZERO);
    for command in [sleeping, spinning] {
        assert_eq!(said(command).await.2, 137);
    }
    node.exited(&id).await;
    assert_eq!(exec(&node, "p", &["kit", "nop"], None).err(), Some(CannotExec::NotRunning));
    assert_eq!(exec(&node, "none", &["kit"], None).err(), Some(CannotExec::NotRunning));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_few_commands_at_a_time() {
    let node = node();
    node.start(node.kit("p", &["begin", ""]));
    node.logged("p", "ready").await;
    let sleep = || exec(&node, "p", &["kit", "sleep"], None);
    let mut all: Vec<_> = std::iter::from_fn(|| sleep().ok()).take(100).collect();
    assert_eq!(all.len(), 8);
    assert_eq!(sleep().err(), Some(CannotExec::TooMany));
    // Who is not wanted any more is killed, and its place is free.
    all.pop();
    let again = async {
        while sleep().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_requests_runs_no_commands() {
    let node = node();
    let id = node.start(node.container("web", &guest("web")));
    node.started(&id).await;
    assert_eq!(exec(&node, "web", &["x"], None).err(), Some(CannotExec::NoProgram));
}
