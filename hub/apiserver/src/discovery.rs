//! What is served: `/api`, `/apis` and below, plain and aggregated.

use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::kinds;
use freewheel_link::names::ClusterName;
use serde_json::{Map, Value, json};

use crate::media;

/// The group whose kinds exist in the root only: a spoke's own cluster manages no further clusters.
const ROOT_ONLY: &str = "cluster.open-cluster-management.io";

/// A resource that answers questions and stores nothing.
struct Review {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
}

const REVIEWS: &[Review] = &[
    Review {
        group: "authentication.k8s.io",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
    },
];

/// Form of aggregated discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregated {
    /// apidiscovery.k8s.io/v2
    V2,
    /// apidiscovery.k8s.io/v2beta1
    V2Beta1,
}

impl Aggregated {
    /// Its version.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }

    /// Its Content-Type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }

    /// Whether an Accept header prefers it, and which.
    #[must_use]
    pub fn wanted(accept: Option<&str>) -> Option<Self> {
        for clause in media::clauses(accept?) {
            match (clause.media, clause.kind(), clause.group, clause.version) {
                (media::JSON, Some("APIGroupDiscoveryList"), "apidiscovery.k8s.io", "v2") => {
                    return Some(Self::V2);
                }
                (media::JSON, Some("APIGroupDiscoveryList"), "apidiscovery.k8s.io", "v2beta1") => {
                    return Some(Self::V2Beta1);
                }
                (media::JSON | "*/*" | "application/*", None, ..) => return None,
                _ => {}
            }
        }
        None
    }
}

/// Whether a cluster serves a kind.
#[must_use]
pub fn serves(cluster: &ClusterName, group: &str) -> bool {
    cluster.is_root() || group != ROOT_ONLY
}

/// Group and version pairs that a cluster serves, each once, in the order of discovery.
fn versions(cluster: &ClusterName) -> Vec<(&'static str, &'static str)> {
    let mut out: Vec<(&str, &str)> = Vec::new();
    let stored = kinds::all().iter().map(|kind| (kind.group, kind.version));
    for pair in stored.chain(REVIEWS.iter().map(|review| (review.group, "v1"))) {
        if serves(cluster, pair.0) && !out.contains(&pair) {
            out.push(pair);
        }
    }
    out
}

fn kinds_of(group: &str, version: &str) -> impl Iterator<Item = &'static Kind> {
    kinds::all().iter().copied().filter(move |kind| kind.group == group && kind.version == version)
}

fn reviews_of(group: &str, version: &str) -> impl Iterator<Item = &'static Review> {
    REVIEWS.iter().filter(move |review| review.group == group && version == "v1")
}

/// `/api`
#[must_use]
pub fn core_versions(host: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    })
}

