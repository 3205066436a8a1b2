//! Watches.

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_hub_schema::object::Resource;
use freewheel_hub_store::{Event, Limits, Scope};
use tokio::time::timeout;

use super::kit::{Backend, all_pods, cluster, listed, put, read_until, remove, said, txn, write};

fn secrets() -> Scope {
    Scope { resource: Resource::new("", "secrets"), ..all_pods() }
}

/// By how many transactions there were.
fn tell(backend: &dyn Backend, events: &[Event]) -> Vec<String> {
    events.iter().map(super::kit::tell(backend.step())).collect()
}

pub(crate) async fn events_come_once_and_in_order(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut watch = store.watch(vec![all_pods()], 0).unwrap();
    write(&store, &[put("a", "1")]).await;
    write(&store, &[put("b", "2"), put("a", "2")]).await;
    write(&store, &[remove("a")]).await;
    let last = 3 * backend.step();
    let events = read_until(&mut watch, last).await;
    assert_eq!(tell(backend, &events), ["1 >a=1", "2 >b=2", "2 a=1>a=2", "3 a=2>"]);
    assert_eq!(watch.progress(), last);
}

pub(crate) async fn a_watch_starts_at_any_revision(backend: &dyn Backend) {
    let store = backend.fresh();
    for round in 1..=50 {
        write(&store, &[put(&format!("p{round}"), "1"), put("a", &round.to_string())]).await;
    }
    let step = backend.step();
    for after in 0..50 * step {
        let mut watch = store.watch(vec![all_pods()], after).unwrap();
        let events = read_until(&mut watch, 50 * step).await;
        let revisions: Vec<_> = events.iter().map(|event| event.revision).collect();
        let later = (1..=50).map(|count| count * step).filter(|revision| after < *revision);
        assert_eq!(revisions, later.flat_map(|revision| [revision; 2]).collect::<Vec<_>>());
    }
}

pub(crate) async fn a_scope_sees_its_own_events_only(backend: &dyn Backend) {
    let store = backend.fresh();
    let of_cluster = Scope { cluster: Some(cluster("pi-7")), ..all_pods() };
    let of_namespace = Scope { namespace: Some("web".into()), ..of_cluster.clone() };
    let mut all = store.watch(vec![], 0).unwrap();
    let mut wide = store.watch(vec![of_cluster], 0).unwrap();
    let mut narrow = store.watch(vec![of_namespace], 0).unwrap();
    write(&store, &[put("a", "1"), put("podx|pi-7|web|b", "1")]).await;
    write(&store, &[put("pods|pi-7|default|c", "1")]).await;
    write(&store, &[put("pods|pi-7|web|d", "1")]).await;
    let last = 3 * backend.step();
    assert_eq!(read_until(&mut all, last).await.len(), 4);
    assert_eq!(tell(backend, &read_until(&mut wide, last).await), ["2 >c=1", "3 >d=1"]);
    assert_eq!(tell(backend, &read_until(&mut narrow, last).await), ["3 >d=1"]);
}

pub(crate) async fn overlapping_scopes_see_an_event_once(backend: &dyn Backend) {
    let store = backend.fresh();
    let of_cluster = Scope { cluster: Some(cluster("root")), ..all_pods() };
    let other =
        Scope { resource: freewheel_hub_schema::object::Resource::new("", "nodes"), ..all_pods() };
    let mut watch = store.watch(vec![of_cluster, other, all_pods()], 0).unwrap();
    write(&store, &[put("a", "1"), put("nodes|root||n", "1"), put("b", "1")]).await;
    write(&store, &[put("pods|pi-7|default|c", "1"), put("services|root|default|s", "1")]).await;
    let events = read_until(&mut watch, 2 * backend.step()).await;
    assert_eq!(tell(backend, &events), ["1 >a=1", "1 >n=1", "1 >b=1", "2 >c=1"]);
}

pub(crate) async fn a_revision_is_never_torn(backend: &dyn Backend) {
    let store = backend.fresh();
    for _ in 0..40 {
        let operations: Vec<_> =
            (0..100).map(|i| put(&format!("p{i}"), &fastrand::u32(..).to_string())).collect();
        write(&store, &operations).await;
    }
    let mut watch = store.watch(vec![all_pods()], 0).unwrap();
    let mut seen = 0;
    while seen < 40 {
        let events = watch.next().await.unwrap();
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        events.iter().for_each(|event| *counts.entry(event.revision).or_default() += 1);
        assert!(counts.values().all(|count| *count == 100));
        assert_eq!(watch.progress(), events.last().unwrap().revision);
        seen += counts.len();
    }
}

