//! Labels that a device tells of itself (`spoke run --labels`): on its Nodes, and on its ManagedCluster those that it has
//! joined with.
//!
//! ```text
//! join    site=a        ─▶ on its ManagedCluster, which notes that `site` is the device's to say
//! start   site=b        ─▶ there, too, unless somebody else has set it or taken it off: then that stays, and is told
//!         rack=1        ─▶ on its Nodes alone: as that nobody has accepted it
//!         none at all   ─▶ nothing is said about them
//! ```
//!
//! By the labels of a ManagedCluster others choose who gets what, Secrets among it: a device says there what it was
//! accepted with, and nothing comes to it. kubelet and k3s look at such labels when a node registers and never again, for
//! nobody knows there whose a label is; here the ManagedCluster keeps what its device has told last.
//!
//! Guarantees:
//! - what a later start says is on the Nodes, and of what the device has joined with on its ManagedCluster
//!   (`labels_of_a_later_start_are_brought_to_its_cluster_and_nodes`);
//! - what somebody else has made of a label stays, and an Event at the ManagedCluster and the device's log say so
//!   (`a_label_of_somebody_else_stays_and_is_told_of`, `a_label_is_its_device_s_until_somebody_else_touches_it`), whatever
//!   the device says or leaves out in later starts (`a_label_that_somebody_has_taken_off_comes_back_by_no_start`).

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_api::kinds::managed_cluster::DEVICE_LABELS_ANNOTATION;
use freewheel_hub_objects::{Actor, ObjectRef, Objects};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::name;
use freewheel_link::labels::is_reserved;
use freewheel_link::message::bounded;
use freewheel_link::names::ClusterName;
use freewheel_link::report::{EventV1, NodeStatusV1};
use serde_json::{Map, Value, json};

use crate::events;
use crate::joining::how_for;
use crate::object_refs::{CLUSTERS, NODES, NOT_THIS_SPOKES, object_ref};
use crate::spoke_identity::SpokeIdentity;

/// Where a ManagedCluster says what its device has told last: `key=value,…`.
const TOLD: &str = "freewheel.dev/labels-told";
/// Where it says which of the labels that were its device's to say somebody else has made theirs: keys, with commas. They
/// stay that, as nobody is asked when the device says another thing.
const OF_OTHERS: &str = "freewheel.dev/labels-of-others";
/// Bytes of an Event's text: what events.k8s.io takes.
const EVENT_TEXT_BYTES_MAX: usize = 1024;

/// By key.
pub(crate) type Labels = BTreeMap<String, String>;

/// Whether it can be a label: one that cannot would keep a whole object from being written.
pub(crate) fn holds(key: &str, value: &str) -> bool {
    name::qualified_name(key).is_empty() && name::label_value(value).is_empty()
}

/// Of what a device says those that it may say.
pub(crate) fn said(labels: &[(String, String)]) -> Labels {
    let good = labels.iter().filter(|(key, value)| !is_reserved(key) && holds(key, value));
    good.cloned().collect()
}

/// Keys of labels whose owner, by `managedFields`, is such a one.
pub(crate) fn owned_by(meta: &Value, is_such: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let owners = meta["managedFields"].as_array().into_iter().flatten();
    let theirs = owners.filter(|owner| owner["manager"].as_str().is_some_and(&is_such));
    let fields =
        theirs.filter_map(|owner| owner.pointer("/fieldsV1/f:metadata/f:labels")?.as_object());
    let keys = fields.flat_map(Map::keys);
    keys.filter_map(|key| key.strip_prefix("f:").map(str::to_owned)).collect()
}

/// Puts those that a device joins with into its new ManagedCluster. They stay the device's to say.
pub(crate) fn put_first(cluster: &mut Value, labels: &[(String, String)]) {
    let labels: Labels = labels.iter().cloned().collect();
    if labels.is_empty() {
        return;
    }
    let keys: Vec<&str> = labels.keys().map(String::as_str).collect();
    let meta = &mut cluster["metadata"];
    meta["annotations"][DEVICE_LABELS_ANNOTATION] = json!(keys.join(","));
    meta["annotations"][TOLD] = json!(text(&labels));
    meta["labels"] = json!(labels);
}

