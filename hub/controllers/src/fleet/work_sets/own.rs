//! A work of a set.

use std::sync::Arc;

use freewheel_hub_store::Stored;
use serde_json::Value;

/// A work of a set, as it is.
pub(super) struct Own {
    pub stored: Arc<Stored>,
    pub object: Value,
    pub placement: String,
}
