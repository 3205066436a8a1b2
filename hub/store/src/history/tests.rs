//! The past, by what it holds.

use std::sync::Weak;

use freewheel_hub_schema::object::{Header, Object, Resource};
use freewheel_link::names::ClusterName;

use super::*;
use crate::Scope;

const LIMITS: Limits = Limits { events: 10_000, bytes: 1_000_000 };

fn config_maps() -> TopicKey {
    TopicKey::Resource(Resource::new("", "configmaps"))
}

/// Objects that are large at first and small ever after, as those whose trouble was told and is over.
fn shrink(history: &mut History, objects: u64) -> Vec<Weak<Stored>> {
    let stored = |number: u64, revision, body: Vec<u8>| {
        let resource = Resource::new("", "configmaps");
        let key = Key::new(&resource, &ClusterName::root(), "d", &format!("c{number}"));
        let object = Object { header: Header::default(), body: body.into() };
        Arc::new(Stored { key, object, revision, created: revision })
    };
    let mut before = Vec::new();
    for number in 0..objects {
        let revision = history.published() + 1;
        let large = stored(number, revision, vec![b'x'; 100_000]);
        before.push(Arc::downgrade(&large));
        let made = Event { revision, now: Some(large.clone()), before: None };
        drop(history.publish(revision, &[made]));
        let small = stored(number, revision + 1, b"{}".to_vec());
        let event = Event { revision: revision + 1, now: Some(small), before: Some(large) };
        drop(history.publish(revision + 1, &[event]));
    }
    before
}

fn alive(before: &[Weak<Stored>]) -> usize {
    before.iter().filter(|old| old.strong_count() != 0).count()
}

#[test]
fn former_bodies_count_however_small_what_replaced_them_is() {
    let mut history = History::new(0, LIMITS);
    let before = shrink(&mut history, 60);
    assert!((5..=10).contains(&alive(&before)), "{} of 100 kB are held", alive(&before));
    assert!(
        history.undo(&config_maps(), history.published() - 4).is_ok(),
        "the newest past is there"
    );
}

#[test]
fn the_past_is_given_back_when_it_is_old() {
    let mut history = History::new(0, LIMITS);
    let before = shrink(&mut history, 8);
    history.trim();
    assert!(alive(&before) == 8, "it is not old yet");
    history.trim();
    assert!(alive(&before) <= 1, "{} are held", alive(&before));
    let newest = shrink(&mut history, 3);
    history.trim();
    assert_eq!(alive(&newest), 3, "the newest is kept");
}

#[test]
fn a_state_has_its_time_and_a_watcher_goes_on() {
    let mut history = History::new(0, LIMITS);
    let first = write(&mut history, "pi-1", 100);
    write(&mut history, "pi-1", 100);
    let name = Some(ClusterName::try_from("pi-1").unwrap());
    let pi_1 = Scope { resource: config_maps().resource().clone(), cluster: name, namespace: None };
    let of = TopicKey::from(&pi_1);
    history.trim();
    assert_eq!(history.undo(&of, first).map(|events| events.len()).ok(), Some(1));
    let second = write(&mut history, "pi-1", 100);
    history.trim();
    assert!(history.undo(&of, first).is_err(), "it was there before the call before");
    assert!(history.undo(&of, second).is_ok());
    assert!(history.join(vec![pi_1.into()], first, &Arc::default()).is_ok());
}

#[test]
fn a_read_of_large_objects_is_short() {
    let mut history = History::new(0, Limits { events: 10_000, bytes: 100 << 20 });
    let (_, cursors) = history.join(Vec::new(), 0, &Arc::default()).unwrap();
    drop(shrink(&mut history, 20));
    let (mut seen, mut events) = (0, 0);
    while seen < history.published() {
        let read = history.read(&cursors, seen).unwrap();
        assert!(read.events.len() <= 3, "{} events of 100 kB", read.events.len());
        (seen, events) = (read.upto, events + read.events.len());
    }
    assert_eq!(events, 40, "nothing is left out");
}

/// What is gone is held by the past alone, with all of its key.
#[test]
fn long_names_count_as_well() {
    let mut history = History::new(0, LIMITS);
    let (namespace, name) = ("n".repeat(63), "c".repeat(253));
    let mut before = Vec::new();
    for revision in 1..=5_000 {
        let key = Key::new(
            &Resource::new("", "configmaps"),
            &ClusterName::root(),
            &namespace,
            &format!("{name}{revision:04}"),
        );
        let object = Object { header: Header::default(), body: "{}".into() };
        let gone = Arc::new(Stored { key, object, revision, created: revision });
        before.push(Arc::downgrade(&gone));
        drop(history.publish(revision, &[Event { revision, now: None, before: Some(gone) }]));
    }
    let held = alive(&before);
    let each = 256 + size_of::<Stored>() + 63 + 257;
    assert!(held * each <= LIMITS.bytes, "{held} of {each} bytes are held");
    assert!(LIMITS.bytes / 2 < held * each, "{held} of {each} bytes are held");
}

fn internal(name: &str, revision: Revision) -> Event {
    let key = Key::new(&Resource::new("internal", "acked"), &ClusterName::root(), "", name);
    let object = Object { header: Header::default(), body: "{}".into() };
    let now = Some(Arc::new(Stored { key, object, revision, created: revision }));
    Event { revision, now, before: None }
}

