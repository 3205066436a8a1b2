//! Documents of every kind that the table knows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::{Form as Asked, document, gnostic, index, is_index_made, made, v2, v2_protobuf};
use crate::gvk::Gvk;
use crate::kind::{Form, Kind, Strategy};
use crate::layer::Layer;
use crate::registry::{Registries, Registry};
use crate::types::TypeFacts;
use crate::types::table::{find, table};

struct Plain;

impl Strategy for Plain {}

/// Every kind of the table that has lists.
fn everything() -> Arc<Layer> {
    let has_lists =
        |kind: &&Gvk| find(&kind.group, &kind.version, &format!("{}List", kind.kind)).is_some();
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
    let registries = Registries::new(everything());
    let root = ClusterName::root();
    let shared: Value = serde_json::from_slice(&v2(&registries.of(&root)).body).unwrap();
    let kind = Kind::new(Gvk::new("a.com", "v1", "Widget"), "widgets", Plain);
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
    let registries = Registries::new(Arc::new(Layer::new(Vec::new())));
    let put = |group: &'static str, origin: &'static str| {
        let kind = Kind::new(Gvk::new(group, "v1", "Widget"), "widgets", Plain);
        let storage = kind.storage().clone();
        registries.put(&ClusterName::root(), &storage, vec![kind.made_of(origin)]).unwrap();
    };
    let body = |group: &str| {
        let registry = registries.of(&ClusterName::root());
        document(&registry, &format!("apis/{group}/v1")).unwrap().body
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

#[test]
fn documents_of_the_same_kinds_go_by_hashes_of_their_own() {
    // All kinds that are its own are of one group and version, as they are where only Argo CD is.
    let (registry, _) = with_asks();
    let (v3, v2) = (document(&registry, "apis/a.com/v1").unwrap(), v2(&registry));
    assert_ne!(v3.body, v2.body);
    assert_ne!(v3.hash, v2.hash);
}

/// How often its fields were asked for, and how often its component.
#[derive(Clone, Debug)]
struct Asks(Arc<[AtomicUsize; 2]>);

impl Asks {
    fn now(&self) -> [usize; 2] {
        [0, 1].map(|at| self.0[at].load(Ordering::Relaxed))
    }
}

impl Form for Asks {
    fn prune(&self, _: &mut Value) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    fn default(&self, _: &mut Value) -> Result<(), String> {
        Ok(())
    }

    fn facts(&self) -> Option<TypeFacts<'_>> {
        self.0[0].fetch_add(1, Ordering::Relaxed);
        None
    }

    fn component(&self) -> Value {
        self.0[1].fetch_add(1, Ordering::Relaxed);
        json!({"type": "object", "properties": {"spec": {"type": "object"}}})
    }
}

/// A cluster with one kind of its own.
fn with_asks() -> (Registry, Asks) {
    let (registries, asks) = (Registries::new(everything()), Asks(Arc::default()));
    let kind = Kind::new(Gvk::new("a.com", "v1", "Widget"), "widgets", Plain);
    let (storage, root) = (kind.storage().clone(), ClusterName::root());
    let kind = kind.with_status().with_scale().formed(asks.clone()).made_of("1");
    registries.put(&root, &storage, vec![kind]).unwrap();
    (registries.of(&root), asks)
}

#[test]
fn the_index_makes_no_document() {
    let (registry, asks) = with_asks();
    let is_made = |form: Asked<'_>| made(&registry, form).is_ok_and(|found| found.is_some());
    assert!(!is_index_made(&registry) && made(&registry, Asked::V2).is_err());
    let index = index(&registry, "");
    assert!(is_index_made(&registry));
    assert_eq!(asks.now(), [0, 0]);
    let path = "apis/a.com/v1";
    assert!(!is_made(Asked::V3(path)) && is_made(Asked::V3("api/v1")));
    let document = document(&registry, path).unwrap();
    let url = format!("/openapi/v3/{path}?hash={}", document.hash);
    assert_eq!(index["paths"][path]["serverRelativeURL"], url);
    assert!(is_made(Asked::V3(path)) && !is_made(Asked::V2));
    assert!(made(&registry, Asked::V3("apis/nonsense/v1")).unwrap().is_none(), "nobody makes it");
}

#[test]
fn a_document_makes_no_form_ready_for_objects() {
    let (registry, asks) = with_asks();
    let v3: Value =
        serde_json::from_slice(&document(&registry, "apis/a.com/v1").unwrap().body).unwrap();
    let schemas = &v3["components"]["schemas"];
    assert_eq!(schemas["com.a.v1.Widget"]["properties"]["spec"]["type"], "object");
    assert_eq!((&v3["openapi"], &v3["info"]["title"]), (&json!("3.0.0"), &json!("Freewheel")));
    assert_eq!(v2_protobuf(&registry).hash, v2(&registry).hash);
    assert_eq!(asks.now(), [0, 2], "once for v3, and once for both forms of v2");
}
