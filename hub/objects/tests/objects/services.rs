//! Addresses and node ports.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use freewheel_hub_objects::{DeleteOptions, WriteOptions, Written};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Resource;
use freewheel_hub_store::Scope;
use serde_json::{Value, json};

use super::crowd::Crowd;
use super::kit::{PATIENCE, World, of, place, refused, value};

fn service(name: &str, kind: &str) -> Value {
    let spec = json!({"type": kind, "ports": [{"port": 80}], "selector": {"app": name}});
    json!({"metadata": {"name": name}, "spec": spec})
}

/// Everything that is held, as `cluster/name=owner`.
fn held(world: &World, plural: &str) -> Vec<String> {
    let scope =
        Scope { resource: Resource::new("internal", plural), cluster: None, namespace: None };
    let snapshot = world.objects.store().snapshot();
    let all = snapshot.range(&scope, None);
    all.map(|stored| {
        let owner: Value = serde_json::from_slice(&stored.object.body).unwrap();
        assert_eq!(owner["namespace"], "default");
        let (realm, name) = (owner["realm"].as_str().unwrap(), owner["name"].as_str().unwrap());
        format!("{}/{}={realm}:{name}", stored.key.cluster, stored.key.name)
    })
    .collect()
}

async fn create(world: &World, value: Value) -> Value {
    super::kit::value(&world.create("services", value).await.unwrap().stored)
}

