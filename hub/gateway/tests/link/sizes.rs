//! Objects of any size that the API takes: they land, or their user reads why not, and the session stays.

use freewheel_hub_store::MAX_OBJECT_BYTES;

use crate::support::*;

const MAPS: (&str, &str, &str) = ("", "v1", "configmaps");

fn config_map(name: &str, bytes: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"k": "x".repeat(bytes)},
    })
}

/// A pod on pi-7 that reads these ConfigMaps.
fn reader(name: &str, maps: &[String]) -> Value {
    let mut pod = pod(name, "pi-7");
    let from: Vec<Value> = maps.iter().map(|m| json!({"configMapRef": {"name": m}})).collect();
    pod["spec"]["containers"][0]["envFrom"] = from.into();
    pod
}

/// Takes plans until so many pods and ConfigMaps are held.
async fn until(holder: &mut Holder, session: &mut Session, pods: usize, maps: usize) {
    let count = |holder: &Holder, kind| holder.set.iter().filter(|r| r.key.kind == kind).count();
    while (count(holder, Kind::POD_V1), count(holder, Kind::CONFIG_MAP_V1)) != (pods, maps) {
        let plan = holder.plan(session).await;
        holder.took(session, &plan).await;
    }
}

#[tokio::test]
async fn objects_as_large_as_the_api_takes_land_and_what_no_device_holds_is_refused_at_its_pod() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    hub.create(MAPS, "default", "exactly", config_map("exactly", (1 << 20) - 1)).await;
    hub.create(PODS, "default", "reader", reader("reader", &["exactly".into()])).await;
    let mut env = pod("env", "pi-7");
    let value = "x".repeat(1_500_000);
    env["spec"]["containers"][0]["env"] = json!([{"name": "E", "value": value}]);
    hub.create(PODS, "default", "env", env).await;
    until(&mut holder, &mut session, 2, 1).await;

    let many: Vec<String> = (0..36).map(|i| format!("m{i}")).collect();
    for name in &many {
        hub.create(MAPS, "default", name, config_map(name, 1_000_000)).await;
    }
    hub.create(PODS, "default", "greedy", reader("greedy", &many)).await;
    hub.create(PODS, "default", "small", pod("small", "pi-7")).await;
    until(&mut holder, &mut session, 3, 1).await;
    let refused = || {
        let found = hub.objects.get(&place(PODS, "default", "greedy")).unwrap();
        found.object.value().unwrap()["status"]["reason"] == "TooLarge"
    };
    eventually("the pod's user reads why", refused).await;
    let greedy = hub.get(PODS, "default", "greedy").await;
    let conditions = greedy["status"]["conditions"].as_array().unwrap();
    let told = |c: &&Value| c["type"] == "Ready" && c["reason"] == "TooLarge";
    assert!(conditions.iter().any(|c| told(&c)), "{conditions:?}");
    assert_eq!(hub.gateway.connected().len(), 1, "the session stays");

    // Its deletion waits for no device.
    let place = place(PODS, "default", "greedy");
    hub.objects.delete(&WriteOptions::default(), &place, &DeleteOptions::default()).await.unwrap();
    eventually("the pod is gone", || hub.objects.get(&place).is_err()).await;
}

#[tokio::test]
async fn a_pod_without_room_for_the_reason_is_told_of_by_an_event() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    // The API takes it, and the wire does not.
    let odd = |name: &str, bytes: usize| {
        let mut pod = pod(name, "pi-7");
        pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/v"}}]);
        pod["spec"]["containers"][0]["env"] = json!([{"name": "E", "value": "x".repeat(bytes)}]);
        pod
    };
    let size =
        |name: &str| hub.objects.get(&place(PODS, "default", name)).unwrap().object.body.len();
    hub.create(PODS, "default", "odd-1", odd("odd-1", 1000)).await;
    let room = MAX_OBJECT_BYTES - size("odd-1");
    // The first has a status by then, the others none.
    hub.create(PODS, "default", "odd-2", odd("odd-2", room)).await;
    let room = room + MAX_OBJECT_BYTES - size("odd-2");
    hub.create(PODS, "default", "odd-3", odd("odd-3", room)).await;
    assert_eq!(size("odd-3"), MAX_OBJECT_BYTES, "not one more byte");
    let told = || {
        let resource = freewheel_hub_schema::object::Resource::new("", "events");
        let scope = Scope { resource, cluster: None, namespace: None };
        let snapshot = hub.objects.store().snapshot();
        let all = snapshot.range(&scope, None).map(|stored| stored.object.value().unwrap());
        let of: Vec<Value> = all.filter(|e| e["involvedObject"]["name"] == "odd-3").collect();
        of
    };
    eventually("the pod's user reads why", || !told().is_empty()).await;
    // Looks that find the same say it no more.
    for name in ["one", "two", "three"] {
        hub.create(PODS, "default", name, pod(name, "pi-7")).await;
        until(&mut holder, &mut session, 1, 0).await;
        hub.objects
            .delete(
                &WriteOptions::default(),
                &place(PODS, "default", name),
                &DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() },
            )
            .await
            .unwrap();
        until(&mut holder, &mut session, 0, 0).await;
    }
    let [event] = &told()[..] else { panic!("{:?}", told()) };
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("UnsupportedField")));
    assert_eq!(event["count"], 1);
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("volume \"v\""), "{message}");
    // What has room has it all.
    let first = hub.get(PODS, "default", "odd-1").await;
    assert_eq!(first["status"]["message"], event["message"]);
}
