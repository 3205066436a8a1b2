//! Snapshots.

use std::collections::BTreeMap;

use freewheel_hub_store::{Limits, Scope};

use super::kit::{Backend, all_pods, cluster, key, listed, pods, put, remove, said, write};

pub(crate) async fn a_snapshot_never_changes(backend: &dyn Backend) {
    let store = backend.fresh();
    write(&store, &[put("a", "1"), put("b", "1")]).await;
    let kept = store.snapshot();
    write(&store, &[put("a", "2"), remove("b"), put("c", "2")]).await;
    assert_eq!(kept.revision(), 1);
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
    for (revision, expected) in (0..).zip(&history) {
        let mut found = listed(&*store.snapshot_at(revision).unwrap(), &all_pods());
        let mut expected: Vec<String> = expected.clone();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "at revision {revision}");
    }
    assert_eq!(store.snapshot_at(3).unwrap().revision(), 3);
    let stored = store.snapshot_at(1).unwrap().range(&all_pods(), None).next().unwrap();
    assert!(said(&stored).ends_with("=1"));
    assert_eq!(stored.revision, 1);
}

pub(crate) async fn a_revision_out_of_reach_is_an_error(backend: &dyn Backend) {
    let store = backend.open(Limits { events: 10, bytes: 1 << 20 });
    for round in 0..30 {
        write(&store, &[put("a", &round.to_string())]).await;
    }
    assert!(store.snapshot_at(30).is_ok());
    assert!(store.snapshot_at(20).is_ok());
    let Err(gone) = store.snapshot_at(19) else { panic!("revision 19 is kept") };
    assert_eq!((gone.asked, gone.oldest), (19, 20));
    assert!(store.snapshot_at(31).is_err());
}
