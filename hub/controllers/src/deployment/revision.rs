//! New ReplicaSets and their revisions: what `kubectl rollout history|undo` reads. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::observe::{
    DESIRED_REPLICAS_ANNOTATION, MAX_REPLICAS_ANNOTATION, POD_TEMPLATE_HASH_LABEL,
    REVISION_ANNOTATION, REVISION_HISTORY_ANNOTATION, Set, Sets, Wanted,
};

/// Longest revision-history annotation, as kube-controller-manager has it.
const HISTORY_ANNOTATION_MAX_CHARS: usize = 2000;

/// Annotations of a Deployment that are about itself and not about its sets.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION_ANNOTATION,
    REVISION_HISTORY_ANNOTATION,
    DESIRED_REPLICAS_ANNOTATION,
    MAX_REPLICAS_ANNOTATION,
];

/// A stable hash of a template in letters that spell no words and look like no number.
#[must_use]
pub fn template_hash(template: &Value, collisions: i32) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = template.to_string();
    let mut hash: u32 = 0x811c_9dc5;
    for byte in text.bytes().chain(collisions.to_le_bytes().into_iter().filter(|_| collisions != 0))
    {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash.to_string().bytes().map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()])).collect()
}

/// The revision that the new set is to have.
#[must_use]
pub fn next_revision(sets: &Sets) -> i64 {
    sets.old.iter().map(|s| s.revision).max().unwrap_or_default() + 1
}

/// The ReplicaSet for the present template.
#[must_use]
pub fn new_set(wanted: &Wanted, sets: &Sets, owner: &Value, size: i32) -> Value {
    let collisions = wanted.typed.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
    let hash = template_hash(&wanted.template, collisions);
    let mut template = wanted.template.clone();
    put(&mut template, "metadata", "labels", POD_TEMPLATE_HASH_LABEL, &hash);
    let spec = wanted.typed.spec.clone().unwrap_or_default();
    let mut selector = serde_json::to_value(&spec.selector).unwrap_or_default();
    if !selector["matchLabels"].is_object() {
        selector["matchLabels"] = json!({});
    }
    selector["matchLabels"][POD_TEMPLATE_HASH_LABEL] = json!(hash);
    let annotations = annotations(wanted, None, next_revision(sets));
    let mut set = json!({
        "metadata": {
            "name": format!("{}-{hash}", wanted.name),
            "labels": template["metadata"]["labels"],
            "annotations": annotations, "ownerReferences": [owner],
        },
        "spec": {"replicas": size, "selector": selector, "template": template},
    });
    if wanted.min_ready != 0 {
        set["spec"]["minReadySeconds"] = json!(wanted.min_ready);
    }
    set
}

fn put(value: &mut Value, outer: &str, inner: &str, key: &str, text: &str) {
    if !value[outer].is_object() {
        value[outer] = json!({});
    }
    if !value[outer][inner].is_object() {
        value[outer][inner] = json!({});
    }
    value[outer][inner][key] = json!(text);
}

/// Annotations of the new set: the Deployment's own, the revision and, for a new one, the sizes.
#[must_use]
pub fn annotations(
    wanted: &Wanted,
    present: Option<&Set>,
    revision: i64,
) -> BTreeMap<String, String> {
    let old = present.and_then(|s| s.typed.metadata.annotations.clone());
    let mut all = old.unwrap_or_default();
    for (key, value) in wanted.typed.metadata.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) {
            all.insert(key.clone(), value.clone());
        }
    }
    let before = present.map_or(0, |s| s.revision);
    if before < revision
        && let Some(was) = all.insert(REVISION_ANNOTATION.to_owned(), revision.to_string())
    {
        let history = all.get(REVISION_HISTORY_ANNOTATION).map(String::as_str).unwrap_or_default();
        all.insert(REVISION_HISTORY_ANNOTATION.to_owned(), longer_history(history, &was));
    }
    if present.is_none() {
        all.extend(sizes(wanted));
    }
    all
}

