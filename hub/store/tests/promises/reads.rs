//! Snapshots.

use std::collections::BTreeMap;

use freewheel_hub_store::{Limits, Scope};
use futures::FutureExt as _;

use super::kit::{Backend, all_pods, cluster, key, listed, pods, put, remove, said, write};

pub(crate) async fn a_snapshot_never_changes(backend: &dyn Backend) {
    let store = backend.fresh();
    write(&store, &[put("a", "1"), put("b", "1")]).await;
    let kept = store.snapshot();
    write(&store, &[put("a", "2"), remove("b"), put("c", "2")]).await;
    assert_eq!(kept.revision(), backend.step());
    assert_eq!(listed(&*kept, &all_pods()), ["a=1", "b=1"]);
    assert_eq!(listed(&*store.snapshot(), &all_pods()), ["a=2", "c=2"]);
}

pub(crate) async fn ranges_are_ordered_and_stay_in_their_scope(backend: &dyn Backend) {
    let store = backend.fresh();
    let paths = [
        "pods|pi-7|default|e",
        "pods|root|default|c",
        "pods|root|default-2|b",
        "pods|root|default|a",
        "pods|root||d",
        "podx|root|default|x",
        "pod|root|default|y",
        "pods.metrics|root|default|z",
    ];
    for path in paths {
        write(&store, &[put(path, "1")]).await;
    }
    let snapshot = store.snapshot();
    let within = |cluster_name: Option<&str>, namespace: Option<&str>| {
        let scope = Scope {
            resource: pods(),
            cluster: cluster_name.map(cluster),
            namespace: namespace.map(Into::into),
        };
        let names: Vec<_> =
            snapshot.range(&scope, None).map(|stored| stored.key.name.to_string()).collect();
        assert_eq!(snapshot.count(&scope), names.len());
        names.concat()
    };
    assert_eq!(within(None, None), "edacb");
    assert_eq!(within(Some("root"), None), "dacb");
    assert_eq!(within(Some("root"), Some("default")), "ac");
    assert_eq!(within(Some("root"), Some("")), "d");
    assert_eq!(within(Some("pi-7"), None), "e");
    assert_eq!(within(Some("pi"), None), "");
}

pub(crate) async fn a_range_goes_on_after_a_key(backend: &dyn Backend) {
    let store = backend.fresh();
    for index in 0..100 {
        write(&store, &[put(&format!("p{index:02}"), "1")]).await;
    }
    write(&store, &[put("pods|a|default|before", "1"), put("pods|z|default|behind", "1")]).await;
    let scope = Scope { cluster: Some(cluster("root")), ..all_pods() };
    let snapshot = store.snapshot();
    let mut seen = Vec::new();
    let mut after = Some(key("pods|a|default|before"));
    loop {
        let page: Vec<_> = snapshot.range(&scope, after.as_ref()).take(7).collect();
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        seen.extend(page.iter().map(|stored| stored.key.name.to_string()));
    }
    assert_eq!(seen, (0..100).map(|index| format!("p{index:02}")).collect::<Vec<_>>());
    // A key that is gone is as good a place to go on from.
    let rest = snapshot.range(&scope, Some(&key("p97x"))).count();
    assert_eq!(rest, 2);
}

pub(crate) async fn older_revisions_are_exact(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut random = fastrand::Rng::with_seed(7);
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    let mut history = vec![Vec::new()];
    for round in 1..=200 {
        let name = format!("p{}", random.u8(..20));
        if random.bool() && model.contains_key(&name) {
            model.remove(&name);
            write(&store, &[remove(&name)]).await;
        } else {
            model.insert(name.clone(), round.to_string());
            write(&store, &[put(&name, &round.to_string())]).await;
        }
        history.push(model.iter().map(|(name, text)| format!("{name}={text}")).collect());
    }
    let step = backend.step();
    for (count, expected) in (0..).zip(&history) {
        let revision = count * step;
        let mut found = listed(&*store.snapshot_at(&all_pods(), revision).unwrap(), &all_pods());
        let mut expected: Vec<String> = expected.clone();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "at revision {revision}");
    }
    assert_eq!(store.snapshot_at(&all_pods(), 3 * step).unwrap().revision(), 3 * step);
    let first = store.snapshot_at(&all_pods(), step).unwrap();
    let stored = first.range(&all_pods(), None).next().unwrap();
    assert!(said(&stored).ends_with("=1"));
    assert_eq!(stored.revision, step);
}

