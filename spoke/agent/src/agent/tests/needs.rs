//! Records that need what this agent does not have: they open nothing, whatever they are of.

use freewheel_link::plan::{
    NodeV1, ProjectedV1, Protocol, ServicePortV1, ServiceV1, VolumeSourceV1, VolumeV1,
};

use super::lives::{job, unreadable};
use super::*;

/// A feature of a later release.
const LATER: u64 = 1 << 40;

fn needing(record: &Record) -> Record {
    Record { needs: LATER, ..record.clone() }
}

/// What protects the pods of the root, and is of a later release.
fn policy() -> Record {
    let key = RecordKey { realm: ClusterName::root(), kind: Kind(999), key: "policy".to_owned() };
    Record { key, revision: 1, needs: LATER, body: vec![7] }
}

#[tokio::test(start_paused = true)]
async fn what_comes_to_protect_a_realm_and_is_not_known_here_stops_its_pods_until_it_is_gone() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a")), pod_record(&job("b"))], vec![]).await;
    assert_eq!(run.running(), ["a web/0", "b web/0"]);
    run.plan(vec![policy()], vec![]).await;
    assert_eq!(run.running(), [""; 0]);
    for name in ["a", "b"] {
        let said = run.said(name).unwrap();
        assert_eq!((said.phase, &*said.reason), (PhaseV1::Running, "UnsupportedFeature"));
    }
    let told = run.events();
    assert!(told.iter().any(|it| it.contains("what protects the pod's cluster needs")), "{told:?}");
    run.plan(vec![], vec![policy().key]).await;
    assert_eq!(run.running(), ["a web/1", "b web/1"]);
}

#[tokio::test(start_paused = true)]
async fn what_protects_one_namespace_stops_no_pod_of_another() {
    let of = |key: &str| {
        let policy = policy();
        Record { key: RecordKey { key: key.to_owned(), ..policy.key }, ..policy }
    };
    let mut other = pod("b");
    other.namespace = "other".to_owned();
    let mut run = run(&SimDisk::default());
    run.plan(vec![range(), pod_record(&pod("a")), pod_record(&other)], vec![]).await;
    run.plan(vec![of("other/policy")], vec![]).await;
    assert_eq!(run.running(), ["a web/0"]);
    // What is about addresses is about everybody's.
    run.plan(vec![of("10.0.0.0/8")], vec![of("other/policy").key]).await;
    assert_eq!(run.running(), [""; 0]);
    run.plan(vec![], vec![of("10.0.0.0/8").key]).await;
    assert_eq!(run.running(), ["a web/1", "b web/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_read_is_stopped_by_what_protects_its_realm() {
    let mut run = run(&SimDisk::default());
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    run.plan(vec![unreadable(&pod("a"))], vec![]).await;
    assert_eq!(run.running(), ["a web/0"]);
    run.plan(vec![policy()], vec![]).await;
    assert_eq!(run.running(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_needs_what_is_not_known_here_is_not_served() {
    let (name, protocol, node_port) = (String::new(), Protocol::Tcp, Some(30080));
    let port = ServicePortV1 { name, protocol, port: 80, node_port };
    let service = ServiceV1 {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        cluster_ip: None,
        external_name: None,
        ports: vec![port],
        endpoints: vec![],
        affinity_seconds: None,
    };
    let open = record(Kind::SERVICE_V1, "default/web", &service);
    let served = |run: &Run| run.world.fabric.services.lock().len();
    let mut run = run(&SimDisk::default());
    run.plan(vec![needing(&open)], vec![]).await;
    assert_eq!(served(&run), 0);
    run.plan(vec![open.clone()], vec![]).await;
    assert_eq!(served(&run), 1);
    // Nor as it was before it was protected, whether what it is now can be read or not.
    run.plan(vec![Record { body: vec![9], ..needing(&open) }], vec![]).await;
    assert_eq!(served(&run), 0);
}

#[tokio::test(start_paused = true)]
async fn configuration_that_needs_what_is_not_known_here_is_missing() {
    let mut shows = pod("a");
    let from = ProjectedV1 {
        kind: Kind::SECRET_V1,
        name: "conf".to_owned(),
        items: vec![],
        mode: 0o644,
        optional: false,
    };
    let source = VolumeSourceV1::Config(from);
    shows.volumes = vec![VolumeV1 { name: "conf".to_owned(), source }];
    let data = vec![("key".to_owned(), b"1".to_vec())];
    let conf = record(Kind::SECRET_V1, "default/conf", &ConfigV1 { data });
    let mut run = run(&SimDisk::default());
    run.plan(vec![range(), needing(&conf), pod_record(&shows)], vec![]).await;
    assert_eq!(run.names(), [""; 0]);
    run.plan(vec![conf], vec![]).await;
    assert_eq!(run.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn addresses_that_need_what_is_not_known_here_are_given_to_no_pod() {
    let mut run = run(&SimDisk::default());
    run.plan(vec![needing(&range()), pod_record(&pod("a"))], vec![]).await;
    assert_eq!(run.names(), [""; 0]);
    run.plan(vec![range()], vec![]).await;
    assert_eq!(run.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_needs_what_is_not_known_here_keeps_its_domain() {
    let domain = |run: &Run| run.world.fabric.domain.lock().clone();
    let node = |domain: &str| {
        let domain = domain.to_owned();
        let node = NodeV1 { name: "pi-7".to_owned(), domain, heartbeat_seconds: 10 };
        record(Kind::NODE_V1, "node", &node)
    };
    let mut run = run(&SimDisk::default());
    run.plan(vec![node("one.local")], vec![]).await;
    assert_eq!(domain(&run), "one.local");
    run.plan(vec![needing(&node("two.local"))], vec![]).await;
    assert_eq!(domain(&run), "one.local");
}
