//! Who converts custom resources, of all clusters: whoever puts the hub together knows.

use std::sync::Arc;

use freewheel_hub_schema::kind::Converter;
use freewheel_link::names::ClusterName;
use serde_json::Value;

/// Finds who converts the objects of a definition.
pub trait Conversions: Send + Sync {
    /// Who does, where the definition says that somebody has to be asked.
    fn of(&self, cluster: &ClusterName, definition: &Value) -> Option<Arc<dyn Converter>>;
}
