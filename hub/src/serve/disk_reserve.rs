//! Room of the store's disk that is kept for what makes room: deletions, and for what devices and controllers say.
//!
//! ```text
//! free:  ≥ reserve      everything
//!        ≥ reserve / 2  what exists grows by a little, as by a name in managedFields
//!        ≥ reserve / 4  what exists grows by a condition, and not by its main door
//!        less           what exists does not grow
//! ```
//!
//! Free is what the disk has, and what the store's own file has free in it ([`Disk::room`]). It is held against what
//! people write, by whichever door, and against what controllers ask for by an object's main door. Deletions, statuses
//! and bindings of controllers, what devices say and what the hub notes for itself are never refused for it, nor are the
//! few small writes that decide which device is let in ([`super::device_access`]). Where nothing at all is free the store
//! takes no write, and those neither: something has to be deleted first, or the disk made larger.
//!
//! Guarantees:
//! - who fills the disk is refused while there is room, and everybody can still delete
//!   (`below_the_reserve_nothing_is_made_and_everything_can_go`), by whatever door they fill it
//!   (`what_people_write_by_other_doors_leaves_the_last_of_it_as_well`);
//! - what was deleted is room for what comes next (`what_is_deleted_is_room_again`);
//! - a device that is stolen can be barred on a disk that is nearly full, and a new board have its place
//!   (`a_device_is_barred_below_the_reserve`, `a_board_takes_the_place_of_another_below_the_reserve`);
//! - what is made smaller is written (`below_the_reserve_what_exists_may_shrink`).

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::error::ApiError;
use serde_json::Value;

use super::device_access;
use super::disk::{Disk, FREE_BYTES_MIN};

/// By so many bytes an object may grow in the first half of the reserve.
const SMALL_GROWTH_BYTES: usize = 4 << 10;
/// And by so many in the next quarter, where it is no spec that grows: about a condition.
const CONDITION_BYTES: usize = 512;

/// What of the reserve is left for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Half,
    Quarter,
    Little,
}

/// Keeps the reserve.
pub struct DiskReserve {
    free: Box<dyn Fn() -> io::Result<u64> + Send + Sync>,
    reserve: u64,
    place: String,
}

impl DiskReserve {
    /// Of the disk under the store: the hub is not ready while it is touched.
    pub fn of(disk: Arc<Disk>) -> Self {
        let place = disk.folder().display().to_string();
        Self { free: Box::new(move || disk.room()), reserve: FREE_BYTES_MIN, place }
    }

    /// With the bytes that are free. A disk that cannot be looked at says more of that when it is written to.
    fn room(&self) -> (Room, u64) {
        let Ok(free) = (self.free)() else { return (Room::Enough, 0) };
        let room = match free {
            free if self.reserve <= free => Room::Enough,
            free if self.reserve / 2 <= free => Room::Half,
            free if self.reserve / 4 <= free => Room::Quarter,
            _ => Room::Little,
        };
        (room, free)
    }

    fn refusal(&self, review: &Review<'_>, free: u64) -> Refusal {
        let text = format!(
            "{} {:?} is not written: the disk of {} has {} MiB free, and the last {} are for what makes room: delete \
             something, which counts some seconds later, or give it a larger disk",
            review.target.kind.plural(),
            review.target.name,
            self.place,
            free >> 20,
            self.reserve >> 20,
        );
        Refusal::Status(Box::new(ApiError::new(507, "InsufficientStorage", text)))
    }
}

/// Whether there is room for an object that is to take the place of another, or of none, by its main door or another.
fn fits(room: Room, is_main: bool, old: Option<&Value>, new: &Value) -> bool {
    let size = |value: &Value| value.to_string().len();
    let grows_by = match (room, old) {
        (Room::Enough, _) => return true,
        (_, None) => return false,
        (Room::Half, Some(_)) => SMALL_GROWTH_BYTES,
        (Room::Quarter, Some(_)) if !is_main => CONDITION_BYTES,
        (Room::Quarter | Room::Little, Some(_)) => 0,
    };
    old.is_some_and(|old| size(new) <= size(old) + grows_by)
}

