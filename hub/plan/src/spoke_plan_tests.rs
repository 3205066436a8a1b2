//! A spoke's plan, kept up to date while its objects change.

use std::cell::Cell;
use std::collections::BTreeMap;

use freewheel_hub_schema::object::Resource;
use freewheel_link::record_set::{PlanSet as _, RecordSet};
use serde_json::{Value, json};

use super::*;
use crate::config::config_record_key;
use crate::services::service_key;
use crate::source::ServiceRecord;
use crate::stored_object::StoredObject;
use crate::tests::AnyImage;
use crate::whole::records;

fn spoke() -> ClusterName {
    ClusterName::try_from("pi-7").unwrap()
}

fn key(plural: &str, realm: &ClusterName, name: &str) -> Key {
    Key::new(&Resource::new("", plural), realm, "default", name)
}

/// Objects that change, and the Services that are told of them.
#[derive(Default)]
struct Objects {
    all: BTreeMap<Key, StoredObject>,
    revision: u64,
    ranges: Vec<(String, u64)>,
    services: [ServiceSet; 2],
    /// Pods that were read, and configuration.
    read: Cell<usize>,
    config_read: Cell<usize>,
}

impl Objects {
    fn put(&mut self, key: &Key, mut value: Value) {
        value["metadata"]["name"] = json!(&*key.name);
        value["metadata"]["namespace"] = json!("default");
        self.revision += 1;
        let created = self.all.get(key).map_or(self.revision, |old| old.created);
        let body = value.to_string().into();
        self.all.insert(key.clone(), StoredObject { body, revision: self.revision, created });
        self.tell(key);
    }

    fn remove(&mut self, key: &Key) {
        self.all.remove(key);
        self.tell(key);
    }

    fn tell(&mut self, key: &Key) {
        if key.resource.plural() != "services" {
            return;
        }
        let at = usize::from(!key.cluster.is_root());
        let record = service_key(&key.cluster, "default", &key.name);
        match self.all.get(key) {
            Some(found) => {
                let told = ServiceRecord::of(&key.cluster, found, |_, _| Vec::new());
                self.services[at].put(&record, told)
            }
            None => self.services[at].remove(&record),
        };
    }

    fn shared(&self) -> [Arc<ServiceSet>; 2] {
        self.services.clone().map(Arc::new)
    }
}

impl Source for Objects {
    fn bound(&self, realm: &ClusterName, node: &str) -> Vec<Key> {
        let pods = self.all.keys().filter(|key| key.resource.plural() == "pods");
        let here = pods.filter(|key| key.cluster == *realm && self.pod(key, node).is_some());
        here.cloned().collect()
    }

    fn pod(&self, key: &Key, node: &str) -> Option<StoredObject> {
        self.read.set(self.read.get() + 1);
        let found = self.all.get(key)?;
        let value: Value = serde_json::from_slice(&found.body).unwrap();
        (value["spec"]["nodeName"] == node).then(|| found.clone())
    }

    fn config_map(&self, realm: &ClusterName, _: &str, name: &str) -> Option<StoredObject> {
        self.config_read.set(self.config_read.get() + 1);
        self.all.get(&key("configmaps", realm, name)).cloned()
    }

    fn secret(&self, realm: &ClusterName, _: &str, name: &str) -> Option<StoredObject> {
        self.all.get(&key("secrets", realm, name)).cloned()
    }

    fn tokens(&self, asked: &TokensAsked) -> Option<Record> {
        let texts = asked.tokens.iter().map(|which| format!("{} {which}", asked.account));
        asked.record(&texts.collect::<Vec<_>>()).ok()
    }

    fn pod_cidrs(&self, realm: &ClusterName, _: &str) -> Vec<(String, u64)> {
        if realm.is_root() { self.ranges.clone() } else { Vec::new() }
    }
}

/// A pod on this node that reads these ConfigMaps.
fn pod(uid: &str, node: &str, maps: &[String]) -> Value {
    let from: Vec<Value> = maps.iter().map(|m| json!({"configMapRef": {"name": m}})).collect();
    json!({"metadata": {"uid": uid}, "spec": {"nodeName": node,
        "containers": [{"name": "web", "image": "hello", "envFrom": from}]}})
}