pub(crate) async fn progress_moves_when_nothing_matched(backend: &dyn Backend) {
    let store = backend.fresh();
    let quiet = Scope { cluster: Some(cluster("pi-7")), ..all_pods() };
    let mut watch = store.watch(vec![quiet], 0).unwrap();
    write(&store, &[put("a", "1")]).await;
    write(&store, &[put("a", "2")]).await;
    let step = backend.step();
    assert_eq!(watch.progress(), 2 * step);
    write(&store, &[put("pods|pi-7|default|b", "1")]).await;
    write(&store, &[put("a", "3")]).await;
    assert_eq!(watch.progress(), 2 * step, "an event waits");
    assert_eq!(watch.next().await.unwrap().len(), 1);
    assert_eq!(watch.progress(), 4 * step);
}

pub(crate) async fn a_watcher_that_fell_behind_is_told(backend: &dyn Backend) {
    let store = backend.open(Limits { events: 10, bytes: 1 << 20 });
    let mut slow = store.watch(vec![all_pods()], 0).unwrap();
    for round in 0..30 {
        write(&store, &[put("a", &round.to_string())]).await;
    }
    let gone = slow.next().await.unwrap_err();
    let oldest = 20 * backend.step();
    assert_eq!((gone.asked, gone.oldest), (0, oldest));
    let Err(gone) = store.watch(vec![all_pods()], oldest - 1) else { panic!("it is kept") };
    assert_eq!(gone.oldest, oldest);
    let mut watch = store.watch(vec![all_pods()], oldest).unwrap();
    assert_eq!(read_until(&mut watch, 30 * backend.step()).await.len(), 10);
}

pub(crate) async fn a_busy_resource_takes_nobody_elses_past(backend: &dyn Backend) {
    let large = "x".repeat(10_000);
    for limits in [Limits { events: 10, bytes: 1 << 20 }, Limits { events: 10_000, bytes: 200_000 }]
    {
        let store = backend.open(limits);
        let start = store.snapshot().revision();
        let mut last = start;
        for round in 0..3 {
            let secret = put("secrets|root|default|s", &format!("{round}{limits:?}"));
            last = write(&store, &[secret]).await.revision;
        }
        for round in 0..30 {
            write(&store, &[put("a", &format!("{round}{large}"))]).await;
        }
        assert!(store.watch(vec![all_pods()], start).is_err(), "{limits:?}: that is all kept");
        let mut watch = store.watch(vec![secrets()], start).unwrap();
        assert_eq!(read_until(&mut watch, last).await.len(), 3, "{limits:?}");
    }
}

pub(crate) async fn a_busy_cluster_takes_no_other_cluster_s_past(backend: &dyn Backend) {
    let large = "x".repeat(10_000);
    let store = backend.open(Limits { events: 10_000, bytes: 400_000 });
    let start = store.snapshot().revision();
    let of = |name: &str| Scope { cluster: Some(cluster(name)), ..all_pods() };
    for round in 0..3 {
        write(&store, &[put("pods|pi-1|default|a", &round.to_string())]).await;
    }
    let then = listed(&*store.snapshot(), &of("pi-1"));
    let there = write(&store, &[put("pods|pi-1|default|a", "new")]).await.revision;
    for round in 0..100 {
        write(&store, &[put("pods|pi-2|default|b", &format!("{round}{large}"))]).await;
    }
    assert!(store.watch(vec![all_pods()], there).is_err(), "of all there is no more than fits");
    assert!(store.watch(vec![of("pi-2")], there).is_err(), "it has emptied its own");
    let mut watch = store.watch(vec![of("pi-1")], start).unwrap();
    assert_eq!(read_until(&mut watch, there).await.len(), 4);
    let page = store.snapshot_at(&of("pi-1"), there - backend.step()).unwrap();
    assert_eq!(listed(&*page, &of("pi-1")), then, "a list in pages goes on");
    // Nothing has happened in this one, and it has no past of its own.
    let mut watch = store.watch(vec![of("pi-3")], start).unwrap();
    let last = write(&store, &[put("pods|pi-3|default|c", "1")]).await.revision;
    assert_eq!(read_until(&mut watch, last).await.len(), 1);
}

pub(crate) async fn an_idle_watcher_is_not_behind(backend: &dyn Backend) {
    let store = backend.open(Limits { events: 10, bytes: 1 << 20 });
    let quiet = Scope { cluster: Some(cluster("pi-7")), ..all_pods() };
    let mut watch = store.watch(vec![quiet], 0).unwrap();
    for round in 0..30 {
        write(&store, &[put("a", &round.to_string())]).await;
    }
    write(&store, &[put("pods|pi-7|default|b", "1")]).await;
    let last = 31 * backend.step();
    assert_eq!(tell(backend, &read_until(&mut watch, last).await), ["31 >b=1"]);
}

