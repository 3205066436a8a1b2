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

#[test]
fn what_stays_the_same_is_not_written_again() {
    let registries = crate::registry::Registries::new(Arc::new(Layer::new(Vec::new())));
    let put = |group: &'static str, origin: &'static str| {
        let kind = Kind::new(crate::gvk::Gvk::new(group, "v1", "Widget"), "widgets", Plain);
        let storage = kind.storage().clone();
        registries.put(&ClusterName::root(), &storage, vec![kind.made_of(origin)]).unwrap();
    };
    let body = |group: &str| {
        let registry = registries.of(&ClusterName::root());
        super::document(&registry, &format!("apis/{group}/v1")).unwrap().body
    };
    put("a.com", "1");
    put("b.com", "1");
    let (first, second) = (body("a.com"), body("b.com"));
    put("b.com", "2");
    assert_eq!(body("a.com").as_ptr(), first.as_ptr());
    assert_ne!(body("b.com").as_ptr(), second.as_ptr());
    // Also when nobody has asked in between.
    put("b.com", "3");
    put("b.com", "4");
    assert_eq!(body("a.com").as_ptr(), first.as_ptr());
}
