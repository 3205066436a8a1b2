//! Which pods a device takes on.

use freewheel_link::plan::{ContainerPortV1, PodOsV1, Protocol};

use super::*;

fn on_port(name: &str, host_port: u16, protocol: Protocol) -> PodV1 {
    let mut pod = pod(name);
    let port =
        ContainerPortV1 { name: String::new(), port: 80, protocol, host_port: Some(host_port) };
    pod.containers[0].ports = vec![port];
    pod
}

fn in_realm(pod: &PodV1, realm: &str) -> Record {
    let mut record = pod_record(pod);
    record.key.realm = ClusterName::try_from(realm).unwrap();
    record
}

#[tokio::test(start_paused = true)]
async fn a_port_of_the_node_has_the_pod_that_came_first() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.send(Input::Connected(Some(1))).await;
    let own = PodCidrV1 { base: [10, 64, 4, 0].into(), prefix: 24 };
    let mut range_of_pi = record(Kind::POD_CIDR_V1, "10.64.4.0/24", &own);
    range_of_pi.key.realm = ClusterName::try_from("pi-7").unwrap();
    first.plan(vec![range(), range_of_pi], vec![]).await;
    first.plan(vec![pod_record(&on_port("z", 8080, Protocol::Tcp))], vec![]).await;
    let others = vec![
        pod_record(&on_port("a", 8080, Protocol::Tcp)),
        in_realm(&on_port("b", 8080, Protocol::Tcp), "pi-7"),
        pod_record(&on_port("c", 8080, Protocol::Udp)),
        pod_record(&on_port("d", 8081, Protocol::Tcp)),
    ];
    first.plan(others, vec![]).await;
    assert_eq!(first.names(), ["c", "d", "z"]);
    for name in ["a", "b"] {
        let said = first.said(name).unwrap();
        assert_eq!((said.phase, &*said.reason), (PhaseV1::Failed, "NodePorts"), "{name}");
        let text = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        assert_eq!(said.message, text);
    }
    let event = "Warning NodePorts: Predicate NodePorts failed: node(s) didn't";
    assert_eq!(first.events().iter().filter(|told| told.starts_with(event)).count(), 2);
    // One that ends its grace period has its port still; one that nobody waits for has none.
    let deleting = PodV1 { deleting: Some(30), ..on_port("z", 8080, Protocol::Tcp) };
    *first.world.engine.stubborn.lock() = true;
    first
        .plan(vec![pod_record(&deleting), pod_record(&on_port("e", 8080, Protocol::Tcp))], vec![])
        .await;
    assert_eq!(first.said("e").unwrap().reason, "NodePorts");
    let put = vec![pod_record(&on_port("f", 8080, Protocol::Tcp))];
    first.plan(put, vec![pod_record(&deleting).key]).await;
    assert!(first.names().contains(&"f".to_owned()), "{:?}", first.names());
    first.end().await;
    // Nobody is asked twice.
    let second = run(&disk);
    second.rest().await;
    assert_eq!(second.names(), ["c", "d", "f"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_for_another_system_is_not_taken_on() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.send(Input::Connected(Some(1))).await;
    first.plan(vec![range()], vec![]).await;
    let of = |name: &str, os: &str| {
        let mut pod = pod(name);
        pod.parts.put(&PodOsV1 { name: os.to_owned() }).unwrap();
        pod_record(&pod)
    };
    first.plan(vec![of("a", "windows"), of("b", "linux")], vec![]).await;
    assert_eq!(first.names(), ["b"]);
    let said = first.said("a").unwrap();
    assert_eq!((said.phase, &*said.reason), (PhaseV1::Failed, "PodOSNotSupported"));
    let text = "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS";
    assert_eq!(said.message, text);
}