#[async_trait]
impl Plugin for DiskReserve {
    fn name(&self) -> &'static str {
        "DiskReserve"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        match review.actor {
            Actor::Person(_) => review.stores && matches!(review.verb, Verb::Create | Verb::Update),
            Actor::Controller(_) => review.asks_for_it(),
            // What a device reports has happened, and its pods' ends wait in line behind it.
            Actor::Device(_) | Actor::Joining | Actor::Hub => false,
        }
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let (room, free) = self.room();
        let fits = fits(room, review.subresource.is_none(), review.old, object);
        if fits || device_access::decides(review, object) {
            return Ok(Claims::default());
        }
        Err(self.refusal(review, free))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use freewheel_hub_api::device_orders::{self, Order};
    use freewheel_hub_api::kinds;
    use freewheel_hub_api::kinds::managed_cluster::{
        AGENT_KEY_ANNOTATION, DEVICE_LABELS_ANNOTATION,
    };
    use freewheel_hub_objects::{DeleteOptions, ObjectRef, Objects, Person, WriteOptions};
    use freewheel_hub_schema::patch;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::names::ClusterName;
    use serde_json::json;

    use super::*;
    use crate::devices::hand_over_patch;

    const RESERVE: u64 = 64 << 20;

    fn place(name: &str) -> ObjectRef {
        let kind = kinds::find("", "v1", "nodes").unwrap().clone();
        let (cluster, namespace) = (ClusterName::root(), "".into());
        ObjectRef { kind, cluster, namespace, name: name.to_owned() }
    }

