//! A controller as kube-rs has them: a kind by derive, a controller with a finalizer that applies a ConfigMap, watchers
//! and reflectors, server-side apply, a lease that candidates share, logs and exec. It panics at the first difference.
//! The pod `kit` has to run.

mod controller;
mod valve;

use std::future::Future;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{
    AttachParams, DeleteParams, ListParams, LogParams, ObjectMeta, Patch, PatchParams, PostParams,
};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt as _, conditions, reflector, watcher};
use kube::{Api, Client, Error, ResourceExt as _};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

const NAMESPACE: &str = "kube-rs";
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let client = Client::try_default().await.expect("a client");
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    let namespace = serde_json::from_value(namespace).expect("a namespace");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
    applies(client.clone()).await;
    watches(client.clone()).await;
    controller::works(client.clone()).await;
    shares_a_lease(client.clone()).await;
    streams(client.clone()).await;
    let version = client.apiserver_version().await.expect("a version");
    assert_eq!(version.major, "1");
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await.expect("it is taken");
    within(
        "the namespace goes",
        await_condition(namespaces, NAMESPACE, |found: Option<&Namespace>| found.is_none()),
    )
    .await;
    println!("kube-rs works");
}

/// What comes in time.
async fn within<T, E: std::fmt::Debug>(what: &str, it: impl Future<Output = Result<T, E>>) -> T {
    let came = tokio::time::timeout(PATIENCE, it).await;
    came.unwrap_or_else(|_| panic!("still not so: {what}")).expect(what)
}

fn config_map(name: &str) -> ConfigMap {
    let labels = [("app".to_owned(), "kube-rs".to_owned())].into();
    let metadata =
        ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> (u16, String) {
    match answer {
        Err(Error::Api(status)) => (status.code, status.reason),
        other => panic!("this should be refused: {other:?}"),
    }
}

/// Server-side apply: who owns what, conflicts, and what is given up goes.
async fn applies(client: Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let body = |level: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"},
               "data": {"level": level, "kept": "yes"}})
    };
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    let made = maps.patch("applied", &one, &Patch::Apply(body("info"))).await.expect("an apply");
    let again = maps.patch("applied", &one, &Patch::Apply(body("info"))).await.expect("an apply");
    assert_eq!(made.resource_version(), again.resource_version(), "nothing changed");
    let conflict = maps.patch("applied", &two, &Patch::Apply(body("debug"))).await;
    assert_eq!(code(conflict), (409, "Conflict".to_owned()));
    let forced = maps.patch("applied", &two.clone().force(), &Patch::Apply(body("debug"))).await;
    assert_eq!(forced.expect("by force").data.expect("data")["level"], "debug");
    let less = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"level": "debug"}});
    let left = maps.patch("applied", &two, &Patch::Apply(&less)).await.expect("less");
    assert_eq!(left.data.expect("data")["kept"], "yes", "the other one still owns it");
    let dry = PatchParams { dry_run: true, ..two };
    maps.patch("pretended", &dry, &Patch::Apply(&less)).await.expect("a pretence");
    assert!(maps.get_opt("pretended").await.expect("an answer").is_none());
    let exists = maps.create(&PostParams::default(), &config_map("applied")).await;
    assert_eq!(code(exists), (409, "AlreadyExists".to_owned()));
    assert_eq!(code(maps.get("none").await), (404, "NotFound".to_owned()));
    let mut entry =
        maps.entry("by-entry").await.expect("an entry").or_insert(|| config_map("by-entry"));
    entry.get_mut().data.get_or_insert_default().insert("a".to_owned(), "b".to_owned());
    entry.commit(&PostParams::default()).await.expect("a commit");
    assert!(maps.get_metadata("by-entry").await.expect("metadata").metadata.uid.is_some());
}

