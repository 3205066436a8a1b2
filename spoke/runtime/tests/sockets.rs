//! What the other end of a program's connection hears when the program goes.

use std::time::Duration;

use crate::support::{SOON, node};
use freewheel_spoke_agent::ports::Containers as _;
use tokio::io::AsyncReadExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_was_saying_when_it_failed_is_broken_off() {
    let node = node();
    for (end, whole) in [("panic", false), ("kill", false), ("exit", true)] {
        let id = node.start(node.kit(end, &["half", "0.0.0.0:7000", end]));
        node.logged(end, "ready").await;
        let mut client = node.dial(end, 7000).unwrap();
        let mut half = [0; 4];
        client.read_exact(&mut half).await.unwrap();
        assert_eq!(&half, b"half");
        if end == "kill" {
            node.runtime.stop(&id, Duration::ZERO);
        }
        let rest = tokio::time::timeout(SOON, client.read(&mut half)).await.unwrap();
        // As Linux has it: a program that ends closes what it has open.
        assert_eq!(rest.is_ok(), whole, "{end}: {rest:?}");
        node.exited(&id).await;
    }
}
