//! A Deployment that has as many pods as its load asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, http, web};

/// Where the web server answers.
const PORT: u16 = 30610;
/// Some turns of the autoscaler, of fifteen seconds each.
const TURNS: Duration = Duration::from_secs(150);

/// It asks for next to nothing, so that any load is much.
const REQUESTS: &str = "--requests=cpu=5m";
/// Fewer as soon as they are too many.
const AT_ONCE: &str = r#"{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":0}}}}"#;

fn replicas_are(kubectl: &Kubectl, wanted: &str) {
    eventually(&format!("there are {wanted}"), TURNS, || {
        let path = "jsonpath={.status.readyReplicas}";
        let found = kubectl.run(&["get", "deployment", "web", "-o", path]);
        if found == wanted {
            return Ok(());
        }
        Err(format!("{found}; {}", kubectl.typed("describe hpa web")))
    });
}

#[test]
fn a_web_server_grows_under_load_and_shrinks_again() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("hello-http", "hello-http:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(&web::manifest(1, PORT));
    kubectl.does(&["set", "resources", "deployment/web", REQUESTS]);
    kubectl.does(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    fleet.answers("pi-1", PORT, "hello from web-");

    let stop = Arc::new(AtomicBool::new(false));
    let address = fleet.node_port("pi-1", PORT);
    let load: Vec<_> = (0..2)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Whether each is answered is another test's matter.
                    let _ = http::get(address, "/");
                }
            })
        })
        .collect();
    let said = kubectl.try_run(&[
        "autoscale",
        "deployment",
        "web",
        "--min=1",
        "--max=3",
        "--cpu-percent=50",
    ]);
    assert!(said.ok && !said.err.contains("kept without effect"), "{}", said.err);
    kubectl.does(&["patch", "hpa", "web", "-p", AT_ONCE]);
    replicas_are(&kubectl, "3");
    let shown = kubectl.typed("get hpa web --no-headers");
    let columns: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(columns[..3], ["web", "Deployment/web", "cpu:"], "{shown}");
    let target = columns[3].strip_suffix("%/50%").and_then(|percent| percent.parse::<u32>().ok());
    assert!(target.is_some_and(|percent| 50 < percent), "{shown}");
    assert_eq!(columns[4..6], ["1", "3"], "{shown}");

    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().expect("the load");
    }
    replicas_are(&kubectl, "1");
    let told = kubectl.typed("describe hpa web");
    for part in [
        "New size: 3; reason: cpu resource utilization (percentage of request) above target",
        "reason: All metrics below target",
        "ValidMetricFound",
    ] {
        assert!(told.contains(part), "{told}");
    }
}
