//! UDP between spokes: who may send what, and how an answer finds the node that the question came through.

use crate::support::*;

fn datagram(realm: &str, from: &str, to: &str) -> DatagramV1 {
    DatagramV1 {
        realm: ClusterName::try_from(realm).unwrap(),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        payload: bytes::Bytes::from_static(b"who?"),
    }
}

fn send(link: &memory_transport::MemoryTransport, datagram: DatagramV1) {
    let bytes = postcard::to_stdvec(&SpokeToHub::Datagram(datagram)).unwrap();
    assert!(link.offer_datagram(bytes.into()));
}

/// The next one that came through. Nothing overtakes on these links.
async fn next(link: &memory_transport::MemoryTransport) -> DatagramV1 {
    let next = tokio::time::timeout(Duration::from_secs(10), link.datagram());
    let bytes = next.await.unwrap().unwrap();
    match frame::decode::<HubToSpoke>(&bytes).unwrap() {
        HubToSpoke::Datagram(datagram) => datagram,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pods_datagram_is_relayed_between_leased_addresses_only() {
    let hub = Hub::new(true).await;
    let ((first, _one), (second, _two)) = (hub.spoke("pi-7").await, hub.spoke("pi-8").await);
    let links = [first, second];
    hub.lease("10.64.0.0", "pi-7").await;
    hub.lease("10.64.1.0", "pi-8").await;
    let good = datagram("root", "10.64.0.2:4000", "10.64.1.2:53");
    for bad in [
        datagram("root", "10.64.1.2:4000", "10.64.1.3:53"),
        datagram("root", "169.254.64.2:4000", "10.64.1.2:53"),
        datagram("root", "10.64.0.2:4000", "10.64.9.2:53"),
        datagram("root", "10.64.0.2:4000", "10.64.0.3:53"),
        datagram("pi-8", "10.64.0.2:4000", "10.64.1.2:53"),
        // Nodes speak by their doors; these may not be put on.
        datagram("root", "10.64.0.1:4000", "10.64.1.2:53"),
        datagram("root", "10.64.1.1:4000", "10.64.1.2:53"),
        datagram("pi-8", "169.254.64.1:4000", "10.64.1.2:53"),
    ] {
        send(&links[0], bad);
    }
    send(&links[0], good.clone());
    assert_eq!(next(&links[1]).await, good);
    assert_eq!(hub.gateway.lost_datagrams(), 8);
}

#[tokio::test]
async fn an_answer_goes_to_the_node_that_the_question_came_through() {
    let hub = Hub::new(true).await;
    let ((pod, _pod), (first, _first)) = (hub.spoke("pi-7").await, hub.spoke("pi-8").await);
    let (second, _second) = hub.spoke("pi-9").await;
    hub.lease("10.64.0.0", "pi-7").await;
    // Neither has a pod, and so no address yet. Both use the same port of the same door.
    let question = datagram("root", &format!("{SNAT_ADDRESS}:32768"), "10.64.0.2:53");
    let mut seen = Vec::new();
    for node in [&first, &second, &first, &second] {
        send(node, question.clone());
        let asked = next(&pod).await;
        assert_eq!((asked.to, &asked.payload[..]), (question.to, &b"who?"[..]));
        seen.push(asked.from);
    }
    let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
    let addresses = ["10.64.1.1:32768", "10.64.2.1:32768"];
    assert_eq!(seen, [addresses, addresses].concat(), "one address each, and it stays");
    for (node, address) in [(&first, addresses[0]), (&second, addresses[1])] {
        let answer = datagram("root", "10.64.0.2:53", address);
        send(&pod, answer.clone());
        let heard = next(node).await;
        let door = format!("{SNAT_ADDRESS}:32768").parse().unwrap();
        assert_eq!(heard, DatagramV1 { to: door, ..answer });
    }
    assert_eq!(hub.gateway.lost_datagrams(), 0);
    // Nobody is there for it: that costs no address.
    send(&pod, datagram("root", &format!("{SNAT_ADDRESS}:32768"), "10.64.77.2:53"));
    eventually("it is lost", || hub.gateway.lost_datagrams() == 1).await;
    let snapshot = hub.objects.store().snapshot();
    let scope = Scope { resource: internal::pod_cidrs(), cluster: None, namespace: None };
    assert_eq!(snapshot.range(&scope, None).count(), 3);
}
