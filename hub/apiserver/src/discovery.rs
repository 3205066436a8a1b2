//! What is served: `/api`, `/apis` and below, plain and aggregated.
//!
//! ```text
//! forms     the documents, with their keys in upstream's order: there are readers that go by it
//! ```

mod forms;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::kinds;
use freewheel_link::names::ClusterName;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::media;
use forms::{
    ApiVersions, ClientCidr, Discovered, DiscoveredSub, DiscoveryList, Group, GroupDiscovery,
    GroupList, GroupVersion, Gvk, Named, NoMeta, Resource, ResourceList, Typed, VersionDiscovery,
};

/// The group whose kinds exist in the root only: a spoke's own cluster manages no further clusters.
const ROOT_ONLY: &str = "cluster.open-cluster-management.io";

/// A resource that takes a POST and stores nothing under its own name.
struct Question {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    namespaced: bool,
}

static QUESTIONS: &[Question] = &[
    Question {
        group: "",
        kind: "Binding",
        plural: "bindings",
        singular: "binding",
        namespaced: true,
    },
    Question {
        group: "authentication.k8s.io",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        namespaced: false,
    },
    Question {
        group: "authorization.k8s.io",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        namespaced: false,
    },
    Question {
        group: "authorization.k8s.io",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        namespaced: false,
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
    for pair in stored.chain(QUESTIONS.iter().map(|question| (question.group, "v1"))) {
        if serves(cluster, pair.0) && !out.contains(&pair) {
            out.push(pair);
        }
    }
    out
}

fn kinds_of(group: &str, version: &str) -> impl Iterator<Item = &'static Kind> {
    kinds::all().iter().copied().filter(move |kind| kind.group == group && kind.version == version)
}

fn questions_of(group: &str, version: &str) -> impl Iterator<Item = &'static Question> {
    QUESTIONS.iter().filter(move |question| question.group == group && version == "v1")
}

/// `/api`
#[must_use]
pub fn core_versions(host: &str) -> Bytes {
    let everybody = ClientCidr { client_cidr: "0.0.0.0/0", server_address: host };
    written(&ApiVersions {
        kind: "APIVersions",
        versions: ["v1"],
        server_address_by_client_cidrs: [everybody],
    })
}

/// `/apis`
#[must_use]
pub fn groups(cluster: &ClusterName) -> Bytes {
    let mut names: Vec<&str> = Vec::new();
    for (group, _) in versions(cluster) {
        if !group.is_empty() && !names.contains(&group) {
            names.push(group);
        }
    }
    let groups = names.into_iter().filter_map(|name| group_entry(cluster, name)).collect();
    written(&GroupList { kind: "APIGroupList", api_version: "v1", groups })
}

/// `/apis/GROUP`
#[must_use]
pub fn group(cluster: &ClusterName, name: &str) -> Option<Bytes> {
    let group = group_entry(cluster, name)?;
    Some(written(&Typed { kind: "APIGroup", api_version: "v1", of: group }))
}

fn group_entry(cluster: &ClusterName, name: &str) -> Option<Group> {
    let versions: Vec<GroupVersion> = versions(cluster)
        .into_iter()
        .filter(|(group, _)| *group == name && !group.is_empty())
        .map(|(group, version)| GroupVersion {
            group_version: format!("{group}/{version}"),
            version,
        })
        .collect();
    let preferred_version = versions.first()?.clone();
    Some(Group { name: name.to_owned(), versions, preferred_version })
}

