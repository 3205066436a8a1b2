//! What the other end of a program's connection hears, of its addresses and when the program goes.

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

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_a_guest_was_sending_when_it_failed_does_not_look_complete() {
    let node = node();
    let id = node.start(node.greedy("upload", &["half-upload", "127.0.0.1:7002"]));
    node.logged("upload", "ready").await;
    let pod = node.fabric.pod("upload").unwrap();
    let server = pod.listen("127.0.0.1:7002".parse().unwrap(), 8).unwrap();
    let come = || node.dial("upload", 7000).unwrap();
    let _begin = come();
    let accepted = tokio::time::timeout(SOON, server.accept()).await.unwrap();
    let mut heard = accepted.unwrap().into_io();
    let mut text = String::new();
    while !text.contains("half of it") {
        let mut piece = [0; 1024];
        let read = tokio::time::timeout(SOON, heard.read(&mut piece)).await.unwrap().unwrap();
        assert!(0 < read, "{text}");
        text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
    let _fail = come();
    assert_eq!(node.exited(&id).await.code, 134);
    // Whether it hears an error or nothing more: the chunk that says that all was said is not there.
    let _ = tokio::time::timeout(SOON, heard.read_to_string(&mut text)).await.unwrap();
    assert!(!text.ends_with("0\r\n\r\n"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_reach_who_binds_the_ipv6_wildcard_or_loopback() {
    let node = node();
    for (pod, bind, to) in
        [("any", "[::]:7001", "IP:7001"), ("loop", "[::1]:7001", "127.0.0.1:7001")]
    {
        let id = node.start(node.kit(pod, &["udp-echo", bind]));
        node.logged(pod, "ready").await;
        let to = to.replace("IP", &node.ip(pod));
        let mut client = node.kit(pod, &["udp-ask", &to, "hello"]);
        client.0.id.container = "client".to_owned();
        client.0.log = node.dir.path().join(format!("{pod}-client.log"));
        assert_eq!(node.run(client).await.code, 0, "{pod}");
        assert_eq!(node.log(&format!("{pod}-client")), "hello\n");
        node.runtime.stop(&id, Duration::ZERO);
        node.exited(&id).await;
    }
}