/// Watchers by lists and by streams, and a reflector that follows.
async fn watches(client: Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    for number in 0..7 {
        let made = config_map(&format!("watched-{number}"));
        maps.create(&PostParams::default(), &made).await.expect("a ConfigMap");
    }
    let selected = ListParams::default().labels("app=kube-rs").limit(3);
    let page = maps.list(&selected).await.expect("a page");
    assert_eq!((page.items.len(), page.metadata.remaining_item_count), (3, None), "it selects");
    let rest = selected.continue_token(&page.metadata.continue_.expect("more"));
    assert_eq!(maps.list(&rest).await.expect("a page").items.len(), 3);
    let by_list = watcher::Config::default().labels("app=kube-rs").page_size(2);
    for config in [by_list, watcher::Config::default().labels("app=kube-rs").streaming_lists()] {
        let (reader, writer) = reflector::store();
        let follow = reflector(writer, watcher(maps.clone(), config)).applied_objects();
        let follow = tokio::spawn(follow.try_for_each(|_| async { Ok(()) }));
        within("the reflector is filled", reader.wait_until_ready()).await;
        assert_eq!(reader.len(), 8, "seven and the one by entry");
        let late = config_map("late");
        maps.create(&PostParams::default(), &late).await.expect("a ConfigMap");
        until("it hears of another one", || reader.len() == 9).await;
        maps.delete("late", &DeleteParams::default()).await.expect("a delete");
        until("it hears of an end", || reader.len() == 8).await;
        follow.abort();
    }
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=kube-rs"))
        .await
        .expect("a delete of all");
}

/// Waits for a state.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Error>(())
    };
    within(what, wait).await;
}

/// Two candidates want one lease: who writes from an older version is refused, and who applies what another one holds.
async fn shares_a_lease(client: Client) {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let held = |by: &str, times: i32, version: Option<String>| {
        let spec = LeaseSpec {
            holder_identity: Some(by.to_owned()),
            lease_transitions: Some(times),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some("leader".to_owned()),
            resource_version: version,
            ..ObjectMeta::default()
        };
        Lease { metadata, spec: Some(spec) }
    };
    let post = PostParams::default();
    let made = leases.create(&post, &held("one", 0, None)).await.expect("a lease");
    assert_eq!(code(leases.create(&post, &held("two", 0, None)).await).1, "AlreadyExists");
    let renew = held("one", 1, made.resource_version());
    let renewed = leases.replace("leader", &post, &renew).await.expect("a renewal");
    let late = leases.replace("leader", &post, &held("two", 2, made.resource_version())).await;
    assert_eq!(code(late), (409, "Conflict".to_owned()));
    let taken = held("two", 2, renewed.resource_version());
    let given = leases.replace("leader", &post, &taken).await.expect("a change");
    assert_eq!(given.spec.expect("a spec").holder_identity.as_deref(), Some("two"));
}

/// Logs, exec and a wait for a pod's state.
async fn streams(client: Client) {
    let pods: Api<Pod> = Api::namespaced(client, "default");
    within("the pod runs", await_condition(pods.clone(), "kit", conditions::is_pod_running()))
        .await;
    let log = pods.logs("kit", &LogParams::default()).await.expect("its log");
    assert_eq!(log, "wrote it is open\n");
    let params = AttachParams::default().stderr(false);
    let mut process =
        pods.exec("kit", ["kit", "say", "from", "kube-rs"], &params).await.expect("exec");
    let mut said = String::new();
    let status = process.take_status().expect("a status");
    process.stdout().expect("its output").read_to_string(&mut said).await.expect("what it says");
    assert_eq!(said, "from kube-rs\n");
    assert_eq!(status.await.expect("how it ended").status.as_deref(), Some("Success"));
    process.join().await.expect("an end");
    let mut failed = pods.exec("kit", ["kit", "exit", "3"], &params).await.expect("exec");
    let status = failed.take_status().expect("a status").await.expect("how it ended");
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?}");
    let lines = pods
        .log_stream("kit", &LogParams { follow: true, ..LogParams::default() })
        .await
        .expect("its log");
    let mut lines = futures::AsyncBufReadExt::lines(lines);
    assert_eq!(lines.next().await.expect("a line").expect("text"), "wrote it is open");
}
