//! A rolling update under constant load through the Service loses no request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::{Fleet, eventually, http};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: hello-http:v1
          env: [{name: GREETING, value: first}]
          ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30600}]
";

#[test]
fn a_rolling_update_loses_no_request() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.push("hello-http", "hello-http:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(WEB);
    fleet.pods_ready(&kubectl, "app=web", 3);
    for node in ["pi-1", "pi-2"] {
        eventually("the service answers", PATIENCE, || {
            match http::get(fleet.node_port(node, 30600), "/") {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let lost = Arc::new(Mutex::new(Vec::new()));
    let load: Vec<_> = ["pi-1", "pi-2"]
        .map(|node| {
            let (address, stop, sent, lost) =
                (fleet.node_port(node, 30600), stop.clone(), sent.clone(), lost.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    sent.fetch_add(1, Ordering::Relaxed);
                    match http::get(address, "/") {
                        Ok((200, body)) if body.contains(" from web-") => {}
                        other => lost.lock().expect("a lock").push(format!("{node}: {other:?}")),
                    }
                }
            })
        })
        .into();
    for greeting in ["second", "third"] {
        kubectl.does(&["set", "env", "deployment/web", &format!("GREETING={greeting}")]);
        kubectl.does(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    }
    eventually("only the new pods answer", PATIENCE, || {
        match http::get(fleet.node_port("pi-1", 30600), "/") {
            Ok((200, body)) if body.starts_with("third") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    fleet.pods_ready(&kubectl, "app=web", 3);
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().expect("the load");
    }
    let lost = lost.lock().expect("a lock");
    let sent = sent.load(Ordering::Relaxed);
    assert!(100 < sent, "only {sent} requests were sent");
    assert!(lost.is_empty(), "{} of {sent} requests were lost: {:?}", lost.len(), lost.first());
}
