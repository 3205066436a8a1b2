//! Plans that are larger than a spoke can hold.

use freewheel_link::record_set::Members;

use super::*;
use crate::fit::{Held, Member};

/// A pod, made so many seconds after the first, that reads these ConfigMaps.
fn reader(name: &str, age: usize, maps: &[String]) -> Value {
    let from: Vec<Value> = maps.iter().map(|m| json!({"configMapRef": {"name": m}})).collect();
    let container = json!({"name": "web", "image": "hello", "envFrom": from});
    let mut pod = pod(name, &json!({"containers": [container]}));
    pod["metadata"]["creationTimestamp"] = json!(format!("2026-11-20T12:00:{age:02}Z"));
    pod
}

#[test]
fn a_plan_holds_what_a_spoke_can_and_the_pod_beyond_that_reads_why() {
    let maps: Vec<String> = (0..36).map(|i| format!("m{i:02}")).collect();
    let mut world = World::default()
        .with("root", "pods", &reader("a-newest", 2, &maps[..30]))
        .with("root", "pods", &reader("greedy", 1, &maps))
        .with("root", "pods", &reader("z-oldest", 0, &maps[..2]));
    for name in &maps {
        world = world.with("root", "configmaps", &config_map(name, 1_000_000));
    }
    let plan = world.plan();
    assert!(plan.records.values().map(Record::weight).sum::<usize>() <= limits::PLAN_BYTES_MAX);
    let [refused] = &plan.refused[..] else { panic!("{:?}", plan.refused) };
    assert_eq!(
        (&*refused.name, refused.reason, &*refused.uid),
        ("greedy", "TooLarge", "uid-greedy")
    );
    assert!(refused.message.contains("of the 33554432"), "{}", refused.message);
    let maps = plan.records.keys().filter(|key| key.kind == Kind::CONFIG_MAP_V1).count();
    assert_eq!(maps, 30, "what only the refused pod reads stays out");
    let pods = plan.records.keys().filter(|key| key.kind == Kind::POD_V1).count();
    assert_eq!(pods, 2);
}

/// Who is left out of two pods that the hub made in this order and that do not fit together.
fn left_out(pods: &[Value; 2]) -> String {
    let maps: Vec<String> = (0..40).map(|i| format!("m{i:02}")).collect();
    let mut world = World::default();
    for pod in pods {
        world = world.with("root", "pods", pod);
    }
    for name in &maps {
        world = world.with("root", "configmaps", &config_map(name, 1_000_000));
    }
    let plan = world.plan();
    let [refused] = &plan.refused[..] else { panic!("{:?}", plan.refused) };
    refused.name.to_string()
}

#[test]
fn pods_of_one_second_keep_the_order_in_which_the_hub_made_them() {
    let maps: Vec<String> = (0..40).map(|i| format!("m{i:02}")).collect();
    for (first, second) in [("a", "z"), ("z", "a")] {
        let pods = [reader(first, 7, &maps[20..]), reader(second, 7, &maps[..20])];
        assert_eq!(left_out(&pods), second);
    }
}

#[test]
fn a_pod_that_has_waited_for_its_node_takes_no_room_from_one_that_is_there() {
    let maps: Vec<String> = (0..40).map(|i| format!("m{i:02}")).collect();
    let bound = |mut pod: Value, at: &str| {
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "True",
            "lastTransitionTime": format!("2026-11-20T12:00:{at}Z")}]);
        pod
    };
    let waited = bound(reader("waited", 1, &maps[20..]), "40");
    let there = bound(reader("there", 2, &maps[..20]), "02");
    assert_eq!(left_out(&[waited, there]), "waited");
}

#[test]
fn a_new_pod_takes_no_room_from_an_older_one() {
    let maps: Vec<String> = (0..40).map(|i| format!("m{i:02}")).collect();
    for (older, newer) in [("a", "z"), ("z", "a")] {
        let mut world = World::default().with("root", "pods", &reader(newer, 1, &maps[20..])).with(
            "root",
            "pods",
            &reader(older, 0, &maps[..20]),
        );
        for name in &maps {
            world = world.with("root", "configmaps", &config_map(name, 1_000_000));
        }
        let plan = world.plan();
        let refused: Vec<&str> = plan.refused.iter().map(|one| &*one.name).collect();
        assert_eq!(refused, [newer]);
    }
}

#[test]
fn services_beyond_half_of_a_plan_are_left_out_largest_first() {
    let name = |i: usize| format!("s{i}");
    let records = (0..4).map(|i| {
        let key = service_key(&ClusterName::root(), "default", &name(i));
        let body = vec![0; 1000 * (i + 1)];
        let record = Record { key: key.clone(), revision: 1, needs: 0, body };
        (key, Arc::new(Sealed::from(record)))
    });
    let held = VersionedSet::default();
    let held = Held { announced: &held, had: &Members::default() };
    let (fits, refused) = fit::fit(records.collect(), Vec::new(), &spoke(), held, 8000);
    let refused: Vec<&str> = refused.iter().map(|refused| &*refused.name).collect();
    assert_eq!(refused, [name(2), name(3)], "the smallest stay");
    assert_eq!(fits.len(), 2);
}