    fn node(name: &str, bytes: usize) -> Value {
        let annotations = json!({"a": "x".repeat(bytes)});
        json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "annotations": annotations}})
    }

    /// With a disk that has as much room as is said last.
    fn objects() -> (Objects, Arc<AtomicU64>) {
        let free = Arc::new(AtomicU64::new(RESERVE));
        let told = free.clone();
        let reserve = DiskReserve {
            free: Box::new(move || Ok(told.load(Ordering::SeqCst))),
            reserve: RESERVE,
            place: "/data".to_owned(),
        };
        let objects = Objects::new(Arc::new(MemoryStore::new())).admitting(Arc::new(reserve));
        (objects, free)
    }

    fn how() -> WriteOptions {
        WriteOptions::by(Actor::from(Person::default()))
    }

    async fn create(objects: &Objects, name: &str) -> Result<(), ApiError> {
        objects.create(&how(), &place(name), node(name, 1000)).await.map(drop)
    }

    async fn write(
        objects: &Objects,
        door: Option<&str>,
        change: impl Fn(&mut Value) + Send + Sync,
    ) -> Result<(), ApiError> {
        let change = |mut value: Value| {
            change(&mut value);
            Ok(value)
        };
        objects.modify(&how(), &place("a"), door, change).await.map(drop)
    }

    fn filled(bytes: usize) -> impl Fn(&mut Value) {
        move |value| value["metadata"]["annotations"]["a"] = "x".repeat(bytes).into()
    }

    /// What belongs to the root, in kube-system where it is in a namespace.
    fn of_root(kind: (&str, &str, &str), name: &str) -> ObjectRef {
        let kind = kinds::find(kind.0, kind.1, kind.2).unwrap().clone();
        let namespace = if kind.namespaced { device_orders::NAMESPACE } else { "" };
        let (cluster, namespace) = (ClusterName::root(), namespace.into());
        ObjectRef { kind, cluster, namespace, name: name.to_owned() }
    }

    fn cluster(name: &str) -> ObjectRef {
        of_root(("cluster.open-cluster-management.io", "v1", "managedclusters"), name)
    }

    fn key(of: &str) -> String {
        format!("sha256:{}", of.repeat(32))
    }

    /// A hub with room for nothing, and devices of these names and keys.
    async fn nearly_full(devices: &[(&str, String)]) -> Objects {
        let (objects, free) = objects();
        let system = of_root(("", "v1", "namespaces"), device_orders::NAMESPACE);
        let namespace = json!({"metadata": {"name": device_orders::NAMESPACE}});
        objects.create(&how(), &system, namespace).await.unwrap();
        for (name, key) in devices {
            let annotations =
                json!({AGENT_KEY_ANNOTATION: key, DEVICE_LABELS_ANNOTATION: "disk,site"});
            let meta = json!({"name": name, "annotations": annotations});
            let object = json!({"metadata": meta, "spec": {"hubAcceptsClient": true}});
            objects.create(&how(), &cluster(name), object).await.unwrap();
        }
        free.store(1 << 20, Ordering::SeqCst);
        objects
    }

    async fn order(objects: &Objects, order: &Order) -> Result<(), ApiError> {
        put(objects, order.to_object()).await
    }

    async fn put(objects: &Objects, map: Value) -> Result<(), ApiError> {
        let name = map["metadata"]["name"].as_str().unwrap().to_owned();
        objects.create(&how(), &of_root(("", "v1", "configmaps"), &name), map).await.map(drop)
    }

    fn wipe(cluster: &str, key: String) -> Order {
        let (cluster, id) = (cluster.to_owned(), "n1".to_owned());
        Order::Wipe(device_orders::Wipe { cluster, key, id, ..device_orders::Wipe::default() })
    }

    async fn change(
        objects: &Objects,
        name: &str,
        change: impl Fn(&mut Value) + Send + Sync,
    ) -> Result<(), ApiError> {
        let change = |mut value: Value| {
            change(&mut value);
            Ok(value)
        };
        objects.modify(&how(), &cluster(name), None, change).await.map(drop)
    }

    #[tokio::test]
    async fn a_device_is_barred_below_the_reserve() {
        let objects = nearly_full(&[("pi-7", key("0a"))]).await;
        let mut long = wipe("pi-7", key("0a")).to_object();
        long["data"]["note"] = "x".repeat(SMALL_GROWTH_BYTES).into();
        let mut other = wipe("pi-7", key("0a")).to_object();
        other["metadata"]["name"] = "notes".into();
        // Who fills the disk with orders has no devices for them.
        let nobodys = [wipe("pi-8", key("0b")), wipe("pi-7", key("0b"))];
        let nobodys = nobodys.iter().map(Order::to_object);
        for refused in [long, other].into_iter().chain(nobodys) {
            let refused = put(&objects, refused).await.unwrap_err();
            assert_eq!(refused.code, 507, "{refused}");
        }
        order(&objects, &wipe("pi-7", key("0a"))).await.unwrap();

        // The other way is as short.
        let grown = change(&objects, "pi-7", |it| {
            it["spec"]["hubAcceptsClient"] = json!(false);
            it["metadata"]["labels"]["note"] = json!("x");
        });
        assert_eq!(grown.await.unwrap_err().code, 507);
        let taken_back = |it: &mut Value| it["spec"]["hubAcceptsClient"] = json!(false);
        change(&objects, "pi-7", taken_back).await.unwrap();
        let place = objects.get(&cluster("pi-7")).unwrap().object.value().unwrap();
        assert_eq!(place["spec"]["hubAcceptsClient"], false);
    }

    #[tokio::test]
    async fn a_board_takes_the_place_of_another_below_the_reserve() {
        let objects = nearly_full(&[("pi-7", key("0a")), ("new", key("0b"))]).await;
        let becomes = device_orders::Rename {
            cluster: "new".into(),
            key: key("0b"),
            to: "pi-7".into(),
            taken_at: None,
        };
        order(&objects, &Order::Rename(becomes)).await.unwrap();
        order(&objects, &wipe("pi-7", key("0a"))).await.unwrap();
        let belongs = |key: String| {
            move |it: &mut Value| it["metadata"]["annotations"][AGENT_KEY_ANNOTATION] = json!(key)
        };
        let long = change(&objects, "pi-7", belongs("x".repeat(200))).await;
        assert_eq!(long.unwrap_err().code, 507, "that is no key");
        // As `hub replace` sends it, which has not written there before.
        let hand_over = |value: Value| {
            let version = value["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            patch::merge(&value, hand_over_patch(version, &key("0b")).to_string().as_bytes())
        };
        let person = Person { manager: "hub-replace".to_owned(), ..Person::default() };
        let how = WriteOptions::by(Actor::from(person));
        objects.modify(&how, &cluster("pi-7"), None, hand_over).await.unwrap();
        let place = objects.get(&cluster("pi-7")).unwrap().object.value().unwrap();
        let annotations = &place["metadata"]["annotations"];
        assert_eq!(annotations[AGENT_KEY_ANNOTATION], key("0b"));
        assert!(annotations.get(DEVICE_LABELS_ANNOTATION).is_none(), "{annotations}");
    }

    #[tokio::test]
    async fn below_the_reserve_nothing_is_made_and_everything_can_go() {
        let (objects, free) = objects();
        create(&objects, "a").await.unwrap();
        free.store(RESERVE - 1, Ordering::SeqCst);
        let refused = create(&objects, "b").await.unwrap_err();
        assert_eq!((refused.code, refused.reason), (507, "InsufficientStorage"));
        let said = "nodes \"b\" is not written: the disk of /data has 63 MiB free";
        assert!(refused.message.starts_with(said), "{refused}");
        assert_eq!(write(&objects, None, filled(10_000)).await.unwrap_err().code, 507);
        free.store(1 << 20, Ordering::SeqCst);
        objects.delete(&how(), &place("a"), &DeleteOptions::default()).await.unwrap();
        assert_eq!(objects.get(&place("a")).unwrap_err().code, 404);
        free.store(RESERVE, Ordering::SeqCst);
        create(&objects, "b").await.unwrap();
    }

    #[tokio::test]
    async fn what_people_write_by_other_doors_leaves_the_last_of_it_as_well() {
        let (objects, free) = objects();
        create(&objects, "a").await.unwrap();
        let status = |bytes: usize| {
            move |value: &mut Value| {
                value["status"] = json!({"nodeInfo": {"machineID": "x".repeat(bytes)}});
            }
        };
        let by_status = async |bytes| write(&objects, Some("status"), status(bytes)).await;
        for (room, grows, too_much) in [
            (RESERVE - 1, 3_000, 100_000),
            (RESERVE / 2 - 1, 3_200, 7_000),
            (RESERVE / 4 - 1, 3_200, 3_300),
        ] {
            free.store(room, Ordering::SeqCst);
            let refused = by_status(too_much).await.unwrap_err();
            assert_eq!(refused.code, 507, "{room}");
            by_status(grows).await.unwrap();
        }
        // Controllers bring about what was asked for before, and make room.
        let how = WriteOptions::by(Actor::Controller("node-controller"));
        let more = status(100_000);
        let change = |mut value: Value| {
            more(&mut value);
            Ok(value)
        };
        objects.modify(&how, &place("a"), Some("status"), change).await.unwrap();
    }

    #[tokio::test]
    async fn below_the_reserve_what_exists_may_shrink() {
        let (objects, free) = objects();
        create(&objects, "a").await.unwrap();
        free.store(RESERVE / 2, Ordering::SeqCst);
        write(&objects, None, filled(2_000)).await.unwrap();
        free.store(RESERVE / 2 - 1, Ordering::SeqCst);
        assert_eq!(write(&objects, None, filled(3_000)).await.unwrap_err().code, 507);
        write(&objects, None, filled(10)).await.unwrap();
    }
}