/// As admission mounts it, with one for somebody else.
fn token_volume() -> Value {
    json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"serviceAccountToken": {"path": "vault", "audience": "vault", "expirationSeconds": 600}},
    ]}}])
}

fn config_map(bytes: usize, fill: &str) -> Value {
    json!({"metadata": {}, "data": {"k": fill.repeat(bytes)}})
}

fn service(node_port: bool, port: u32) -> Value {
    let node_port = if node_port { 30_080 } else { 0 };
    json!({"metadata": {}, "spec": {"clusterIP": "10.128.0.9",
        "ports": [{"port": port, "nodePort": node_port, "protocol": "TCP"}]}})
}

/// What the kept plan comes to, held against the whole one.
#[track_caller]
fn check(plan: &mut SpokePlan, objects: &Objects) -> SpokeSet {
    let (set, mut refused) = plan.set(objects.shared());
    let whole = records(&spoke(), objects.shared(), objects, &AnyImage, &NodeSettings::default());
    let named = |key: &RecordKey| format!("{} {} {}", key.realm, key.kind.0, key.key);
    let kept: Vec<_> = set.whole().iter().map(|record| named(&record.key)).collect();
    assert_eq!(kept, whole.records.keys().map(named).collect::<Vec<_>>());
    assert_eq!(set.digest(), whole.records.into_values().collect::<RecordSet>().digest());
    let mut all = whole.refused;
    let by = |left: &Refused, right: &Refused| left.to_string().cmp(&right.to_string());
    all.sort_by(by);
    refused.sort_by(by);
    assert_eq!(refused, all);
    set
}

/// Numbers that look like chance, the same at each run.
struct Dice(u32);

impl Dice {
    fn below(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % most
    }
}

