//! What is counted at the gates.

use freewheel_link::figures::{BothV1, GateV1};

use super::*;

fn gate(fabric: &Fabric, name: &str) -> GateV1 {
    fabric.gates().into_iter().find(|gate| gate.gate == name).unwrap()
}

/// Who was refused at a gate, and how often.
fn refused(fabric: &Fabric, name: &str) -> Vec<(String, u64)> {
    let refused = gate(fabric, name).refused.into_iter();
    refused.map(|loss| (loss.reason, loss.count)).collect()
}

#[tokio::test]
async fn a_connection_is_counted_at_every_gate_on_its_way() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
    let root = ClusterName::root();
    let spec = service("web").at("10.128.0.9").port(80).to("10.64.0.1", 80).0;
    fabric.set_service(&root, "default", "web", Some(spec));
    let near = connect(&client, "10.128.0.9:80").unwrap();
    let far = listener.accept().await.unwrap();
    for name in ["pod", "service"] {
        let gate = gate(&fabric, name);
        assert_eq!((gate.accepted, gate.open, gate.refused.len()), (1, 1, 0), "{name}");
    }
    near.tx.push(Bytes::from(vec![7; 200_000])).unwrap();
    assert_eq!(gate(&fabric, "pod").bytes.inward, 200_000, "it is told before the end");
    far.tx.push(Bytes::from_static(b"short")).unwrap();
    drop((near, far));
    for name in ["pod", "service"] {
        let gate = gate(&fabric, name);
        assert_eq!((gate.accepted, gate.open), (1, 0), "{name}");
        assert_eq!(gate.bytes, BothV1 { inward: 200_000, outward: 5 }, "{name}");
    }
    assert_eq!(gate(&fabric, "node_port").accepted, 0);
    let dialled = fabric.dial_from_link(&root, at("10.64.9.9:1"), at("10.64.0.1:80")).unwrap();
    assert_eq!((gate(&fabric, "link").open, gate(&fabric, "pod").open), (1, 1));
    drop((dialled, listener));
    assert_eq!((gate(&fabric, "link").open, gate(&fabric, "pod").open), (0, 0));
}

#[tokio::test]
async fn who_is_refused_is_counted_by_the_reason() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let spec = service("web").at("10.128.0.9").port(80).to("10.64.0.1", 80).0;
    fabric.set_service(&ClusterName::root(), "default", "web", Some(spec));
    assert!(connect(&client, "10.128.0.9:80").is_err());
    let _listener = web.listen(at("0.0.0.0:80"), 1).unwrap();
    let _waits = connect(&client, "10.64.0.1:80").unwrap();
    assert!(connect(&client, "10.64.0.1:80").is_err());
    assert!(connect(&client, "93.184.216.34:80").is_err());
    assert!(connect(&client, "10.64.0.99:80").is_err());
    let of = |reason: &str| (reason.to_owned(), 1);
    assert_eq!(refused(&fabric, "pod"), [of("refused"), of("full")]);
    assert_eq!(refused(&fabric, "service"), [of("refused")]);
    assert_eq!(refused(&fabric, "link"), [of("unreachable"), of("denied")]);
    assert_eq!((gate(&fabric, "pod").accepted, gate(&fabric, "pod").open), (1, 1));
}

#[tokio::test]
async fn what_comes_over_the_link_is_counted_once() {
    let fabric = fabric();
    let _web = add(&fabric, "web", "10.64.0.1");
    let root = ClusterName::root();
    let spec = service("web").at("10.128.0.9").port(80).to("10.64.0.1", 80).0;
    fabric.set_service(&root, "default", "web", Some(spec));
    let from = at("10.64.9.9:1");
    let dial = |to: &str| fabric.dial_from_link(&root, from, at(to)).map(drop);
    // Neither to a third node nor to a Service, whose endpoints may be there.
    assert_eq!(dial("10.64.0.99:80"), Err(NetError::Unreachable));
    assert_eq!(dial("10.128.0.9:80"), Err(NetError::Unreachable));
    assert_eq!(refused(&fabric, "link"), [("unreachable".to_owned(), 2)]);
    assert_eq!(dial("10.64.0.1:80"), Err(NetError::Refused));
    assert_eq!(refused(&fabric, "pod"), [("refused".to_owned(), 1)]);
    assert!(fabric.dial(&root, from, at("10.64.0.99:80")).await.is_err());
    assert_eq!(refused(&fabric, "link"), [("unreachable".to_owned(), 3)], "once");
    let lie = |from: &str, to: &str| {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        fabric.accept_datagram(&root, from, to, Bytes::from_static(b"hello"));
    };
    lie("93.184.216.34:53", "10.64.0.1:53");
    lie("10.64.9.9:53", "93.184.216.34:53");
    let lost = gate(&fabric, "link").lost;
    assert_eq!((lost[0].reason.as_str(), lost[0].count, lost.len()), ("denied", 2, 1));
}

#[tokio::test]
async fn datagrams_that_get_lost_are_counted_by_the_reason() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let from = client.bind_udp(at("0.0.0.0:0")).unwrap();
    let send = |to: &str| client.send_udp(&from, at(to), Bytes::from_static(b"hello"));
    send("10.64.0.1:53").unwrap();
    let _port = web.bind_udp(at("0.0.0.0:53")).unwrap();
    for _ in 0..1_030 {
        send("10.64.0.1:53").unwrap();
    }
    send("10.64.0.99:53").unwrap();
    // One that hears somebody else alone.
    let only = web.bind_udp(at("0.0.0.0:54")).unwrap();
    only.hear_only(at("10.64.0.9:53"));
    send("10.64.0.1:54").unwrap();
    let pod = gate(&fabric, "pod");
    let lost: Vec<_> = pod.lost.iter().map(|loss| (loss.reason.as_str(), loss.count)).collect();
    assert_eq!((lost, pod.datagrams.inward), (vec![("refused", 2), ("full", 6)], 1_024));
    assert_eq!(gate(&fabric, "link").lost[0].reason, "unreachable");
}
