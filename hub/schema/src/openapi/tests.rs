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
fn everything() -> Arc<Layer> {
    let has_lists = |kind: &&crate::gvk::Gvk| {
        find(&kind.group, &kind.version, &format!("{}List", kind.kind)).is_some()
    };
    let all: BTreeSet<_> = table().types().iter().flat_map(|one| &one.kinds).collect();
    let kinds = all.into_iter().filter(has_lists).map(|gvk| {
        let plural = format!("{}s", gvk.kind.to_ascii_lowercase());
        Arc::new(Kind::new(gvk.clone(), plural, Plain).with_status().with_scale())
    });
    Arc::new(Layer::new(kinds.collect()))
}

#[test]
fn the_protobuf_form_of_v2_leaves_nothing_out() {
    let registry = Registry::new(everything(), &ClusterName::root());
    assert!(10 < registry.all().count());
    let document: Value = serde_json::from_slice(&v2(&registry).body).unwrap();
    assert_eq!(gnostic::left_out(&document), Vec::<String>::new());
}

#[test]
fn what_is_shared_is_told_once() {
    let registries = crate::registry::Registries::new(everything());
    let root = ClusterName::root();
    let shared: Value = serde_json::from_slice(&v2(&registries.of(&root)).body).unwrap();
    let kind = Kind::new(crate::gvk::Gvk::new("a.com", "v1", "Widget"), "widgets", Plain);
    let storage = kind.storage().clone();
    registries.put(&root, &storage, vec![kind]).unwrap();
    let text = v2(&registries.of(&root)).body;
    let own: Value = serde_json::from_slice(&text).unwrap();
    let text = std::str::from_utf8(&text).unwrap();
    for (part, name, often) in [
        ("definitions", "com.a.v1.Widget", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
        ("paths", "/apis/a.com/v1/namespaces/{namespace}/widgets", "/api/v1/nodes"),
    ] {
        let (own, shared) = (own[part].as_object().unwrap(), shared[part].as_object().unwrap());
        assert!(own.contains_key(name), "{:?}", own.keys());
        assert!(shared.iter().all(|(name, value)| own.get(name) == Some(value)));
        // A key that is there twice would be lost in a map.
        assert_eq!(text.matches(&format!("{}:", Value::from(often))).count(), 1);
    }
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