fn longer_history(history: &str, was: &str) -> String {
    let mut parts: Vec<&str> = history.split(',').filter(|p| !p.is_empty()).collect();
    parts.push(was);
    while parts.len() > 1
        && parts.iter().map(|p| p.len() + 1).sum::<usize>() > HISTORY_ANNOTATION_MAX_CHARS
    {
        parts.remove(0);
    }
    parts.join(",")
}

/// The annotations that remember what the set was scaled for.
#[must_use]
pub fn sizes(wanted: &Wanted) -> [(String, String); 2] {
    let most = wanted.replicas.saturating_add(wanted.surge());
    [
        (DESIRED_REPLICAS_ANNOTATION.to_owned(), wanted.replicas.to_string()),
        (MAX_REPLICAS_ANNOTATION.to_owned(), most.to_string()),
    ]
}

/// Replaces an object's annotations in JSON.
pub(super) fn write_annotations(value: &mut Value, all: &BTreeMap<String, String>) {
    let map: Map<String, Value> = all.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    value["metadata"]["annotations"] = Value::Object(map);
}

/// Old sets that the history limit does not cover any more: the lowest revisions, and only what has
/// no pods and is not about to have some.
#[must_use]
pub fn beyond_history(wanted: &Wanted, sets: &Sets) -> Vec<Set> {
    let Some(limit) = wanted.history else { return Vec::new() };
    let alive = sets.old.iter().filter(|s| !s.stored.object.header.deleting);
    let mut alive: Vec<&Set> = alive.collect();
    let excess = alive.len().saturating_sub(limit);
    alive.sort_by(|a, b| a.revision.cmp(&b.revision).then_with(|| Set::by_age(a, b)));
    let excess = alive.into_iter().take(excess);
    excess.filter(|s| s.actual == 0 && s.replicas == 0 && s.observed).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{replica_set, wanted};

    #[test]
    fn the_hash_is_stable_and_collisions_change_it() {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}});
        let hash = template_hash(&template, 0);
        assert_eq!(hash, template_hash(&template, 0));
        assert_ne!(hash, template_hash(&template, 1));
        assert!(hash.len() <= 10 && hash.bytes().all(|b| b.is_ascii_alphanumeric()), "{hash}");
    }

    #[test]
    fn a_rolled_back_set_gets_a_new_revision_and_remembers_the_old() {
        let mut wanted = wanted(1).rolling(1, 0);
        wanted.typed.metadata.annotations = Some(BTreeMap::from([
            ("kubernetes.io/change-cause".to_owned(), "undo".to_owned()),
            (REVISION_ANNOTATION.to_owned(), "2".to_owned()),
        ]));
        let first = replica_set("a").revision(1).set();
        let sets = Sets { new: None, old: vec![replica_set("b").revision(2).set()] };
        let all = annotations(&wanted, Some(&first), next_revision(&sets));
        assert_eq!(all[REVISION_ANNOTATION], "3");
        assert_eq!(all[REVISION_HISTORY_ANNOTATION], "1");
        assert_eq!(all["kubernetes.io/change-cause"], "undo");
        let newest = replica_set("c").revision(5).set();
        assert_eq!(
            annotations(&wanted, Some(&newest), 3)[REVISION_ANNOTATION],
            "5",
            "never counts down"
        );
    }

    #[test]
    fn history_drops_the_lowest_revisions_without_pods() {
        let mut wanted = wanted(1).rolling(1, 0);
        wanted.history = Some(1);
        let sets = Sets {
            new: None,
            old: vec![
                replica_set("c").revision(3).set(),
                replica_set("a").revision(1).actual(1).set(),
                replica_set("b").revision(2).set(),
            ],
        };
        let names: Vec<String> =
            beyond_history(&wanted, &sets).into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["b"]);
        wanted.history = None;
        assert!(beyond_history(&wanted, &sets).is_empty());
    }
}
