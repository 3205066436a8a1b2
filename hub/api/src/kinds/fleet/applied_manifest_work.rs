//! AppliedManifestWork: what of a ManifestWork was applied in a cluster; what is applied is owned by it.

use freewheel_hub_schema::kind::Kind;

use super::{Rules, WORK_GROUP};

/// AppliedManifestWork of work.open-cluster-management.io/v1.
pub(crate) fn kind() -> Kind {
    let rules = Rules::new(WORK_GROUP, "v1", "AppliedManifestWork");
    let mut kind = rules.kind("appliedmanifestworks").cluster_scoped();
    // It lies in the cluster where things are applied.
    kind.root_only = false;
    kind
}
