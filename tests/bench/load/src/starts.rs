//! One pod after another: from the API's answer to a create until a watch shows it running.
//!
//! Two ends are told for every pod, both from the same start (just before the create is sent):
//! * `seen`: a watch of the pods shows phase Running, so hub, spoke and the way back are in it;
//! * the unix time of the start, so that the caller can subtract it from the spoke's own trace of `guest main`.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::LoadError;
use crate::client::{Connection, Dialer, Server};
use crate::closed::namespace;
use crate::figures::Times;

/// How many.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    server: Server,
    /// A namespace that is there or can be made.
    namespace: String,
    /// `deployment`: one Deployment of one pod each; `pod`: the pod itself.
    shape: Shape,
    image: String,
    /// What the guest is told to do; it must keep running.
    args: Vec<String>,
    prefix: String,
    count: u32,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Shape {
    Deployment,
    Pod,
}

const PATIENCE: Duration = Duration::from_secs(30);

/// What the watch tells of a pod.
struct Seen {
    app: String,
    uid: String,
    event: &'static str,
    at: Instant,
}

pub async fn run(order: Order) -> Result<Value, LoadError> {
    let dialer = Dialer::new(&order.server)?;
    let mut writer = dialer.open().await?;
    let pods = format!("/api/v1/namespaces/{}/pods", order.namespace);
    namespace(&mut writer, &pods).await?;
    let (tell, mut hear) = mpsc::unbounded_channel();
    let mut watcher = dialer.open().await?;
    let answer = watcher.start(Method::GET, &format!("{pods}?watch=1"), Bytes::new()).await?;
    if answer.status().as_u16() != 200 {
        let status = answer.status().as_u16();
        return Err(LoadError::Answer {
            what: format!("watch {pods}"),
            status,
            body: String::new(),
        });
    }
    tokio::task::spawn_local(follow(answer.into_body(), tell));
    let (mut seen, mut accepted) = (Times::default(), Times::default());
    let mut pods_seen = Vec::new();
    for number in 0..order.count {
        let name = format!("{}-{number}", order.prefix);
        let (path, body) = object(&order, &name);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = Instant::now();
        writer.must(Method::POST, &path, body, &[201]).await?;
        accepted.push(start.elapsed());
        let answered = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let running = wait(&mut hear, &name, "running").await?;
        seen.push(running.at - start);
        pods_seen.push(json!({
            "uid": running.uid, "sent": unix.as_secs_f64(), "answered": answered.as_secs_f64(),
        }));
        // One pod at a time: what is measured is the way of one, not the queue of many.
        remove(&mut writer, &format!("{path}/{name}")).await?;
        wait(&mut hear, &name, "gone").await?;
    }
    Ok(json!({"seen": seen.figures(), "accepted": accepted.figures(), "pods": pods_seen}))
}

async fn remove(writer: &mut Connection, path: &str) -> Result<(), LoadError> {
    let options = json!({"propagationPolicy": "Background", "gracePeriodSeconds": 1});
    writer.must(Method::DELETE, path, options.to_string().into(), &[200, 202]).await?;
    Ok(())
}

fn object(order: &Order, name: &str) -> (String, Bytes) {
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": order.image, "args": order.args, "resources": {"limits": {"memory": "32Mi"}}}],
    });
    let meta = json!({"name": name, "labels": {"app": name}});
    match order.shape {
        Shape::Pod => (
            format!("/api/v1/namespaces/{}/pods", order.namespace),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
                .to_string()
                .into(),
        ),
        Shape::Deployment => (
            format!("/apis/apps/v1/namespaces/{}/deployments", order.namespace),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
                "spec": {
                    "replicas": 1, "selector": {"matchLabels": {"app": name}},
                    "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
                },
            })
            .to_string()
            .into(),
        ),
    }
}

async fn wait(
    hear: &mut mpsc::UnboundedReceiver<Seen>,
    app: &str,
    event: &str,
) -> Result<Seen, LoadError> {
    let late = || LoadError::Late(format!("the pod of {app} is {event}"));
    let found = async {
        while let Some(seen) = hear.recv().await {
            if seen.app == app && seen.event == event {
                return Some(seen);
            }
        }
        None
    };
    timeout(PATIENCE, found).await.map_err(|_| late())?.ok_or_else(late)
}

/// Tells when a pod runs (once) and when it is gone.
async fn follow(mut body: Incoming, tell: mpsc::UnboundedSender<Seen>) {
    let (mut line, mut running) = (Vec::new(), HashMap::new());
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        for byte in data {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let at = Instant::now();
            let event: Value = serde_json::from_slice(&line).unwrap_or_default();
            line.clear();
            let pod = &event["object"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (app, uid) =
                (text(&pod["metadata"]["labels"]["app"]), text(&pod["metadata"]["uid"]));
            let event = match event["type"].as_str() {
                Some("DELETED") => "gone",
                Some("ADDED" | "MODIFIED")
                    if pod["status"]["phase"] == "Running"
                        && running.insert(uid.clone(), ()).is_none() =>
                {
                    "running"
                }
                _ => continue,
            };
            // The receiver is gone only when the run is over.
            if tell.send(Seen { app, uid, event, at }).is_err() {
                return;
            }
        }
    }
}
