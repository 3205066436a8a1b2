//! What the modules of a work would cost a device and ask of it, beside those that it has.
//!
//! Guarantees:
//! - what a device has already is neither fetched nor granted anew (`what_is_new_is_told_and_nothing_else`).

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde_json::Value;

/// Images of one work that are looked up.
const IMAGES_MAX: usize = 32;
/// Lists of containers in a pod, wherever it or its template stands.
const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

/// What is known of the module that an image stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleFacts {
    /// Its size in bytes, as it was pushed.
    pub bytes: u64,
    /// The interfaces that it imports, without their versions; `None` where it could not be looked into.
    pub imports: Option<BTreeSet<String>>,
}

/// Who knows that; the hub's binary brings it.
#[async_trait]
pub trait ModuleLookup: Send + Sync {
    /// `None` for an image that is not in the hub's registry.
    async fn facts(&self, image: &str) -> Option<ModuleFacts>;
}

/// What is new of a work to a cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Modules that nothing of what it has names.
    pub modules: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// How many of them nothing is known of.
    pub unknown: usize,
    /// What they import and no module that it has does.
    pub imports: BTreeSet<String>,
}

/// Images of containers in the manifests of a work, or of a template of one.
pub(super) fn images(spec: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(&spec["workload"]["manifests"], &mut found);
    found
}

fn collect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| collect(one, found)),
        Value::Object(fields) => {
            for (key, field) in fields {
                if CONTAINER_LISTS.contains(&key.as_str()) {
                    let all = field.as_array().into_iter().flatten();
                    found.extend(all.filter_map(|it| it["image"].as_str()).map(str::to_owned));
                }
                collect(field, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is known of these images, of the first [`IMAGES_MAX`].
pub(super) async fn look_up(
    images: &BTreeSet<String>,
    lookup: &dyn ModuleLookup,
) -> BTreeMap<String, ModuleFacts> {
    let mut known = BTreeMap::new();
    for image in images.iter().take(IMAGES_MAX) {
        if let Some(facts) = lookup.facts(image).await {
            known.insert(image.clone(), facts);
        }
    }
    known
}

/// What is new of `after` to whom has `before`.
pub(super) fn difference(
    (before, after): (&BTreeSet<String>, &BTreeSet<String>),
    known: &BTreeMap<String, ModuleFacts>,
) -> Difference {
    let imports = |images: &BTreeSet<String>| -> BTreeSet<String> {
        let facts = images.iter().filter_map(|image| known.get(image));
        facts.filter_map(|facts| facts.imports.as_ref()).flatten().cloned().collect()
    };
    let (had, mut out) = (imports(before), Difference::default());
    for image in after.difference(before) {
        out.modules += 1;
        let facts = known.get(image);
        out.bytes += facts.map_or(0, |facts| facts.bytes);
        out.unknown += usize::from(facts.is_none_or(|facts| facts.imports.is_none()));
    }
    out.imports = imports(after).difference(&had).cloned().collect();
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn images_are_found_in_pods_and_templates_of_any_kind() {
        let pod = json!({"containers": [{"image": "a:1"}, {"name": "none"}], "initContainers": [{"image": "b"}]});
        let spec = json!({"workload": {"manifests": [
            {"kind": "Pod", "spec": pod},
            {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"image": "c"}]}}}}}},
            {"kind": "ConfigMap", "data": {"image": "d"}}]}});
        assert_eq!(images(&spec), set(&["a:1", "b", "c"]));
        assert_eq!(images(&Value::Null), set(&[]));
    }

    #[test]
    fn what_is_new_is_told_and_nothing_else() {
        let facts =
            |bytes: u64, imports: &[&str]| ModuleFacts { bytes, imports: Some(set(imports)) };
        let known: BTreeMap<String, ModuleFacts> = [
            ("web:1".to_owned(), facts(10, &["wasi:cli/run", "wasi:io/streams"])),
            ("web:2".to_owned(), facts(20, &["wasi:cli/run", "wasi:sockets/tcp"])),
            ("side".to_owned(), facts(5, &["wasi:io/streams"])),
        ]
        .into();
        let (before, after) = (set(&["web:1", "side"]), set(&["web:2", "side", "elsewhere/x"]));
        let got = difference((&before, &after), &known);
        let imports = set(&["wasi:sockets/tcp"]);
        assert_eq!(got, Difference { modules: 2, bytes: 20, unknown: 1, imports });
        assert_eq!(difference((&after, &after), &known), Difference::default());
        assert_eq!(difference((&set(&[]), &before), &known).bytes, 15);
    }
}