/// Brings what a device says to its ManagedCluster. Whether it says anything new.
///
/// # Errors
/// When the store cannot write, somebody's rule forbids it, or the name is another ManagedCluster's by now.
pub(crate) async fn bring(
    objects: &Objects,
    identity: &SpokeIdentity,
    now: &Labels,
) -> Result<bool, ApiError> {
    let place = cluster(identity)?;
    // A start that says none says nothing about them.
    if now.is_empty() || told(&objects.get(&place)?.object.value()?) == *now {
        return Ok(false);
    }
    let change = |mut value: Value| {
        if !identity.are_of(&value) {
            let text = "the name is another cluster's by now";
            return Err(ApiError::new(409, NOT_THIS_SPOKES, text));
        }
        put(&mut value, now);
        Ok(value)
    };
    let how = how_for(objects, (&identity.cluster, identity.uid.as_str()));
    objects.modify(&how, &place, None, change).await.map(|written| written.changed)
}

/// Those that the Nodes of a device get by its word: of what is its to say as its ManagedCluster has it, and of the rest
/// all that is not said otherwise there.
///
/// # Errors
/// When its ManagedCluster is gone.
pub(crate) fn of_nodes(
    objects: &Objects,
    identity: &SpokeIdentity,
    now: &Labels,
) -> Result<Labels, ApiError> {
    let cluster = objects.get(&cluster(identity)?)?;
    let value = cluster.object.value()?;
    Ok(choose(&own(&value), &cluster.object.header.labels, now))
}

fn choose(own: &BTreeSet<&str>, of_cluster: &Labels, now: &Labels) -> Labels {
    let accepted = of_cluster.iter().filter(|(key, _)| own.contains(key.as_str()));
    let others = now.iter().filter(|(key, value)| {
        !own.contains(key.as_str()) && of_cluster.get(*key).is_none_or(|there| there == *value)
    });
    accepted.chain(others).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Tells of those that are not on the Node as the device says them, where its ManagedCluster is looked at.
///
/// # Errors
/// When the store cannot write, or the Node is gone.
pub(crate) async fn tell_kept(
    objects: &Objects,
    identity: &SpokeIdentity,
    now: &Labels,
) -> Result<(), ApiError> {
    let name = &identity.cluster;
    let node = object_ref(NODES, &ClusterName::root(), "", name.as_str())?;
    let Some(kept) = kept(now, &objects.get(&node)?.object.header.labels) else { return Ok(()) };
    let message = format!(
        "of the labels that the device is started with these stay as somebody else has them: {kept}. \
         `kubectl label managedcluster {name} KEY=VALUE --overwrite` changes them"
    );
    let seen = EventV1 {
        realm: ClusterName::root(),
        // Where events of what has no namespace are.
        namespace: "default".to_owned(),
        pod: name.to_string(),
        uid: identity.uid.clone(),
        field_path: String::new(),
        warning: true,
        reason: "LabelsNotSet".to_owned(),
        message: bounded(message, EVENT_TEXT_BYTES_MAX),
        // Whole seconds, as Events have them: a part of one more would be of the future.
        at: objects.clock().unix_millis() / 1000 * 1000,
    };
    events::about(objects, identity, CLUSTERS, &seen).await
}

/// The same for the people of the device, who may see nothing of the hub but its log.
pub(crate) fn notice(
    objects: &Objects,
    identity: &SpokeIdentity,
    status: &NodeStatusV1,
) -> Option<String> {
    let node = object_ref(NODES, &ClusterName::root(), "", identity.cluster.as_str()).ok()?;
    let kept = kept(&said(&status.labels), &objects.get(&node).ok()?.object.header.labels)?;
    Some(format!("of the labels of --labels these stay as somebody has them on the hub: {kept}"))
}

/// Those that are others there than the device says; nothing where all are as it says.
fn kept(now: &Labels, there: &Labels) -> Option<String> {
    let others = now.iter().filter(|(key, value)| there.get(*key) != Some(*value));
    let words: Vec<String> = others
        .map(|(key, value)| match there.get(key) {
            Some(other) => format!("{key}={value} (it is {other:?})"),
            None => format!("{key}={value} (there is none)"),
        })
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn cluster(identity: &SpokeIdentity) -> Result<ObjectRef, ApiError> {
    object_ref(CLUSTERS, &ClusterName::root(), "", identity.cluster.as_str())
}

fn put(cluster: &mut Value, now: &Labels) {
    let meta = &cluster["metadata"];
    let there: Labels = serde_json::from_value(meta["labels"].clone()).unwrap_or_default();
    let others = owned_by(meta, |manager| manager != Actor::Joining.manager());
    let (own, before, mut theirs) = (own(cluster), told(cluster), keys(cluster, OF_OTHERS));
    theirs.extend(made_theirs(&own, (&before, now), &there, &others));
    let own = own.difference(&theirs).copied().collect();
    let change = decide(&own, (&before, now), &there, &others);
    let theirs = theirs.into_iter().collect::<Vec<_>>().join(",");
    let meta = &mut cluster["metadata"];
    for (key, label) in change {
        if let Some(label) = label {
            meta["labels"][key.as_str()] = json!(label);
        } else if let Some(labels) = meta["labels"].as_object_mut() {
            labels.remove(&key);
        }
    }
    meta["annotations"][TOLD] = json!(text(now));
    if !theirs.is_empty() {
        meta["annotations"][OF_OTHERS] = json!(theirs);
    }
}

/// Those that the device has said and somebody else has taken off, or that stay by somebody else's word when the device
/// says them no more.
fn made_theirs<'a>(
    own: &BTreeSet<&'a str>,
    (before, now): (&Labels, &Labels),
    there: &Labels,
    others: &BTreeSet<String>,
) -> Vec<&'a str> {
    let said = own.iter().copied().filter(|key| before.contains_key(*key));
    let is_theirs = |key: &&str| {
        let is_off = !there.contains_key(*key);
        is_off || (others.contains(*key) && !now.contains_key(*key))
    };
    said.filter(is_theirs).collect()
}