pub(crate) async fn a_cancelled_wait_loses_nothing(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut watch = store.watch(vec![all_pods()], 0).unwrap();
    let mut revisions = Vec::new();
    for round in 1..=20 {
        let writing = store.commit(txn(&[], &[put("a", &round.to_string())]));
        let (_, early) = tokio::join!(writing, timeout(Duration::from_micros(50), watch.next()));
        revisions.extend(early.into_iter().flatten().flatten().map(|event| event.revision));
    }
    while revisions.len() < 20 {
        let rest = timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
        revisions.extend(rest.iter().map(|event| event.revision));
    }
    assert_eq!(revisions, (1..=20).map(|count| count * backend.step()).collect::<Vec<_>>());
}

pub(crate) async fn what_a_watch_says_a_snapshot_shows(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut watch = store.watch(vec![all_pods()], 0).unwrap();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..100_u32 {
                write(&store, &[put(&format!("p{}", round % 7), &round.to_string())]).await;
            }
        })
    };
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    while watch.progress() < 100 * backend.step() {
        let events = timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
        for event in &events {
            let now = event.now.as_ref().unwrap();
            model.insert(now.key.name.to_string(), said(now));
        }
        let at = events.last().unwrap().revision;
        assert!(at <= store.snapshot().revision(), "told before it can be read");
        let shown = listed(&*store.snapshot_at(&all_pods(), at).unwrap(), &all_pods());
        assert_eq!(shown, model.values().cloned().collect::<Vec<_>>());
    }
    writer.await.unwrap();
}

pub(crate) async fn every_watcher_sees_every_revision_under_load(backend: &dyn Backend) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 60;
    let store = backend.fresh();
    let step = backend.step();
    let mut tasks = tokio::task::JoinSet::new();
    for watcher in 0..6 {
        let scopes = if watcher % 2 == 0 { vec![] } else { vec![all_pods()] };
        let mut watch = store.watch(scopes, 0).unwrap();
        tasks.spawn(async move {
            let events = read_until(&mut watch, WRITERS * EACH * step).await;
            let revisions = events.iter().map(|event| event.revision);
            assert!(revisions.eq((1..=WRITERS * EACH).map(|count| count * step)));
        });
    }
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..EACH {
                let done = write(&store, &[put(&format!("p{writer}"), &round.to_string())]).await;
                assert!(done.revision <= store.snapshot().revision());
            }
        });
    }
    tasks.join_all().await;
}

pub(crate) async fn nobody_goes_on_from_revisions_that_were_skipped(backend: &dyn Backend) {
    let store = backend.fresh();
    write(&store, &[put("a", "1")]).await;
    write(&store, &[put("a", "2")]).await;
    store.skip_to(5000, put("mark", "1"));
    let step = backend.step();
    let known = store.snapshot().revision();
    assert_eq!(known, 2 * step, "nothing is written yet");
    let first = write(&store, &[put("a", "3")]).await.revision;
    assert_eq!(first, 5000 + step);
    let of = all_pods();
    // The future that is lost may have used these as well.
    for lost in [step, known, known + 1, 4000, 5000] {
        assert!(store.watch(vec![all_pods()], lost).is_err(), "{lost}");
        assert!(store.snapshot_at(&of, lost).is_err(), "{lost}");
    }
    assert!(store.watch(vec![all_pods()], first).is_ok());
    assert!(store.snapshot_at(&of, first).is_ok());
    // Another time.
    store.skip_to(9000, put("mark", "2"));
    assert_eq!(write(&store, &[]).await.revision, first, "who changes nothing skips nothing");
    let second = write(&store, &[put("a", "4")]).await.revision;
    assert_eq!(second, 9000 + step);
    for lost in [step, known, 5000, first, 9000] {
        assert!(store.watch(vec![all_pods()], lost).is_err(), "{lost}");
    }
    assert!(store.watch(vec![all_pods()], second).is_ok());
}

/// Also who watches already, and what nothing happens to: it may have begun at a revision of the future that is lost.
pub(crate) async fn who_watches_is_told_of_a_skip(backend: &dyn Backend) {
    let store = backend.fresh();
    let first = write(&store, &[put("a", "1")]).await.revision;
    let mut ahead = store.watch(vec![secrets()], 4000).unwrap();
    let mut followed = store.watch(vec![all_pods()], first).unwrap();
    let mut idle = store.watch(vec![secrets()], first).unwrap();
    store.skip_to(5000, put("mark", "1"));
    let told = timeout(Duration::from_secs(10), idle.next());
    let operations = [put("b", "1")];
    let (told, second) = tokio::join!(told, write(&store, &operations));
    let second = second.revision;
    assert!(told.unwrap().is_err());
    for watch in [&mut ahead, &mut followed] {
        assert!(watch.progress() < second, "what it has not been told it has not seen");
        assert!(timeout(Duration::from_secs(10), watch.next()).await.unwrap().is_err());
    }
    let (state, mut watch) = store.follow(vec![all_pods()]);
    assert_eq!(listed(&*state, &all_pods()), ["a=1", "b=1", "mark=1"]);
    let third = write(&store, &[put("b", "2")]).await.revision;
    assert_eq!(read_until(&mut watch, third).await.len(), 1);
}
