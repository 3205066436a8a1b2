//! A rolling update under constant load through the Service loses no request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use freewheel_tests::{Fleet, http};

/// Where the web server answers.
const PORT: u16 = 30600;

#[test]
fn a_rolling_update_loses_no_request() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.serve_web(3, PORT, &["pi-1", "pi-2"]);
    let kubectl = fleet.kubectl();
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let lost = Arc::new(Mutex::new(Vec::new()));
    let load: Vec<_> = ["pi-1", "pi-2"]
        .map(|node| {
            let (address, stop, sent, lost) =
                (fleet.node_port(node, PORT), stop.clone(), sent.clone(), lost.clone());
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
    fleet.answers("pi-1", PORT, "third from web-");
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
