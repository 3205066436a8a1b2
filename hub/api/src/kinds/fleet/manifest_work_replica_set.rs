//! ManifestWorkReplicaSet: a ManifestWork for each cluster that placements choose, rolled out in an order.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::{Column, Kind};
use serde_json::Value;

use super::{Rules, WORK_GROUP, follows, manifest_work};
use crate::kinds::accessors::{NAME, column, condition, name, text};
use crate::kinds::field_value::FieldValue;
use crate::{maintenance_window, rollout_annotations};

const COLUMNS: &[Column] = &[
    NAME,
    column("Placement", "string", "Reason"),
    column("Found", "string", "Configured"),
    column("ManifestWorks", "string", "Reason"),
    column("Applied", "string", "Applied"),
];
/// As the CRD has it.
const AMOUNT: &str = r"^((100|[0-9]{1,2})%|[0-9]+)$";
/// What the CRD means, whose alternatives are not anchored together, and with bars for units.
const DEADLINE: &str = r"^(([0-9]+[hms])|None)$";
/// A duration as Go writes it. The CRD lets anything through, and the rollout stands still then.
const DURATION: &str = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$";

/// ManifestWorkReplicaSet of work.open-cluster-management.io/v1alpha1.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes,
        warnings: |object| rollout_annotations::why_never_automatic(object).into_iter().collect(),
        cells: |object, _| {
            let of = |kind: &str, pointer: &str| {
                condition(object, kind).map_or("", |it| text(it, pointer)).into()
            };
            vec![
                name(object),
                of("PlacementVerified", "/reason"),
                of("PlacementVerified", "/status"),
                of("ManifestworkApplied", "/reason"),
                of("ManifestworkApplied", "/status"),
            ]
        },
        ..Rules::new(WORK_GROUP, "v1alpha1", "ManifestWorkReplicaSet")
    };
    rules.kind("manifestworkreplicasets").short(["mwrs"]).columns(COLUMNS)
}

fn mistakes(object: &Value) -> Vec<FieldError> {
    let spec = FieldValue::of(object, "spec");
    let mut found = manifest_work::of_spec(&spec.child("manifestWorkTemplate"));
    found.extend(rollout_annotations::check(object));
    found.extend(maintenance_window::check(object));
    let refs = spec.child("placementRefs");
    if refs.is_there() && refs.is_empty() {
        let why = format!("{} in body should have at least 1 items", refs.path);
        found.push(refs.invalid(&why));
    }
    for one in refs.items() {
        found.extend(one.child("name").must_be());
        found.extend(of_rollout(&one.child("rolloutStrategy")));
    }
    found
}

/// Mistakes of a rollout's strategy, wherever it stands.
pub(super) fn of_rollout(strategy: &FieldValue<'_>) -> Vec<FieldError> {
    let mut found = Vec::new();
    for kind in ["all", "progressive", "progressivePerGroup"] {
        let settings = strategy.child(kind);
        found.extend(follows(&settings.child("progressDeadline"), DEADLINE));
        found.extend(follows(&settings.child("minSuccessTime"), DURATION));
        for amount in ["maxFailures", "maxConcurrency"] {
            found.extend(follows(&settings.child(amount), AMOUNT));
        }
    }
    found
}
