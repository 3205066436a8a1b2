//! What the hub counts of itself, and the text of it that Prometheus reads.
//!
//! ```text
//! count      counters, and gauges that something holds while it lasts   ┐ atomics: what is counted
//! histogram  how long something took                                    ┘ takes no lock and no memory
//! family     figures under a name, read when somebody looks
//! registry   all of them as text
//! ```
//!
//! Names are Kubernetes' where it has one; the others begin with `freewheel_`. Labels are of closed sets: nothing that
//! a client makes up becomes one.
//!
//! Only this crate names prometheus-client, for the texts alone: its families and histograms lock.

mod count;
mod family;
mod histogram;
mod registry;

pub use count::{Counter, Gauge, Hold};
pub use family::{MetricFamily, MetricKind, Sample, Value};
pub use histogram::{DurationHistogram, QUICK_SECONDS_BUCKETS, REQUEST_SECONDS_BUCKETS};
pub use registry::{Format, Metrics};
