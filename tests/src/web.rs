//! The web server that tests put under load and take things away from: hello-http behind a NodePort.

use crate::eventually::eventually;
use crate::fleet::{Fleet, PATIENCE};
use crate::http;

/// A Deployment `web` with this many replicas, and a Service `web` on this port of every node.
#[must_use]
pub fn manifest(replicas: usize, node_port: u16) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
        - name: web
          image: hello-http:v1
          ports: [{{containerPort: 8080}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {node_port}}}]
"
    )
}

impl Fleet {
    /// Runs it, and waits until it answers on each of these nodes.
    #[track_caller]
    pub fn serve_web(&self, replicas: usize, node_port: u16, nodes: &[&str]) {
        self.push("hello-http", "hello-http:v1");
        let kubectl = self.kubectl();
        kubectl.apply(&manifest(replicas, node_port));
        self.pods_ready(&kubectl, "app=web", replicas);
        for node in nodes {
            self.answers(node, node_port, "hello from web-");
        }
    }

    /// Waits until a NodePort of this node answers `GET /` with something that has this part.
    #[track_caller]
    pub fn answers(&self, node: &str, port: u16, part: &str) {
        eventually(&format!("{node}:{port} answers with {part:?}"), PATIENCE, || {
            match http::get(self.node_port(node, port), "/") {
                Ok((200, body)) if body.contains(part) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
}
