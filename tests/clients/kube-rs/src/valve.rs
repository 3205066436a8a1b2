//! The controller's kind.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far it is open.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(group = "kube-rs.example.com", version = "v1", kind = "Valve", namespaced)]
#[kube(
    status = "ValveStatus",
    shortname = "vl",
    printcolumn = r#"{"name":"Open","type":"integer","jsonPath":".spec.open"}"#
)]
pub struct ValveSpec {
    /// In per cent.
    #[schemars(range(min = 0, max = 100))]
    pub open: u8,
    /// What it is for.
    pub note: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ValveStatus {
    /// In per cent.
    pub open: u8,
}