/// `/apis`
#[must_use]
pub fn groups(cluster: &ClusterName) -> Value {
    let mut names: Vec<&str> = Vec::new();
    for (group, _) in versions(cluster) {
        if !group.is_empty() && !names.contains(&group) {
            names.push(group);
        }
    }
    let groups: Vec<Value> =
        names.into_iter().filter_map(|name| group_entry(cluster, name)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`
#[must_use]
pub fn group(cluster: &ClusterName, name: &str) -> Option<Value> {
    let mut entry = group_entry(cluster, name)?;
    entry["kind"] = json!("APIGroup");
    entry["apiVersion"] = json!("v1");
    Some(entry)
}

fn group_entry(cluster: &ClusterName, name: &str) -> Option<Value> {
    let versions: Vec<Value> = versions(cluster)
        .into_iter()
        .filter(|(group, _)| *group == name && !group.is_empty())
        .map(|(group, version)| {
            json!({"groupVersion": format!("{group}/{version}"), "version": version})
        })
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({"name": name, "versions": versions, "preferredVersion": preferred}))
}

/// `/api/v1`, `/apis/GROUP/VERSION`
#[must_use]
pub fn resources(cluster: &ClusterName, group: &str, version: &str) -> Option<Value> {
    if !versions(cluster).contains(&(group, version)) {
        return None;
    }
    let mut list = Vec::new();
    for kind in kinds_of(group, version) {
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": kind.verbs,
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            entry["categories"] = json!(kind.categories);
        }
        list.push(entry);
        for sub in kind.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
                "namespaced": kind.namespaced, "kind": sub.kind, "verbs": sub.verbs,
            });
            if let Some((group, version)) = sub.group_version {
                entry["group"] = json!(group);
                entry["version"] = json!(version);
            }
            list.push(entry);
        }
    }
    for review in reviews_of(group, version) {
        list.push(json!({
            "name": review.plural, "singularName": review.singular, "namespaced": false,
            "kind": review.kind, "verbs": ["create"],
        }));
    }
    list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": list,
    }))
}

/// Aggregated discovery of `/api` (`core`) or `/apis`.
#[must_use]
pub fn aggregated(cluster: &ClusterName, core: bool, form: Aggregated) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for (group, version) in versions(cluster) {
        if group.is_empty() != core {
            continue;
        }
        let entry = json!({
            "version": version, "resources": aggregated_resources(group, version),
            "freshness": "Current",
        });
        let known = items.iter_mut().find(|item| item["metadata"]["name"] == group);
        match known.and_then(|item| item["versions"].as_array_mut()) {
            Some(versions) => versions.push(entry),
            None => items.push(json!({
                "metadata": {"name": group, "creationTimestamp": null}, "versions": [entry],
            })),
        }
    }
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{}", form.version()),
        "metadata": {}, "items": items,
    })
}

fn aggregated_resources(group: &str, version: &str) -> Vec<Value> {
    let mut list = Vec::new();
    for kind in kinds_of(group, version) {
        let mut entry = Map::new();
        entry.insert("resource".to_owned(), json!(kind.plural));
        entry.insert("responseKind".to_owned(), gvk(group, version, kind.kind));
        let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
        entry.insert("scope".to_owned(), json!(scope));
        entry.insert("singularResource".to_owned(), json!(kind.singular));
        entry.insert("verbs".to_owned(), json!(kind.verbs));
        if !kind.short_names.is_empty() {
            entry.insert("shortNames".to_owned(), json!(kind.short_names));
        }
        if !kind.categories.is_empty() {
            entry.insert("categories".to_owned(), json!(kind.categories));
        }
        let subresources = kind.subresources.iter().map(|sub| {
            let (group, version) = sub.group_version.unwrap_or((group, version));
            json!({
                "subresource": sub.name, "responseKind": gvk(group, version, sub.kind),
                "verbs": sub.verbs,
            })
        });
        if !kind.subresources.is_empty() {
            entry.insert("subresources".to_owned(), subresources.collect());
        }
        list.push(Value::Object(entry));
    }
    for review in reviews_of(group, version) {
        list.push(json!({
            "resource": review.plural, "responseKind": gvk(group, version, review.kind),
            "scope": "Cluster", "singularResource": review.singular, "verbs": ["create"],
        }));
    }
    list
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// Paths for `/`.
#[must_use]
pub fn paths(cluster: &ClusterName) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, version) in versions(cluster) {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.push(format!("/apis/{group}/{version}"));
        }
    }
    for path in ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"] {
        paths.push(path.to_owned());
    }
    paths.sort_unstable();
    paths.dedup();
    json!({"paths": paths})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregated_discovery_is_chosen_by_the_accept_header() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(Aggregated::wanted(Some(kubectl)), Some(Aggregated::V2));
        let older = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(Aggregated::wanted(Some(older)), Some(Aggregated::V2Beta1));
        assert_eq!(Aggregated::wanted(Some("application/json")), None);
        assert_eq!(Aggregated::wanted(None), None);
    }

    #[test]
    fn clusters_of_spokes_manage_no_clusters() {
        let spoke = ClusterName::try_from("pi-7").unwrap();
        assert!(group(&ClusterName::root(), ROOT_ONLY).is_some());
        assert!(group(&spoke, ROOT_ONLY).is_none());
        assert!(resources(&spoke, ROOT_ONLY, "v1").is_none());
    }
}
