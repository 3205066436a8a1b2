//! What a template is rendered with, and why it may come to nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

/// Where agents are when nobody says.
pub const DEFAULT_NAMESPACE: &str = "open-cluster-management-agent-addon";
/// Where a container finds the credentials that it was registered for.
pub(super) const HUB_KUBECONFIG: &str = "/managed/hub-kubeconfig/kubeconfig";

/// What a template is rendered with.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// The add-on's name.
    pub add_on: &'a str,
    /// The cluster's name.
    pub cluster: &'a str,
    /// The spec of its AddOnDeploymentConfig, or null.
    pub config: &'a Value,
    /// What the cluster's annotation `open-cluster-management.io/image-registries` says.
    pub image_registries: &'a str,
}

/// Why a template comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRendered {
    /// What a path leads to is not there.
    #[error("failed to find field {0}")]
    NoField(&'static str),
    /// The authority of a proxy is no base64.
    #[error("caBundle of the proxy is not base64")]
    CaBundle,
    /// The annotation of the cluster is no JSON.
    #[error("the annotation open-cluster-management.io/image-registries cannot be read")]
    ImageRegistries,
}

/// Values by name.
pub(super) type Variables = BTreeMap<String, String>;

/// Sets a field of a map; what is none is left as it is, and its kind will say so.
pub(super) fn set(of: &mut Value, field: &str, value: Value) {
    if let Some(map) = of.as_object_mut() {
        map.insert(field.to_owned(), value);
    }
}

/// Certificates that a proxy is known by.
pub(super) fn ca_bundle(config: &Value) -> Result<Option<String>, NotRendered> {
    let text = config.pointer("/proxyConfig/caBundle").and_then(Value::as_str).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    let bytes = bytes.map_err(|_| NotRendered::CaBundle)?;
    String::from_utf8(bytes).map(Some).map_err(|_| NotRendered::CaBundle)
}