/// What becomes of those that are the device's to say: which get this value, or go. What somebody else has set, shares or
/// has taken off is theirs.
fn decide(
    own: &BTreeSet<&str>,
    (before, now): (&Labels, &Labels),
    there: &Labels,
    others: &BTreeSet<String>,
) -> BTreeMap<String, Option<String>> {
    let mut change = BTreeMap::new();
    for key in own {
        let (was, is) = (before.get(*key), now.get(*key));
        let is_untouched = there.get(*key) == was && !others.contains(*key);
        if was != is && is_untouched {
            change.insert((*key).to_owned(), is.cloned());
        }
    }
    change
}

fn annotation<'a>(cluster: &'a Value, key: &str) -> &'a str {
    cluster["metadata"]["annotations"][key].as_str().unwrap_or_default()
}

/// Those that are the device's to say, or were until somebody else made them theirs.
fn own(cluster: &Value) -> BTreeSet<&str> {
    keys(cluster, DEVICE_LABELS_ANNOTATION)
}

fn keys<'a>(cluster: &'a Value, noted: &str) -> BTreeSet<&'a str> {
    annotation(cluster, noted).split(',').filter(|key| !key.is_empty()).collect()
}

/// What it has said last.
fn told(cluster: &Value) -> Labels {
    let pairs = annotation(cluster, TOLD).split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn text(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[track_caller]
    fn decided(before: &str, now: &str, there: &str, others: &[&str], expected: &[(&str, &str)]) {
        let others = others.iter().map(|key| (*key).to_owned()).collect();
        let own = BTreeSet::from(["site", "disk"]);
        let change = decide(&own, (&labels(before), &labels(now)), &labels(there), &others);
        let change: Vec<(&str, &str)> = change
            .iter()
            .map(|(key, label)| (key.as_str(), label.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(change, expected, "{before} > {now}, {there}");
    }

    #[test]
    fn a_label_is_its_device_s_until_somebody_else_touches_it() {
        decided("site=a", "site=b", "site=a", &[], &[("site", "b")]);
        decided("site=a disk=ssd", "disk=ssd", "site=a disk=ssd", &[], &[("site", "-")]);
        decided("disk=ssd", "disk=ssd site=c", "disk=ssd", &[], &[("site", "c")]);
        // As it has said before: whatever became of it meanwhile stays.
        decided("site=a", "site=a", "site=z", &[], &[]);
        decided("site=a", "site=a", "", &[], &[]);
        // Somebody has set it, taken it off, or says the same.
        decided("site=a", "site=b", "site=z", &[], &[]);
        decided("site=a", "site=b", "", &[], &[]);
        decided("site=a", "site=b", "site=a", &["site"], &[]);
        // As that it was not accepted.
        decided("site=a", "site=a tier=secret", "site=a", &[], &[]);
    }

    #[test]
    fn what_is_told_is_read_again() {
        let mut cluster = json!({"metadata": {}});
        put_first(&mut cluster, &[("site".into(), "a".into()), ("x.io/y".into(), String::new())]);
        assert_eq!(told(&cluster), labels("site=a x.io/y="));
        assert_eq!(own(&cluster), BTreeSet::from(["site", "x.io/y"]));
        put(&mut cluster, &labels("site=b"));
        assert_eq!(cluster["metadata"]["labels"], json!({"site": "b"}));
        assert_eq!(own(&cluster).len(), 2, "it may say it again");
        let mut bare = json!({"metadata": {}});
        put_first(&mut bare, &[]);
        assert_eq!((bare, own(&cluster).contains("")), (json!({"metadata": {}}), false));
    }

    #[test]
    fn a_label_that_somebody_has_taken_off_comes_back_by_no_start() {
        let joined = || {
            let mut cluster = json!({"metadata": {}});
            put_first(&mut cluster, &[("site".into(), "a".into()), ("disk".into(), "ssd".into())]);
            cluster
        };
        let starts = |cluster: &mut Value| {
            for now in ["disk=ssd", "site=a disk=ssd", "site=b", "disk=hdd"] {
                put(cluster, &labels(now));
            }
            put(cluster, &labels("site=c disk=ssd"));
            cluster["metadata"]["labels"].clone()
        };
        let mut cluster = joined();
        assert_eq!(starts(&mut cluster), json!({"site": "c", "disk": "ssd"}), "nobody else has");
        let mut cluster = joined();
        cluster["metadata"]["labels"].as_object_mut().unwrap().remove("site");
        assert_eq!(starts(&mut cluster), json!({"disk": "ssd"}));

        // Somebody says the same, and takes it off when the device says it no more.
        let mut cluster = joined();
        let site = json!({"f:metadata": {"f:labels": {"f:site": {}}}});
        cluster["metadata"]["managedFields"] = json!([{"manager": "ann", "fieldsV1": site}]);
        put(&mut cluster, &labels("disk=ssd"));
        assert_eq!(cluster["metadata"]["labels"]["site"], "a");
        cluster["metadata"]["labels"].as_object_mut().unwrap().remove("site");
        cluster["metadata"]["managedFields"] = json!([]);
        assert_eq!(starts(&mut cluster), json!({"disk": "ssd"}));
    }

    #[test]
    fn nodes_get_what_is_not_said_otherwise_of_the_cluster() {
        let own = BTreeSet::from(["site", "disk"]);
        let of_cluster = labels("site=c tier=edge");
        let of_nodes = choose(&own, &of_cluster, &labels("site=b disk=ssd tier=secret rack=1"));
        assert_eq!(of_nodes, labels("site=c rack=1"));
        let kept = kept(&labels("site=b disk=ssd rack=1"), &of_nodes).unwrap();
        assert_eq!(kept, "disk=ssd (there is none), site=b (it is \"c\")");
    }
}
