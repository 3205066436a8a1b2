//! HorizontalPodAutoscaler: how many replicas a workload is to have, by what is measured of it.
//!
//! ```text
//! autoscaling/v1 (one CPU target; the rest in annotations)  <->  autoscaling/v2 (metrics, behavior)
//! ```
//!
//! ```text
//! v1        the older form, and how it becomes the newer one
//! v2        the form of the store, its defaults and rules
//! metrics   rules and cells of metrics
//! ```
//!
//! Guarantees:
//! - there is one in the store, in v2's form, whichever version wrote it, and nothing of it is lost by reading or
//!   writing it as v1 (`nothing_is_lost_in_the_older_form`);
//! - metrics that nobody measures here are kept with a Warning that names them
//!   (`metrics_that_nobody_measures_are_warned_of`).

mod metrics;
mod v1;
mod v2;

use freewheel_hub_schema::gvk::{Gvk, Gvr};
use freewheel_hub_schema::kind::{Column, Kind, Trait};

use super::accessors::{AGE, NAME, column};

const COLUMNS: &[Column] = &[
    NAME,
    column("Reference", "string", "What is scaled."),
    column("Targets", "string", "What is measured, and what it is to be."),
    column("MinPods", "string", "Fewest replicas."),
    column("MaxPods", "string", "Most replicas."),
    column("Replicas", "string", "Replicas as last seen."),
    AGE,
];

/// HorizontalPodAutoscaler of autoscaling/v2.
pub(crate) fn kind() -> Kind {
    either(Kind::new(Gvk::new("autoscaling", "v2", "HorizontalPodAutoscaler"), PLURAL, v2::Rules))
}

/// HorizontalPodAutoscaler of autoscaling/v1.
pub(crate) fn older() -> Kind {
    either(Kind::new(Gvk::new("autoscaling", "v1", "HorizontalPodAutoscaler"), PLURAL, v1::Rules))
        .stored_as(Gvr::new("autoscaling", "v2", PLURAL))
}

const PLURAL: &str = "horizontalpodautoscalers";

fn either(kind: Kind) -> Kind {
    kind.short(["hpa"])
        .category(["all"])
        .with_status()
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration])
}
