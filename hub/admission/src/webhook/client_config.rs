//! Where a webhook is, as its owner says it (`clientConfig`): the same for those that admit and those that convert.
//!
//! Guarantees:
//! - one behind a Service is called by the Service's name, in the cluster that says so
//!   (`a_service_is_called_by_its_name_at_the_port_of_https`,
//!   `a_webhook_behind_a_service_is_called_by_its_name`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::address::{Address, ServicePort};

/// The port of a Service that is meant where none is named.
const HTTPS_PORT: u16 = 443;

/// Where it is, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    target: Target,
    /// As PEM.
    authorities: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Url(String),
    Service { namespace: String, name: String, port: u16, path: String },
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A `caBundle`, which is PEM in base64.
fn pem(bundle: &Value) -> String {
    let bytes = STANDARD.decode(bundle.as_str().unwrap_or_default()).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

impl ClientConfig {
    /// As an object says it.
    #[must_use]
    pub fn read(client: &Value) -> Self {
        let service = &client["service"];
        let target = if service.is_null() {
            Target::Url(text(&client["url"]))
        } else {
            let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            Target::Service {
                namespace: text(&service["namespace"]),
                name: text(&service["name"]),
                port: port.unwrap_or(HTTPS_PORT),
                path: text(&service["path"]),
            }
        };
        Self { target, authorities: pem(&client["caBundle"]) }
    }

    /// Where a webhook of this cluster is called, which is told how long it may think.
    #[must_use]
    pub fn address(&self, cluster: &ClusterName, limit: Duration) -> Address {
        let (url, service) = match &self.target {
            Target::Url(url) => {
                let has_path = url.trim_start_matches("https://").contains('/');
                (format!("{url}{}", if has_path { "" } else { "/" }), None)
            }
            Target::Service { namespace, name, port, path } => {
                let path = if path.is_empty() { "/" } else { path };
                let (cluster, port) = (cluster.clone(), *port);
                let url = format!("https://{name}.{namespace}.svc:{port}{path}");
                let (namespace, name) = (namespace.clone(), name.clone());
                (url, Some(ServicePort { cluster, namespace, name, port }))
            }
        };
        Address {
            url: format!("{url}?timeout={}s", limit.as_secs()),
            authorities: self.authorities.clone(),
            service,
            of_tenant: !cluster.is_root(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn address(client: &Value, cluster: &str) -> Address {
        let cluster = ClusterName::try_from(cluster).unwrap();
        ClientConfig::read(client).address(&cluster, Duration::from_secs(30))
    }

    #[test]
    fn a_service_is_called_by_its_name_at_the_port_of_https() {
        let service = json!({"namespace": "hooks", "name": "converts"});
        let client = json!({"service": service, "caBundle": STANDARD.encode("pem")});
        let at = address(&client, "pi-7");
        assert_eq!(at.url, "https://converts.hooks.svc:443/?timeout=30s");
        assert_eq!((&*at.authorities, at.of_tenant), ("pem", true));
        let cluster = ClusterName::try_from("pi-7").unwrap();
        let (namespace, name) = ("hooks".to_owned(), "converts".to_owned());
        assert_eq!(at.service, Some(ServicePort { cluster, namespace, name, port: 443 }));
        let mut other = client;
        other["service"]["port"] = json!(9_443);
        other["service"]["path"] = json!("/convert");
        let at = address(&other, "root");
        assert_eq!(at.url, "https://converts.hooks.svc:9443/convert?timeout=30s");
        assert_eq!(at.service.map(|service| service.port), Some(9_443));
        assert!(!at.of_tenant);
    }

    #[test]
    fn a_url_is_called_as_it_stands() {
        let at = address(&json!({"url": "https://a.example.com"}), "root");
        assert_eq!(at.url, "https://a.example.com/?timeout=30s");
        assert_eq!((&*at.authorities, at.service), ("", None));
        let at = address(&json!({"url": "https://a.example.com/b"}), "root");
        assert_eq!(at.url, "https://a.example.com/b?timeout=30s");
    }
}