/// Something happens to one object of a few, as chance will have it.
fn happen(dice: &mut Dice, objects: &mut Objects, changes: &mut Changes) {
    let realm = if dice.below(3) == 0 { spoke() } else { ClusterName::root() };
    let name = format!("n{}", dice.below(4));
    let (object, value) = match dice.below(4) {
        0 => {
            let maps = dice.below(3);
            let maps: Vec<String> = (0..maps).map(|_| format!("n{}", dice.below(4))).collect();
            let node = if dice.below(5) == 0 { "elsewhere" } else { "pi-7" };
            let mut value = pod(&format!("{realm}-{name}-{}", dice.below(2)), node, &maps);
            if dice.below(6) == 0 {
                value["spec"]["volumes"] = json!([{"name": "h", "hostPath": {}}]);
            } else if dice.below(2) == 0 {
                value["spec"]["volumes"] = token_volume();
            }
            if dice.below(6) == 0 {
                value["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "hello"}]);
            }
            if dice.below(5) == 0 {
                value["status"] = json!({"phase": "Succeeded"});
            }
            (key("pods", &realm, &name), value)
        }
        1 => (key("configmaps", &realm, &name), config_map(3, &dice.below(2).to_string())),
        2 => {
            let port = if dice.below(5) == 0 { 70_000 } else { 80 + dice.below(2) };
            (key("services", &realm, &name), service(dice.below(2) == 0, port))
        }
        _ => {
            let ranges = dice.below(3);
            let base = |n: u32| (format!("10.64.{n}.{}", dice.below(2) * n), u64::from(n));
            objects.ranges = (0..ranges).map(base).collect();
            return;
        }
    };
    if dice.below(4) == 0 {
        objects.remove(&object);
    } else {
        objects.put(&object, value);
    }
    match object.resource.plural() {
        "pods" => drop(changes.pods.insert(object)),
        "configmaps" => changes.config.extend(config_record_key(&object)),
        _ => {}
    }
}

#[test]
fn what_is_kept_is_what_would_be_made_anew() {
    let mut dice = Dice(42);
    let mut objects = Objects::default();
    let mut plan = SpokePlan::new(&spoke(), NodeSettings::default());
    let mut held: Option<(RecordSet, _)> = None;
    for step in 0..400 {
        let mut changes = Changes { everything: step == 0, ..Changes::default() };
        for _ in 0..=dice.below(3) {
            happen(&mut dice, &mut objects, &mut changes);
        }
        plan.update(&changes, &objects, &AnyImage);
        let set = check(&mut plan, &objects);
        let now: RecordSet = set.whole().iter().map(|record| Record::clone(record)).collect();
        if let Some((mut then, members)) = held.take() {
            let way = set.since(&members).unwrap();
            way.put.iter().for_each(|record| then.put(Record::clone(record)));
            way.remove.iter().for_each(|key| then.remove(key));
            assert_eq!(then, now, "step {step}");
        }
        held = Some((now, set.members()));
    }
    // Who comes anew reads it all at once.
    let mut other = SpokePlan::new(&spoke(), NodeSettings::default());
    other.update(&Changes { everything: true, ..Changes::default() }, &objects, &AnyImage);
    assert_eq!(check(&mut other, &objects).digest(), check(&mut plan, &objects).digest());
}

#[test]
fn a_pod_that_runs_stays_whatever_is_written_into_it() {
    let one = key("pods", &ClusterName::root(), "data");
    let changes = Changes { pods: [one.clone()].into(), ..Changes::default() };
    let mut objects = Objects::default();
    let mut plan = SpokePlan::new(&spoke(), NodeSettings::default());
    let written = |uid: &str, annotations: Value, limits: Value| {
        let mut value = pod(uid, "pi-7", &["all".to_owned()]);
        value["metadata"]["annotations"] = annotations;
        value["spec"]["containers"][0]["resources"] = json!({"limits": limits});
        value
    };
    objects.put(&one, written("uid-data", json!({}), json!({"memory": "64Mi"})));
    plan.update(&changes, &objects, &AnyImage);
    let held = check(&mut plan, &objects).members();
    let reuse = "freewheel.dev/http-instance-reuse";
    for (annotations, limits, told) in [
        (json!({reuse: "0"}), json!({}), 1),
        (json!({format!("{reuse}.web"): "many"}), json!({}), 1),
        (json!({}), json!({"memory": "9223372036854775807"}), 0),
        (json!({}), json!({"memory": "16Ei", "cpu": "1099511627776"}), 0),
    ] {
        objects.put(&one, written("uid-data", annotations, limits));
        plan.update(&changes, &objects, &AnyImage);
        let now = check(&mut plan, &objects);
        assert_eq!(now.since(&held).unwrap().remove, []);
        let (_, refused) = plan.set(objects.shared());
        assert_eq!(refused.len(), told, "{refused:?}");
        assert!(refused.iter().all(|one| one.stays && one.message.contains(reuse)), "{refused:?}");
    }
    // Another one takes its place, and a deleted one goes.
    objects.put(&one, written("uid-other", json!({reuse: "0"}), json!({})));
    plan.update(&changes, &objects, &AnyImage);
    let gone = check(&mut plan, &objects).since(&held).unwrap().remove;
    assert_eq!(gone.iter().map(|key| &*key.key).collect::<Vec<_>>(), ["uid-data"]);
    objects.remove(&one);
    plan.update(&changes, &objects, &AnyImage);
    assert!(check(&mut plan, &objects).whole().iter().all(|record| record.key.key == "node"));
}

#[test]
fn pods_that_come_one_by_one_are_read_once_each() {
    let mut objects = Objects::default();
    let mut plan = SpokePlan::new(&spoke(), NodeSettings::default());
    plan.update(&Changes { everything: true, ..Changes::default() }, &objects, &AnyImage);
    let mut held = plan.set(objects.shared()).0.members();
    for number in 0..500 {
        let one = key("pods", &ClusterName::root(), &format!("p{number}"));
        objects.put(&one, pod(&format!("uid-{number}"), "pi-7", &["all".to_owned()]));
        let changes = Changes { pods: [one].into(), ..Changes::default() };
        plan.update(&changes, &objects, &AnyImage);
        let set = plan.set(objects.shared()).0;
        let way = set.since(&held).unwrap();
        assert_eq!((way.put.len(), way.remove.len()), (1, 0));
        held = set.members();
    }
    assert_eq!(objects.read.get(), 500);
}

#[test]
fn a_plan_that_does_not_fit_is_cut_until_it_fits_again() {
    let root = ClusterName::root();
    let mut objects = Objects::default();
    let mut plan = SpokePlan::new(&spoke(), NodeSettings::default());
    let maps: Vec<String> = (0..36).map(|n| format!("m{n:02}")).collect();
    for name in &maps {
        objects.put(&key("configmaps", &root, name), config_map(1_000_000, "x"));
    }
    objects.put(&key("services", &root, "web"), service(false, 80));
    objects.put(&key("pods", &root, "small"), pod("uid-small", "pi-7", &maps[..2]));
    let everything = Changes { everything: true, ..Changes::default() };
    plan.update(&everything, &objects, &AnyImage);
    let before = check(&mut plan, &objects);
    let greedy = key("pods", &root, "greedy");
    objects.put(&greedy, pod("uid-greedy", "pi-7", &maps));
    let changed = Changes { pods: [greedy.clone()].into(), ..Changes::default() };
    plan.update(&changed, &objects, &AnyImage);
    let cut = check(&mut plan, &objects);
    let way = cut.since(&before.members()).unwrap();
    assert_eq!((way.remove.len(), way.put.len()), (0, 1), "the Service alone has moved");
    assert_eq!(cut.digest(), before.digest());
    objects.remove(&greedy);
    plan.update(&changed, &objects, &AnyImage);
    let after = check(&mut plan, &objects);
    assert!(after.since(&cut.members()).unwrap().remove.is_empty());
    assert_eq!(after.since(&before.members()).unwrap().put.len(), 0);
}

#[test]
fn what_grew_and_has_no_room_stays_as_it_was() {
    let mut objects = Objects::default();
    let mut plan = SpokePlan::new(&spoke(), NodeSettings::default());
    let names: Vec<String> = (0..33).map(|n| format!("n{n:02}")).collect();
    for name in &names {
        let value = pod(&format!("uid-{name}"), "pi-7", std::slice::from_ref(name));
        objects.put(&key("pods", &spoke(), name), value);
        objects.put(&key("configmaps", &spoke(), name), config_map(10, "x"));
    }
    let everything = Changes { everything: true, ..Changes::default() };
    plan.update(&everything, &objects, &AnyImage);
    let before = check(&mut plan, &objects);
    for name in &names {
        objects.put(&key("configmaps", &spoke(), name), config_map(1_000_000, "y"));
    }
    plan.update(&everything, &objects, &AnyImage);
    let (cut, refused) = plan.set(objects.shared());
    assert!(cut.weight() <= limits::PLAN_BYTES_MAX);
    let way = cut.since(&before.members()).unwrap();
    assert_eq!((way.put.len(), way.remove.len()), (24, 0), "what has room comes, and nothing goes");
    assert_eq!(refused.len(), 9);
    let kept = "the pods that read it keep what they have";
    assert!(refused.iter().all(|one| one.message.ends_with(kept)), "{refused:?}");
    // It stays so at each look, and new pods take no room from it.
    let late = key("pods", &ClusterName::root(), "late");
    objects.put(&late, pod("uid-late", "pi-7", &[]));
    plan.update(&everything, &objects, &AnyImage);
    let (again, _) = plan.set(objects.shared());
    let way = again.since(&cut.members()).unwrap();
    assert_eq!((way.put.len(), way.remove.len()), (1, 0));
    // There is room again.
    for name in &names[..20] {
        objects.put(&key("configmaps", &spoke(), name), config_map(10, "z"));
    }
    plan.update(&everything, &objects, &AnyImage);
    let after = check(&mut plan, &objects);
    assert_eq!(after.since(&again.members()).unwrap().put.len(), 29);
}

#[test]
fn what_had_no_room_takes_none_from_others_when_a_device_comes_back() {
    let (root, everything) =
        (ClusterName::root(), Changes { everything: true, ..Changes::default() });
    let mut objects = Objects::default();
    let mut plan = SpokePlan::new(&spoke(), NodeSettings::default());
    let names: Vec<String> = (0..34).map(|n| format!("n{n:02}")).collect();
    for (name, number) in names.iter().zip(0..) {
        let mut value = pod(&format!("uid-{name}"), "pi-7", std::slice::from_ref(name));
        // Some run, and the others wait for their modules.
        if number % 2 == 0 {
            value["status"]["startTime"] = json!("2026-11-20T12:01:00Z");
        }
        objects.put(&key("pods", &root, name), value);
        let bytes = if number == 0 { 10 } else { 990_000 };
        objects.put(&key("configmaps", &root, name), config_map(bytes, "x"));
    }
    plan.update(&everything, &objects, &AnyImage);
    let (first, refused) = plan.set(objects.shared());
    assert_eq!(refused, []);
    // The oldest pod's grows, and has no room.
    objects.put(&key("configmaps", &root, "n00"), config_map(1_000_000, "y"));
    plan.update(&everything, &objects, &AnyImage);
    let (full, refused) = plan.set(objects.shared());
    assert_eq!((full.digest(), refused.len()), (first.digest(), 1));
    // Its link is lost, and a new pod comes before it is back.
    let held = full.members().past();
    let late = pod("uid-late", "pi-7", &[]);
    objects.put(&key("pods", &root, "late"), late);
    let mut later = SpokePlan::new(&spoke(), NodeSettings::default()).after(&held);
    later.update(&everything, &objects, &AnyImage);
    for _ in 0..2 {
        let (back, refused) = later.set(objects.shared());
        let way = back.since(&held).unwrap();
        let put: Vec<&str> = way.put.iter().map(|record| &*record.key.key).collect();
        let gone: Vec<&str> = way.remove.iter().map(|key| &*key.key).collect();
        assert_eq!((put, gone), (vec!["uid-late"], vec!["default/n00"]));
        let [told] = &refused[..] else { panic!("{refused:?}") };
        assert_eq!((told.resource, &*told.name), ("configmaps", "n00"));
        let text = "the pods that read it go on, and start no container anew without it";
        assert!(told.message.ends_with(text), "{told}");
    }
    // Where nobody knows what it has, older ones come first.
    let mut blind = SpokePlan::new(&spoke(), NodeSettings::default());
    blind.update(&everything, &objects, &AnyImage);
    let gone = blind.set(objects.shared()).0.since(&held).unwrap().remove;
    assert!(gone.iter().any(|key| key.key == "default/n33"), "{gone:?}");
}

#[test]
fn what_does_not_fit_costs_no_translation_at_each_look() {
    let root = ClusterName::root();
    let mut objects = Objects::default();
    let mut plan = SpokePlan::new(&spoke(), NodeSettings::default());
    let maps: Vec<String> = (0..36).map(|n| format!("m{n:02}")).collect();
    for name in &maps {
        objects.put(&key("configmaps", &root, name), config_map(1_000_000, "x"));
    }
    let greedy = key("pods", &root, "greedy");
    let value = pod("uid-greedy", "pi-7", &maps);
    objects.put(&greedy, value.clone());
    plan.update(&Changes { everything: true, ..Changes::default() }, &objects, &AnyImage);
    let (first, _) = plan.set(objects.shared());
    let (read, config_read) = (objects.read.get(), objects.config_read.get());
    let mut cuts = Vec::new();
    for step in 0..10 {
        let mut told = value.clone();
        told["status"]["message"] = json!(step.to_string());
        objects.put(&greedy, told);
        let changes = Changes { pods: [greedy.clone()].into(), ..Changes::default() };
        plan.update(&changes, &objects, &AnyImage);
        let (set, refused) = plan.set(objects.shared());
        assert_eq!((set.digest(), refused.len()), (first.digest(), 1));
        cuts.push(plan.cut.as_ref().map(|cut| std::ptr::from_ref(cut.left.iter().next().unwrap())));
    }
    assert_eq!(objects.read.get() - read, 10, "the pod that has changed");
    assert_eq!(objects.config_read.get(), config_read);
    cuts.dedup();
    assert!(cuts.len() <= 2, "what is left is made anew when something enters it");
    check(&mut plan, &objects);
}
