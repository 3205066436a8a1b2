//! Documents of every kind that the table knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::{gnostic, v2};
use crate::kind::{Kind, Strategy};
use crate::layer::Layer;
use crate::registry::Registry;
use crate::types::table::{find, table};

struct Plain;

impl Strategy for Plain {}

/// Every kind of the table that has lists.
fn everything() -> Registry {
    let has_lists = |kind: &&crate::gvk::Gvk| {
        find(&kind.group, &kind.version, &format!("{}List", kind.kind)).is_some()
    };
    let all: BTreeSet<_> = table().types().iter().flat_map(|one| &one.kinds).collect();
    let kinds = all.into_iter().filter(has_lists).map(|gvk| {
        let plural = format!("{}s", gvk.kind.to_ascii_lowercase());
        Arc::new(Kind::new(gvk.clone(), plural, Plain).with_status().with_scale())
    });
    Registry::new(Arc::new(Layer::new(kinds.collect())), &ClusterName::root())
}

#[test]
fn the_protobuf_form_of_v2_leaves_nothing_out() {
    let registry = everything();
    assert!(10 < registry.all().count());
    let document: Value = serde_json::from_slice(&v2(&registry).body).unwrap();
    assert_eq!(gnostic::left_out(&document), Vec::<String>::new());
}
