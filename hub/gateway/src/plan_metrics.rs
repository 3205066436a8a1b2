//! What is counted of plans on their way to spokes.

use std::sync::Arc;

use freewheel_hub_metrics::{Counter, DurationHistogram, QUICK_SECONDS_BUCKETS};

/// What is counted of plans.
#[derive(Debug)]
pub(crate) struct PlanMetrics {
    /// Times that a session looked what its spoke should hold.
    pub(crate) looks: Counter,
    /// Messages with plans, or parts of them, that were sent.
    pub(crate) pushes: Counter,
    /// From a plan's first part to its spoke's word that it is durable.
    pub(crate) landing: Arc<DurationHistogram>,
}

impl Default for PlanMetrics {
    fn default() -> Self {
        let landing = Arc::new(DurationHistogram::new(QUICK_SECONDS_BUCKETS));
        Self { looks: Counter::default(), pushes: Counter::default(), landing }
    }
}