pub(crate) async fn a_revision_out_of_reach_is_an_error(backend: &dyn Backend) {
    let store = backend.open(Limits { events: 10, bytes: 1 << 20 });
    for round in 0..30 {
        write(&store, &[put("a", &round.to_string())]).await;
    }
    let step = backend.step();
    let at = |revision| store.snapshot_at(&all_pods(), revision);
    assert!(at(30 * step).is_ok());
    assert!(at(20 * step).is_ok());
    let early = 20 * step - 1;
    let Err(gone) = at(early) else { panic!("revision {early} is kept") };
    assert_eq!((gone.asked, gone.oldest), (early, 20 * step));
    assert!(at(30 * step + 1).is_err());
}

pub(crate) async fn whoever_was_answered_reads_what_it_wrote(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let store = store.clone();
        writers.spawn(async move {
            let name = format!("p{writer}");
            let mut watch = store.watch(vec![all_pods()], store.snapshot().revision()).unwrap();
            for round in 0..20 {
                let done = write(&store, &[put(&name, &round.to_string())]).await;
                let wrote = done.results[0].clone();
                assert_eq!(store.snapshot().get(&key(&name)), wrote);
                assert_eq!(store.fresh().await.get(&key(&name)), wrote);
                assert_eq!(store.wait_for(done.revision).await.get(&key(&name)), wrote);
                let then = store.snapshot_at(&all_pods(), done.revision).unwrap();
                assert_eq!(then.get(&key(&name)), wrote);
                // Without being called: each of these looks finds something, or has all there is.
                let mut told = Vec::new();
                while let Some(more) = watch.next().now_or_never() {
                    told.extend(more.unwrap());
                }
                assert!(told.iter().any(|event| event.revision == done.revision));
            }
        });
    }
    writers.join_all().await;
}

pub(crate) async fn a_revision_ahead_is_waited_for(backend: &dyn Backend) {
    let store = backend.fresh();
    let ahead = write(&store, &[put("a", "1")]).await.revision + 2 * backend.step();
    let mut waits = Box::pin(store.wait_for(ahead));
    assert!((&mut waits).now_or_never().is_none());
    write(&store, &[put("a", "2")]).await;
    assert!((&mut waits).now_or_never().is_none(), "that is not yet it");
    // Also when nobody watches what has come.
    write(&store, &[put("leases.internal|root||a", "3")]).await;
    let there = tokio::time::timeout(std::time::Duration::from_secs(10), waits).await.unwrap();
    assert_eq!(there.revision(), ahead);
    // Between two of ours.
    assert_eq!(store.wait_for(ahead - 1).await.revision(), ahead);
    drop(store.wait_for(u64::MAX));
}

pub(crate) async fn internal_records_are_followed_from_what_is_there(backend: &dyn Backend) {
    let store = backend.fresh();
    let of_leases = |text: &str| put("leases.internal|root||a", text);
    let scope = Scope { resource: key("leases.internal|root||a").resource, ..all_pods() };
    write(&store, &[of_leases("1")]).await;
    write(&store, &[of_leases("2")]).await;
    let (snapshot, mut watch) = store.follow(vec![scope.clone(), all_pods()]);
    assert_eq!(listed(&*snapshot, &scope), ["a=2"]);
    write(&store, &[of_leases("3")]).await;
    let last = write(&store, &[put("b", "4"), of_leases("4")]).await.revision;
    let events = super::kit::read_until(&mut watch, last).await;
    let told: Vec<_> = events.iter().map(|event| said(event.now.as_ref().unwrap())).collect();
    assert_eq!(told, ["a=3", "b=4", "a=4"]);
}
