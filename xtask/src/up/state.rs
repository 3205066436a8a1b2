//! Whether what the store says is so now: it remembers the fleet of the last time as Ready.
//!
//! Guarantees:
//! - only what was heard from this start's spokes counts (`a_lease_of_an_earlier_life_is_no_sign_of_life`,
//!   `pods_count_when_their_containers_run_since_this_start`).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(2);

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    items(list).find(|item| item["metadata"]["name"] == name)
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn condition_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|is| is["type"] == "Ready" && is["status"] == "True")
}

/// Whether this node is Ready.
pub(super) fn is_ready(nodes: &Value, name: &str) -> bool {
    named(nodes, name).is_some_and(condition_ready)
}

/// Whether this node's session was up when its Lease was `asked` for: the hub renews the Leases of those
/// that are connected whenever somebody reads them, and of nobody else.
pub(super) fn is_here(leases: &Value, name: &str, asked: Timestamp) -> bool {
    let renewed = named(leases, name).and_then(|lease| time(&lease["spec"]["renewTime"]));
    renewed.is_some_and(|renewed| asked <= renewed)
}

/// Whether every Deployment of what was `applied` has rolled out, and each of its pods is Ready with containers that
/// were started `since`; else who is not. Pods on spokes of an earlier start that are not here today are theirs,
/// and pods of nobody's example the user's.
pub(super) fn examples_run(
    applied: &Value,
    pods: &Value,
    spokes: &[String],
    since: Timestamp,
) -> Result<(), String> {
    let here = |pod: &&Value| match pod["spec"]["nodeName"].as_str() {
        Some(node) => spokes.iter().any(|spoke| spoke == node),
        None => true,
    };
    for deployment in items(applied).filter(|object| object["kind"] == "Deployment") {
        let name = deployment["metadata"]["name"].as_str().unwrap_or_default();
        let status = &deployment["status"];
        if status["observedGeneration"] != deployment["metadata"]["generation"]
            || status["updatedReplicas"] != status["replicas"]
        {
            return Err(format!("Deployment {name} is rolling out"));
        }
        let mut ours = items(pods).filter(|pod| is_of(pod, deployment)).filter(here).peekable();
        if ours.peek().is_none() {
            return Err(format!("Deployment {name} has no pod here"));
        }
        if let Some(pod) = ours.find(|pod| !condition_ready(pod) || !started(pod, since)) {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            return Err(format!("pod {name} is not (`kubectl describe pod {name}` says why)"));
        }
    }
    Ok(())
}

/// Whether the Deployment selects the pod by its labels.
fn is_of(pod: &Value, deployment: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let wanted = deployment["spec"]["selector"]["matchLabels"].as_object();
    pod["metadata"]["namespace"] == deployment["metadata"]["namespace"]
        && wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
}

/// Kubernetes tells starts by the second.
fn started(pod: &Value, since: Timestamp) -> bool {
    let mut containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    containers.all(|container| {
        let at = time(&container["state"]["running"]["startedAt"]);
        at.is_some_and(|at| since.as_second() <= at.as_second())
    })
}

/// Whether HTTP is answered there, with success.
pub(super) fn answers(address: SocketAddr) -> bool {
    ask(address)
        .is_ok_and(|head| head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200"))
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one piece, and so are answers: whoever has read enough closes.
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_lease_of_an_earlier_life_is_no_sign_of_life() {
        let renewed = "2026-01-01T00:00:05.000000Z";
        let leases =
            json!({"items": [{"metadata": {"name": "pi-1"}, "spec": {"renewTime": renewed}}]});
        assert!(is_here(&leases, "pi-1", at("2026-01-01T00:00:04.9Z")));
        assert!(!is_here(&leases, "pi-1", at("2026-01-01T00:00:05.1Z")));
        assert!(!is_here(&leases, "pi-2", at("2026-01-01T00:00:04Z")));
    }

    #[test]
    fn pods_count_when_their_containers_run_since_this_start() {
        let since = at("2026-01-01T00:00:05.7Z");
        let spokes = ["pi-1".to_owned()];
        let applied = json!({"items": [
            {"kind": "Service", "metadata": {"name": "web"}},
            {"kind": "Deployment", "metadata": {"name": "web", "namespace": "default", "generation": 2},
             "spec": {"selector": {"matchLabels": {"app": "web"}}},
             "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}},
        ]});
        let labelled = |app: &str, node: &str, ready: &str, started: &str| {
            let metadata = json!({"name": "p", "namespace": "default", "labels": {"app": app}});
            json!({"metadata": metadata, "spec": {"nodeName": node}, "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"state": {"running": {"startedAt": started}}}],
            }})
        };
        let pod = |node: &str, ready: &str, at: &str| labelled("web", node, ready, at);
        let run = |pods: &[Value]| {
            examples_run(&applied, &json!({"items": pods}), &spokes, since).is_ok()
        };
        let (now, before) = ("2026-01-01T00:00:05Z", "2026-01-01T00:00:04Z");
        assert!(run(&[pod("pi-1", "True", now)]));
        assert!(!run(&[pod("pi-1", "True", before)]), "Ready in the store, not on the spoke");
        assert!(!run(&[pod("pi-1", "True", now), pod("pi-1", "False", now)]));
        assert!(run(&[pod("pi-1", "True", now), pod("pi-9", "True", before)]), "not here today");
        assert!(!run(&[]));
        let broken = labelled("mine", "pi-1", "False", before);
        assert!(run(&[pod("pi-1", "True", now), broken]), "the user's own pod is no example");
        let mut rolling = applied.clone();
        rolling["items"][1]["status"]["observedGeneration"] = json!(1);
        let pods = json!({"items": [pod("pi-1", "True", now)]});
        assert!(examples_run(&rolling, &pods, &spokes, since).is_err(), "the old build's pods");
    }

    #[test]
    fn only_success_is_an_answer() {
        for (code, good) in [("200 OK", true), ("503 Service Unavailable", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 256];
                assert_ne!(stream.read(&mut asked).unwrap(), 0);
                stream.write_all(format!("HTTP/1.1 {code}\r\n\r\n").as_bytes()).unwrap();
            });
            assert_eq!(answers(address), good, "{code}");
            server.join().unwrap();
        }
    }
}
