//! What `kubectl get` prints of the kinds that are built in.

use freewheel_hub_api::kinds;
use serde_json::json;

/// Name, type, format, priority.
type Recorded = (&'static str, &'static str, &'static str, u8);

/// Columns as kube-apiserver 1.36 names them.
const RECORDED: &[(&str, &[Recorded])] = &[
    (
        "v1/pods",
        &[
            ("Name", "string", "name", 0),
            ("Ready", "string", "", 0),
            ("Status", "string", "", 0),
            ("Restarts", "string", "", 0),
            ("Age", "string", "", 0),
            ("IP", "string", "", 1),
            ("Node", "string", "", 1),
            ("Nominated Node", "string", "", 1),
            ("Readiness Gates", "string", "", 1),
        ],
    ),
    (
        "v1/nodes",
        &[
            ("Name", "string", "name", 0),
            ("Status", "string", "", 0),
            ("Roles", "string", "", 0),
            ("Age", "string", "", 0),
            ("Version", "string", "", 0),
            ("Internal-IP", "string", "", 1),
            ("External-IP", "string", "", 1),
            ("OS-Image", "string", "", 1),
            ("Kernel-Version", "string", "", 1),
            ("Container-Runtime", "string", "", 1),
        ],
    ),
    (
        "v1/services",
        &[
            ("Name", "string", "name", 0),
            ("Type", "string", "", 0),
            ("Cluster-IP", "string", "", 0),
            ("External-IP", "string", "", 0),
            ("Port(s)", "string", "", 0),
            ("Age", "string", "", 0),
            ("Selector", "string", "", 1),
        ],
    ),
    ("v1/events", EVENTS),
    ("events.k8s.io/v1/events", EVENTS),
    (
        "v1/configmaps",
        &[("Name", "string", "name", 0), ("Data", "string", "", 0), ("Age", "string", "", 0)],
    ),
    (
        "v1/secrets",
        &[
            ("Name", "string", "name", 0),
            ("Type", "string", "", 0),
            ("Data", "string", "", 0),
            ("Age", "string", "", 0),
        ],
    ),
    ("v1/serviceaccounts", &[("Name", "string", "name", 0), ("Age", "string", "", 0)]),
    (
        "v1/namespaces",
        &[("Name", "string", "name", 0), ("Status", "string", "", 0), ("Age", "string", "", 0)],
    ),
    (
        "v1/endpoints",
        &[("Name", "string", "name", 0), ("Endpoints", "string", "", 0), ("Age", "string", "", 0)],
    ),
    (
        "discovery.k8s.io/v1/endpointslices",
        &[
            ("Name", "string", "name", 0),
            ("AddressType", "string", "", 0),
            ("Ports", "string", "", 0),
            ("Endpoints", "string", "", 0),
            ("Age", "string", "", 0),
        ],
    ),
    (
        "coordination.k8s.io/v1/leases",
        &[("Name", "string", "name", 0), ("Holder", "string", "", 0), ("Age", "string", "", 0)],
    ),
    (
        "apps/v1/deployments",
        &[
            ("Name", "string", "name", 0),
            ("Ready", "string", "", 0),
            ("Up-to-date", "string", "", 0),
            ("Available", "string", "", 0),
            ("Age", "string", "", 0),
            ("Containers", "string", "", 1),
            ("Images", "string", "", 1),
            ("Selector", "string", "", 1),
        ],
    ),
    (
        "apps/v1/replicasets",
        &[
            ("Name", "string", "name", 0),
            ("Desired", "integer", "", 0),
            ("Current", "integer", "", 0),
            ("Ready", "integer", "", 0),
            ("Age", "string", "", 0),
            ("Containers", "string", "", 1),
            ("Images", "string", "", 1),
            ("Selector", "string", "", 1),
        ],
    ),
    (
        "certificates.k8s.io/v1/certificatesigningrequests",
        &[
            ("Name", "string", "name", 0),
            ("Age", "string", "", 0),
            ("SignerName", "string", "", 0),
            ("Requestor", "string", "", 0),
            ("RequestedDuration", "string", "", 0),
            ("Condition", "string", "", 0),
        ],
    ),
];
const EVENTS: &[Recorded] = &[
    ("Last Seen", "string", "", 0),
    ("Type", "string", "", 0),
    ("Reason", "string", "", 0),
    ("Object", "string", "", 0),
    ("Subobject", "string", "", 1),
    ("Source", "string", "", 1),
    ("Message", "string", "", 0),
    ("First Seen", "string", "", 1),
    ("Count", "string", "", 1),
    ("Name", "string", "name", 1),
];

#[test]
fn columns_are_those_of_kube_apiserver() {
    for (path, expected) in RECORDED {
        let (group_version, plural) = path.rsplit_once('/').unwrap();
        let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
        let kind = kinds::find(group, version, plural).unwrap();
        let found: Vec<_> =
            kind.columns.iter().map(|c| (&*c.name, &*c.kind, &*c.format, c.priority)).collect();
        assert_eq!(found, *expected, "{path}");
    }
}

#[test]
fn every_row_fits_its_columns_even_of_an_empty_object() {
    for kind in kinds::all() {
        let row = kind.strategy.row(&json!({}), 0);
        assert_eq!(row.len(), kind.columns.len(), "{kind:?}");
    }
}