/// What is in a plan of a kind and a realm.
fn number_of(plan: &Plan, realm: &ClusterName, kind: Kind) -> usize {
    plan.records.keys().filter(|key| key.kind == kind && key.realm == *realm).count()
}

#[test]
fn what_grows_takes_no_room_from_pods_that_are_there() {
    let on_device = |mut pod: Value| {
        pod["status"]["startTime"] = json!("2026-11-20T12:01:00Z");
        pod
    };
    for newer in ["root", "pi-7"] {
        let maps: Vec<String> = (0..40).map(|i| format!("m{i:02}")).collect();
        let mut world =
            World::default().with(newer, "pods", &on_device(reader("last", 50, &maps[..1])));
        for (name, age) in maps.iter().zip(0..) {
            let pod = reader(&format!("of-{name}"), age, std::slice::from_ref(name));
            let large = config_map(name, 1_000_000);
            world = world.with("pi-7", "pods", &on_device(pod)).with("pi-7", "configmaps", &large);
        }
        let plan = world.with("root", "configmaps", &config_map("m00", 1_000_000)).plan();
        let all: usize = plan.records.values().map(Record::weight).sum();
        assert!(all <= limits::PLAN_BYTES_MAX);
        let pods = plan.records.keys().filter(|key| key.kind == Kind::POD_V1).count();
        assert_eq!(pods, 41, "what runs goes on: {:?}", plan.refused);
        assert_eq!(number_of(&plan, &spoke(), Kind::CONFIG_MAP_V1), 25);
        let told: Vec<&str> = plan.refused.iter().map(|one| one.resource).collect();
        assert_eq!(told, ["configmaps"; 15], "each is told once");
        let root = number_of(&plan, &ClusterName::root(), Kind::CONFIG_MAP_V1);
        assert_eq!(root, usize::from(newer == "root"));
    }
}

#[test]
fn the_cluster_of_a_device_leaves_room_for_the_root() {
    let maps: Vec<String> = (0..31).map(|i| format!("m{i:02}")).collect();
    let mut world = World::default().with("root", "pods", &reader("roots", 50, &maps[..6]));
    for (name, age) in maps.iter().zip(0..) {
        let pod = reader(&format!("of-{name}"), age, std::slice::from_ref(name));
        let large = config_map(name, 1_000_000);
        world = world.with("pi-7", "pods", &pod).with("pi-7", "configmaps", &large);
        world = world.with("root", "configmaps", &large);
    }
    let plan = world.plan();
    assert_eq!(number_of(&plan, &ClusterName::root(), Kind::POD_V1), 1, "{:?}", plan.refused);
    assert_eq!(number_of(&plan, &spoke(), Kind::POD_V1), 24);
    let text = "of the 25165824 that a device holds for its own cluster";
    assert!(plan.refused.iter().all(|one| one.message.contains(text)), "{:?}", plan.refused);
    assert_eq!(plan.refused.len(), 7);
}

/// A record that takes about so many bytes.
fn sealed(kind: Kind, key: &str, bytes: usize) -> Arc<Sealed> {
    let key = RecordKey { realm: ClusterName::root(), kind, key: key.to_owned() };
    Arc::new(Record { key, revision: 1, needs: 0, body: vec![0; bytes] }.into())
}

/// A pod on the device that reads this.
fn there(uid: &str, config: &Arc<Sealed>) -> Member {
    let own = RecordKey { realm: ClusterName::root(), kind: Kind::POD_V1, key: uid.to_owned() };
    Member {
        realm: ClusterName::root(),
        namespace: "default".to_owned(),
        name: format!("name-of-{uid}"),
        age: (None, 1),
        there: true,
        own,
        config: [config.key.clone()].into(),
    }
}

#[test]
fn tokens_that_have_no_room_are_told_at_their_pod() {
    let pods = ["waits", "reads"].map(|uid| sealed(Kind::POD_V1, uid, 10));
    let map = sealed(Kind::CONFIG_MAP_V1, "default/map", 6000);
    let held: VersionedSet = pods.iter().chain([&map]).cloned().collect();
    let left = |tokens: usize| {
        let tokens = sealed(Kind::POD_TOKENS_V1, "default/waits", tokens);
        let service = sealed(Kind::SERVICE_V1, "default/new", 900);
        let members = vec![there("waits", &tokens), there("reads", &map)];
        let records = pods.iter().chain([&map, &tokens, &service]);
        let records = records.map(|record| (record.key.clone(), record.clone())).collect();
        let held = Held { announced: &held, had: &Members::default() };
        let (fits, refused) = fit::fit(records, members, &spoke(), held, 8000);
        assert!(fits.contains_key(&map.key), "what is there stays");
        let told = refused.iter().map(|one| (one.resource, one.name.to_string(), one.stays));
        told.collect::<Vec<_>>()
    };
    assert_eq!(left(1200), [("services", "new".to_owned(), false)], "tokens come before it");
    assert_eq!(left(2500), [("pods", "name-of-waits".to_owned(), true)]);
}