/// `/api/v1`, `/apis/GROUP/VERSION`
#[must_use]
pub fn resources(cluster: &ClusterName, group: &str, version: &str) -> Option<Bytes> {
    if !versions(cluster).contains(&(group, version)) {
        return None;
    }
    let mut resources = Vec::new();
    for kind in kinds_of(group, version) {
        resources.push(Resource {
            name: kind.plural.to_owned(),
            singular_name: kind.singular,
            namespaced: kind.namespaced,
            group: None,
            version: None,
            kind: kind.kind,
            verbs: kind.verbs,
            short_names: kind.short_names,
            categories: kind.categories,
            storage_version_hash: Some(storage_hash(kind)),
        });
        for sub in kind.subresources {
            resources.push(Resource {
                name: format!("{}/{}", kind.plural, sub.name),
                group: sub.group_version.map(|(group, _)| group),
                version: sub.group_version.map(|(_, version)| version),
                ..Resource::bare("", kind.namespaced, sub.kind, sub.verbs)
            });
        }
    }
    for question in questions_of(group, version) {
        let (singular, kind) = (question.singular, question.kind);
        resources.push(Resource {
            name: question.plural.to_owned(),
            ..Resource::bare(singular, question.namespaced, kind, &["create"])
        });
    }
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let (kind, api_version) = ("APIResourceList", "v1");
    Some(written(&ResourceList { kind, api_version, group_version, resources }))
}

/// By which clients see whether what is stored changed its form: the start of a hash of the stored type.
fn storage_hash(kind: &Kind) -> String {
    let (group, version) = match kind.stored_as {
        Some((group, _)) => (group, "v1"),
        None => (kind.group, kind.version),
    };
    let hash = Sha256::digest(format!("{group}/{version}/{}", kind.kind));
    STANDARD.encode(&hash[..8])
}

/// Aggregated discovery of `/api` (`core`) or `/apis`.
#[must_use]
pub fn aggregated(cluster: &ClusterName, core: bool, form: Aggregated) -> Bytes {
    let mut items: Vec<GroupDiscovery> = Vec::new();
    for (group, version) in versions(cluster) {
        if group.is_empty() != core {
            continue;
        }
        let resources = aggregated_resources(group, version);
        let entry = VersionDiscovery { version, resources, freshness: "Current" };
        match items.iter_mut().find(|item| item.metadata.name == group) {
            Some(item) => item.versions.push(entry),
            None => items.push(GroupDiscovery {
                metadata: Named { name: group, creation_timestamp: () },
                versions: vec![entry],
            }),
        }
    }
    let kind = "APIGroupDiscoveryList";
    let api_version = format!("apidiscovery.k8s.io/{}", form.version());
    written(&DiscoveryList { kind, api_version, metadata: NoMeta {}, items })
}

fn aggregated_resources(group: &'static str, version: &'static str) -> Vec<Discovered> {
    let scope = |namespaced: bool| if namespaced { "Namespaced" } else { "Cluster" };
    let of_kind = |kind: &'static Kind| Discovered {
        resource: kind.plural,
        response_kind: Gvk { group, version, kind: kind.kind },
        scope: scope(kind.namespaced),
        singular_resource: kind.singular,
        verbs: kind.verbs,
        short_names: kind.short_names,
        categories: kind.categories,
        subresources: kind
            .subresources
            .iter()
            .map(|sub| {
                let (group, version) = sub.group_version.unwrap_or((group, version));
                let response_kind = Gvk { group, version, kind: sub.kind };
                DiscoveredSub { subresource: sub.name, response_kind, verbs: sub.verbs }
            })
            .collect(),
    };
    let of_question = |question: &'static Question| Discovered {
        resource: question.plural,
        response_kind: Gvk { group, version, kind: question.kind },
        scope: scope(question.namespaced),
        singular_resource: question.singular,
        verbs: &["create"],
        short_names: &[],
        categories: &[],
        subresources: Vec::new(),
    };
    let mut all: Vec<Discovered> = kinds_of(group, version)
        .map(of_kind)
        .chain(questions_of(group, version).map(of_question))
        .collect();
    all.sort_by_key(|one| one.resource);
    all
}

fn written<T: Serialize>(value: &T) -> Bytes {
    // Texts, lists and flags always serialise.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// Paths for `/`.
#[must_use]
pub fn paths(cluster: &ClusterName) -> Bytes {
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
    written(&json!({"paths": paths}))
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