#[tokio::test]
async fn a_service_gets_an_address_of_its_own() {
    let world = World::new().await;
    let mut seen = BTreeSet::new();
    for index in 0..20 {
        let made = create(&world, service(&format!("s{index}"), "ClusterIP")).await;
        let address: Ipv4Addr = made["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        assert_eq!(address.octets()[0], 10);
        assert_eq!(address.octets()[1] & 0xf0, 128);
        assert_eq!(made["spec"]["clusterIPs"], json!([address.to_string()]));
        assert!(seen.insert(address));
    }
    assert_eq!(held(&world, "clusterips").len(), 20);
    assert!(held(&world, "nodeports").is_empty());
}

/// Addresses that have an object, and whose they are.
fn shown(world: &World) -> Vec<String> {
    let resource = Resource::new("networking.k8s.io", "ipaddresses");
    let scope = Scope { resource, cluster: None, namespace: None };
    let snapshot = world.objects.store().snapshot();
    let all = snapshot.range(&scope, None).map(|stored| {
        let value = value(&stored);
        let parent = &value["spec"]["parentRef"];
        assert_eq!(value["metadata"]["name"], *stored.key.name);
        assert!(value["metadata"]["uid"].is_string() && value["kind"] == "IPAddress");
        format!("{}={}", stored.key.name, parent["name"].as_str().unwrap())
    });
    all.collect()
}

#[tokio::test]
async fn an_address_has_an_object_as_long_as_it_is_held() {
    let world = World::new().await;
    let mut wanted = service("web", "ClusterIP");
    wanted["spec"]["clusterIP"] = json!("10.128.0.9");
    create(&world, wanted).await;
    assert_eq!(shown(&world), ["10.128.0.9=web"]);
    let stored = world.objects.get(&place("ipaddresses", "root", "", "10.128.0.9")).unwrap();
    assert_eq!(
        value(&stored)["metadata"]["labels"],
        json!({"ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    );
    let outside = |mut value: Value| {
        value["spec"] = json!({"type": "ExternalName", "externalName": "example.com"});
        Ok(value)
    };
    let at = place("services", "root", "default", "web");
    world.objects.modify(&WriteOptions::default(), &at, None, outside).await.unwrap();
    assert!(shown(&world).is_empty());
    let again = create(&world, service("other", "ClusterIP")).await;
    assert_eq!(shown(&world), [format!("{}=other", again["spec"]["clusterIP"].as_str().unwrap())]);
    let at = place("services", "root", "default", "other");
    world.objects.delete(&WriteOptions::default(), &at, &DeleteOptions::default()).await.unwrap();
    assert!(shown(&world).is_empty());
}

#[tokio::test]
async fn an_address_of_somebody_else_is_not_given_away() {
    let world = World::new().await;
    let theirs = json!({"metadata": {"name": "10.128.0.9"},
        "spec": {"parentRef": {"group": "example.com", "resource": "lamps", "name": "one"}}});
    world.create("ipaddresses", theirs).await.unwrap();
    let mut wanted = service("web", "ClusterIP");
    wanted["spec"]["clusterIP"] = json!("10.128.0.9");
    let error = world.create("services", wanted.clone()).await.unwrap_err();
    assert!(error.message.contains("provided IP is already allocated"), "{error}");
    let at = place("ipaddresses", "root", "", "10.128.0.9");
    world.objects.delete(&WriteOptions::default(), &at, &DeleteOptions::default()).await.unwrap();
    create(&world, wanted).await;
    assert_eq!(shown(&world), ["10.128.0.9=web"]);
}

#[tokio::test]
async fn an_address_may_be_asked_for_once() {
    let world = World::new().await;
    let mut wanted = service("kubernetes", "ClusterIP");
    wanted["spec"]["clusterIP"] = json!("10.128.0.1");
    create(&world, wanted.clone()).await;
    assert_eq!(held(&world, "clusterips"), ["root/10.128.0.1=root:kubernetes"]);
    wanted["metadata"]["name"] = json!("b");
    let error = world.create("services", wanted.clone()).await.unwrap_err();
    assert_eq!(error.code, 422);
    assert!(error.message.contains("provided IP is already allocated"), "{error}");
    assert_eq!(error.details.unwrap().causes[0].field, "spec.clusterIPs");
    // Another realm has addresses of its own.
    let other = place("services", "pi-7", "default", "");
    world.objects.create(&WriteOptions::default(), &other, wanted.clone()).await.unwrap();
    wanted["spec"]["clusterIP"] = json!("10.127.0.1");
    let error = world.create("services", wanted).await.unwrap_err();
    assert!(error.message.contains("not in the valid range"), "{error}");
}

#[tokio::test]
async fn headless_and_external_services_hold_nothing() {
    let world = World::new().await;
    let mut headless = service("h", "ClusterIP");
    headless["spec"]["clusterIP"] = json!("None");
    assert_eq!(create(&world, headless).await["spec"]["clusterIPs"], json!(["None"]));
    let external =
        json!({"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "a.b"}});
    assert!(create(&world, external).await["spec"].get("clusterIP").is_none());
    assert!(held(&world, "clusterips").is_empty());
}

async fn in_cluster(world: &World, cluster: &str, value: Value) -> Result<Written, ApiError> {
    let place = place("services", cluster, "default", "");
    world.objects.create(&WriteOptions::default(), &place, value).await
}

fn with_port(name: &str, port: u64) -> Value {
    let mut wanted = service(name, "NodePort");
    wanted["spec"]["ports"][0]["nodePort"] = json!(port);
    wanted
}

fn taken(name: &str, port: u64, by: &str) -> String {
    format!(
        r#"Service "{name}" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated{by}"#
    )
}

#[tokio::test]
async fn a_node_port_is_held_once_where_it_is_open() {
    let world = World::new().await;
    let default = place("namespaces", "pi-8", "", "default");
    world.objects.create(&WriteOptions::default(), &default, json!({})).await.unwrap();
    let made = create(&world, service("a", "NodePort")).await;
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30_000..=32_767).contains(&port));
    assert_eq!(held(&world, "nodeports"), [format!("root/{port}=root:a")]);
    refused(world.create("services", with_port("b", port)).await, 422, &taken("b", port, ""));
    let by = ": a Service of the hub's root has it on every device";
    let there = in_cluster(&world, "pi-7", with_port("b", port)).await;
    refused(there, 422, &taken("b", port, by));
    let error = world.create("services", with_port("b", 99)).await.unwrap_err();
    assert!(error.message.contains("The range of valid ports is 30000-32767"), "{error}");

    // The same chart on two devices.
    for cluster in ["pi-7", "pi-8"] {
        in_cluster(&world, cluster, with_port("web", 30_080)).await.unwrap();
        let again = in_cluster(&world, cluster, with_port("b", 30_080)).await;
        refused(again, 422, &taken("b", 30_080, ""));
    }
    let by = ": Service default/web of the cluster pi-7 has it on its device";
    refused(world.create("services", with_port("b", 30_080)).await, 422, &taken("b", 30_080, by));
    let gone = |cluster: &str| place("services", cluster, "default", "web");
    let no_options = DeleteOptions::default();
    world.objects.delete(&WriteOptions::default(), &gone("pi-7"), &no_options).await.unwrap();
    let by = ": Service default/web of the cluster pi-8 has it on its device";
    refused(world.create("services", with_port("b", 30_080)).await, 422, &taken("b", 30_080, by));
    let plain = |mut value: Value| {
        value["spec"]["type"] = json!("ClusterIP");
        Ok(value)
    };
    world.objects.modify(&WriteOptions::default(), &gone("pi-8"), None, plain).await.unwrap();
    create(&world, with_port("b", 30_080)).await;
    refused(
        in_cluster(&world, "pi-8", with_port("c", 30_080)).await,
        422,
        &taken("c", 30_080, ": a Service of the hub's root has it on every device"),
    );
}

#[tokio::test]
async fn a_hundred_clusters_take_the_same_port_at_once_and_leave_most_to_the_root() {
    let world = Arc::new(World::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let world = world.clone();
        tasks.spawn(async move {
            let cluster = format!("edge-{number}");
            let default = place("namespaces", &cluster, "", "default");
            world.objects.create(&WriteOptions::default(), &default, json!({})).await.unwrap();
            in_cluster(&world, &cluster, with_port("web", 30_080)).await.unwrap();
            for name in ["a", "b", "c"] {
                in_cluster(&world, &cluster, service(name, "NodePort")).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let scope = Scope {
        resource: Resource::new("internal", "sharednodeports"),
        cluster: None,
        namespace: None,
    };
    let snapshot = world.objects.store().snapshot();
    let counts: Vec<(String, u64)> = snapshot
        .range(&scope, None)
        .map(|stored| (stored.key.name.to_string(), snapshot.counter(&stored.key)))
        .collect();
    assert!(counts.contains(&("30080".to_owned(), 100)), "{counts:?}");
    assert!(counts.len() <= 68, "{} ports are lost to the root", counts.len());
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 400);
}

#[tokio::test]
async fn a_burst_over_one_port_costs_one_commit_each() {
    const BURST: usize = 256;
    let crowd = Crowd::new();
    let world = Arc::new(World::over(crowd.clone()).await);
    for number in 0..BURST {
        let default = place("namespaces", &format!("edge-{number}"), "", "default");
        world.objects.create(&WriteOptions::default(), &default, json!({})).await.unwrap();
    }
    crowd.gather(BURST);
    let creates = (0..BURST).map(|number| {
        let world = world.clone();
        async move {
            let cluster = format!("edge-{number}");
            in_cluster(&world, &cluster, with_port("web", 30_080)).await.unwrap();
        }
    });
    tokio::time::timeout(PATIENCE, futures::future::join_all(creates)).await.unwrap();
    assert_eq!(crowd.came(), BURST);
    crowd.gather(BURST);
    let deletes = (0..BURST).map(|number| {
        let world = world.clone();
        async move {
            let web = place("services", &format!("edge-{number}"), "default", "web");
            world
                .objects
                .delete(&WriteOptions::default(), &web, &DeleteOptions::default())
                .await
                .unwrap();
        }
    });
    tokio::time::timeout(PATIENCE, futures::future::join_all(deletes)).await.unwrap();
    assert_eq!(crowd.came(), BURST);
    create(&world, with_port("web", 30_080)).await;
}

/// In the root and in a spoke's cluster.
#[tokio::test]
async fn a_burst_that_may_choose_costs_one_commit_each() {
    const BURST: usize = 256;
    for cluster in ["root", "pi-7"] {
        let crowd = Crowd::new();
        let world = World::over(crowd.clone()).await;
        crowd.gather(BURST);
        let creates = (0..BURST).map(|number| {
            let web = service(&format!("web-{number}"), "NodePort");
            in_cluster(&world, cluster, web)
        });
        let all = futures::future::join_all(creates);
        let made = tokio::time::timeout(PATIENCE, all).await.unwrap();
        assert_eq!(crowd.came(), BURST, "{cluster}");
        let of_it = |pointer: &str| {
            let all = made.iter().map(|made| value(&made.as_ref().unwrap().stored));
            all.map(|web| web.pointer(pointer).unwrap().to_string()).collect::<BTreeSet<_>>()
        };
        assert_eq!(of_it("/spec/ports/0/nodePort").len(), BURST);
        assert_eq!(of_it("/spec/clusterIP").len(), BURST);
    }
}

#[tokio::test]
async fn the_same_node_port_serves_two_protocols_of_one_service() {
    let world = World::new().await;
    let mut both = service("dns", "NodePort");
    both["spec"]["ports"] = json!([
        {"name": "udp", "port": 53, "protocol": "UDP", "nodePort": 30_053},
        {"name": "tcp", "port": 53, "protocol": "TCP", "nodePort": 30_053},
    ]);
    create(&world, both).await;
    assert_eq!(held(&world, "nodeports"), ["root/30053=root:dns"]);
}

#[tokio::test]
async fn an_update_keeps_what_it_does_not_name() {
    let world = World::new().await;
    let made = create(&world, service("a", "NodePort")).await;
    let mut again = service("a", "NodePort");
    again["spec"]["ports"] = json!([{"name": "x", "port": 80}, {"name": "y", "port": 81}]);
    let written = world.update("services", again).await.unwrap();
    let now = value(&written.stored);
    assert_eq!(now["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    assert_eq!(now["spec"]["ports"][0]["nodePort"], made["spec"]["ports"][0]["nodePort"]);
    assert_eq!(held(&world, "nodeports").len(), 2);
    assert_eq!(held(&world, "clusterips").len(), 1);
}

#[tokio::test]
async fn a_change_of_type_gives_back_what_it_held() {
    let world = World::new().await;
    create(&world, service("a", "NodePort")).await;
    world.set("services", "a", "/spec/type", json!("ClusterIP")).await.unwrap();
    assert!(held(&world, "nodeports").is_empty());
    assert_eq!(held(&world, "clusterips").len(), 1);
    let external = |mut value: Value| {
        value["spec"] = json!({"type": "ExternalName", "externalName": "a.b"});
        Ok(value)
    };
    world
        .objects
        .modify(&WriteOptions::default(), &of("services", "a"), None, external)
        .await
        .unwrap();
    assert!(held(&world, "clusterips").is_empty());
    world.update("services", service("a", "NodePort")).await.unwrap();
    assert_eq!((held(&world, "clusterips").len(), held(&world, "nodeports").len()), (1, 1));
}

#[tokio::test]
async fn a_deleted_service_gives_back_everything() {
    let world = World::new().await;
    create(&world, service("a", "NodePort")).await;
    world.delete("services", "a").await.unwrap();
    let mut finalized = service("b", "NodePort");
    finalized["metadata"]["finalizers"] = json!(["example.com/hold"]);
    create(&world, finalized).await;
    world.delete("services", "b").await.unwrap();
    assert_eq!(held(&world, "nodeports").len(), 1, "it holds them until it is gone");
    world.set("services", "b", "/metadata/finalizers", json!([])).await.unwrap();
    assert!(held(&world, "clusterips").is_empty());
    assert!(held(&world, "nodeports").is_empty());
}

#[tokio::test]
async fn a_dry_run_holds_nothing() {
    let world = World::new().await;
    let how = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let made = world.objects.create(&how, &of("services", ""), service("a", "NodePort")).await;
    assert!(value(&made.unwrap().stored)["spec"]["clusterIP"].is_string());
    assert!(held(&world, "clusterips").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_never_share() {
    let world = std::sync::Arc::new(World::new().await);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let world = std::sync::Arc::clone(&world);
        writers.spawn(async move {
            for round in 0..40 {
                let name = format!("s{writer}-{round}");
                world.create("services", service(&name, "NodePort")).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(held(&world, "clusterips").len(), 320);
    assert_eq!(held(&world, "nodeports").len(), 320);
}

/// A Service with this many ports, each of which wants a node port.
fn wide(name: &str, ports: u64) -> Value {
    let mut wanted = service(name, "NodePort");
    let port = |n: u64| json!({"name": format!("p{n}"), "port": 1 + n});
    wanted["spec"]["ports"] = (0..ports).map(port).collect();
    wanted
}

/// Every node port that there is, and those that a spoke's cluster may have.
const ALL: u64 = 2_768;
const SHARED: u64 = ALL - 640;

#[tokio::test]
async fn a_service_may_hold_every_node_port_and_can_be_deleted() {
    for (cluster, all) in [("pi-7", SHARED), ("root", ALL)] {
        let world = World::new().await;
        let at = place("services", cluster, "default", "wide");
        in_cluster(&world, cluster, wide("wide", 60)).await.unwrap();
        for ports in [64, 100, all, 80, all] {
            let grown = wide("wide", ports);
            world.objects.update(&WriteOptions::default(), &at, None, grown).await.unwrap();
            assert_eq!(held(&world, "nodeports").len() as u64, ports, "{cluster}");
        }
        let full = in_cluster(&world, cluster, service("late", "NodePort")).await.unwrap_err();
        assert!(full.message.contains("range is full"), "{full}");
        world
            .objects
            .delete(&WriteOptions::default(), &at, &DeleteOptions::default())
            .await
            .unwrap();
        for plural in ["nodeports", "clusterips"] {
            assert!(held(&world, plural).is_empty(), "{cluster} {plural}");
        }
        in_cluster(&world, cluster, wide("at-once", all)).await.unwrap();
        let at = place("services", cluster, "default", "at-once");
        // All other ones in one transaction: whatever it held is let go, whatever it wants is taken.
        let back = |mut value: Value| {
            value["spec"]["type"] = json!("ClusterIP");
            Ok(value)
        };
        world.objects.modify(&WriteOptions::default(), &at, None, back).await.unwrap();
        assert!(held(&world, "nodeports").is_empty());
    }
}

#[tokio::test]
async fn who_takes_all_ports_of_its_device_leaves_the_root_its_own() {
    let world = World::new().await;
    in_cluster(&world, "pi-7", wide("greedy", SHARED)).await.unwrap();
    let mut kept = service("kept", "NodePort");
    kept["spec"]["ports"] = json!([{"port": 80, "nodePort": 31_500}]);
    let refused = in_cluster(&world, "pi-7", kept).await.unwrap_err();
    assert!(refused.message.contains("31360-31999 are kept for"), "{refused}");
    in_cluster(&world, "root", wide("fleet", ALL - SHARED)).await.unwrap();
}