#[test]
fn internal_records_wait_for_their_followers_only() {
    let acked = Resource::new("internal", "acked");
    let scope = Scope { resource: acked.clone(), cluster: None, namespace: None };
    let kept =
        |history: &History| history.topics.look_up(&acked).map_or(0, |topic| topic.events.len());
    let mut history = History::new(0, LIMITS);
    for revision in 1..=10 {
        drop(history.publish(revision, &[internal("a", revision)]));
    }
    assert_eq!((kept(&history), history.topics.bytes()), (0, 0), "nobody follows them");
    let waker = Arc::new(WatchWaker::default());
    assert!(history.join(vec![scope.clone().into()], 9, &waker).is_err(), "there is no past");
    let (fast, at) = history.join(vec![scope.clone().into()], 10, &waker).unwrap();
    let other = Arc::new(WatchWaker::default());
    let of_root = Scope { cluster: Some(ClusterName::root()), ..scope };
    let (slow, its) = history.join(vec![of_root.into()], 10, &other).unwrap();
    for revision in 11..=20 {
        drop(history.publish(revision, &[internal("a", revision)]));
        let read = history.read(&at, revision - 1).unwrap();
        assert_eq!(read.events.len(), 1);
        waker.set_seen(read.upto);
    }
    assert_eq!(kept(&history), 10, "one of them has read nothing yet");
    assert_eq!(history.read(&its, 10).unwrap().events.len(), 10);
    other.set_seen(20);
    drop(history.publish(21, &[internal("a", 21)]));
    assert_eq!(kept(&history), 1);
    history.leave(&at, fast);
    history.leave(&its, slow);
    assert_eq!((kept(&history), history.topics.bytes()), (0, 0));
}

#[test]
fn one_large_publication_leaves_nobody_behind_who_had_read_all() {
    let mut history = History::new(0, LIMITS);
    drop(shrink(&mut history, 3));
    let (seen, waker) = (history.published(), Arc::default());
    let scope = Scope { resource: Resource::new("", "configmaps"), cluster: None, namespace: None };
    let (_, all) = history.join(Vec::new(), seen, &waker).unwrap();
    let (_, of_resource) = history.join(vec![scope.into()], seen, &waker).unwrap();
    let gone = (1..=20).map(|number| {
        let revision = seen + number;
        let key =
            Key::new(config_maps().resource(), &ClusterName::root(), "d", &format!("{number}"));
        let object = Object { header: Header::default(), body: vec![b'x'; 100_000].into() };
        let before = Some(Arc::new(Stored { key, object, revision, created: revision }));
        Event { revision, now: None, before }
    });
    let gone: Vec<Event> = gone.collect();
    drop(history.publish(seen + 20, &gone));
    for cursors in [all, of_resource] {
        let (mut at, mut events) = (seen, 0);
        while at < seen + 20 {
            let read = history.read(&cursors, at).expect("it had read all before");
            (at, events) = (read.upto, events + read.events.len());
        }
        assert_eq!(events, 20);
    }
    drop(shrink(&mut history, 1));
    assert!(history.topics.bytes() <= LIMITS.bytes, "the next one has the limit again");
}

/// One write of an object of this size in a cluster.
fn write(history: &mut History, cluster: &str, bytes: usize) -> Revision {
    let revision = history.published() + 1;
    let cluster = ClusterName::try_from(cluster).unwrap();
    let key = Key::new(config_maps().resource(), &cluster, "d", "c");
    let object = Object { header: Header::default(), body: vec![b'x'; bytes].into() };
    let before = Some(Arc::new(Stored { key, object, revision, created: revision }));
    drop(history.publish(revision, &[Event { revision, now: before.clone(), before }]));
    revision
}

#[test]
fn a_cluster_s_past_is_given_back_when_it_is_old_and_who_comes_later_is_told() {
    let scope = |name: &str| Scope {
        resource: config_maps().resource().clone(),
        cluster: Some(ClusterName::try_from(name).unwrap()),
        namespace: None,
    };
    let mut history = History::new(0, LIMITS);
    let first = write(&mut history, "pi-1", 100);
    for _ in 0..20 {
        write(&mut history, "pi-2", 100_000);
    }
    let join = |history: &mut History, name: &str, after| {
        let joined = history.join(vec![scope(name).into()], after, &Arc::default());
        joined.map(|(number, cursors)| history.leave(&cursors, number)).is_ok()
    };
    assert!(join(&mut history, "pi-1", 0), "the other has taken nothing of it");
    assert!(!join(&mut history, "pi-2", first));
    assert!(history.topics.kept_bytes() <= LIMITS.kept());
    for _ in 0..3 {
        history.trim();
    }
    assert!(history.topics.kept_bytes() <= LIMITS.kept() / IDLE_HISTORY_DIVISOR);
    assert!(join(&mut history, "pi-1", 0), "who keeps little keeps it");
    assert!(!join(&mut history, "pi-2", first), "it is known how far it goes back");
    let last = history.published();
    assert!(join(&mut history, "pi-2", last) && join(&mut history, "pi-3", last));
}
