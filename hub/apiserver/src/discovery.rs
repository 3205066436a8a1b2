//! What a logical cluster serves: `/api`, `/apis` and below, plain and aggregated.
//!
//! ```text
//! forms     the documents, with their keys in upstream's order: there are readers that go by it
//! ```

mod forms;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use freewheel_hub_schema::gvk::{Gvr, version_order};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::registry::Registry;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::media;
use forms::{
    ApiVersions, ClientCidr, Discovered, DiscoveredSub, DiscoveryList, Group, GroupDiscovery,
    GroupList, GroupVersion, Gvk, Named, NoMeta, Resource, ResourceList, Typed, VersionDiscovery,
};

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
        group: "authentication.k8s.io",
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        namespaced: false,
    },
    Question {
        group: "authorization.k8s.io",
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        namespaced: true,
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
    Question {
        group: "authorization.k8s.io",
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
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

/// Group and version pairs that a cluster serves, each once, in the order of discovery: its own after those that
/// every cluster has.
fn versions(registry: &Registry) -> Vec<(&str, &str)> {
    let mut out: Vec<(&str, &str)> = Vec::new();
    let all: Vec<(&str, &str)> =
        registry.all().map(|kind| (kind.group(), kind.version())).collect();
    let (built_in, own) =
        all.split_at(all.len() - registry.own().iter().filter(|it| it.served).count());
    let mut own = own.to_vec();
    own.sort_by(|a, b| a.0.cmp(b.0).then_with(|| version_order(a.1, b.1)));
    let questions = QUESTIONS.iter().map(|question| (question.group, "v1"));
    for pair in built_in.iter().copied().chain(questions).chain(own) {
        if !out.contains(&pair) {
            // Of one group, the version that clients should prefer comes first.
            let behind =
                |other: &(&str, &str)| other.0 == pair.0 && version_order(pair.1, other.1).is_lt();
            let place = out.iter().position(behind).unwrap_or(out.len());
            out.insert(place, pair);
        }
    }
    out
}

fn kinds_of<'a>(
    registry: &'a Registry,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Kind> {
    let all = registry.all().map(|kind| &**kind);
    all.filter(move |kind| kind.group() == group && kind.version() == version)
}

fn questions_of(group: &str, version: &str) -> impl Iterator<Item = &'static Question> {
    QUESTIONS.iter().filter(move |question| question.group == group && version == "v1")
}

/// Bytes that any of these documents has at most, by what there is to say.
pub(crate) fn estimate(registry: &Registry) -> usize {
    let names = |kind: &Kind| {
        let short: usize = kind.short_names.iter().chain(&kind.categories).map(|it| it.len()).sum();
        kind.group().len() + kind.version().len() + 4 * kind.kind().len() + short
    };
    let of_kind = |kind: &Kind| (512 + names(kind)) * (1 + kind.subresources.len());
    4096 + registry.all().map(|kind| of_kind(kind)).sum::<usize>()
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
pub fn groups(registry: &Registry) -> Bytes {
    let mut names: Vec<&str> = Vec::new();
    for (group, _) in versions(registry) {
        if !group.is_empty() && !names.contains(&group) {
            names.push(group);
        }
    }
    let groups = names.into_iter().filter_map(|name| group_entry(registry, name)).collect();
    written(&GroupList { kind: "APIGroupList", api_version: "v1", groups })
}

/// `/apis/GROUP`
#[must_use]
pub fn group(registry: &Registry, name: &str) -> Option<Bytes> {
    let group = group_entry(registry, name)?;
    Some(written(&Typed { kind: "APIGroup", api_version: "v1", of: group }))
}

fn group_entry<'a>(registry: &'a Registry, name: &str) -> Option<Group<'a>> {
    let versions: Vec<GroupVersion<'_>> = versions(registry)
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
pub fn resources(registry: &Registry, group: &str, version: &str) -> Option<Bytes> {
    if !versions(registry).contains(&(group, version)) {
        return None;
    }
    let mut resources = Vec::new();
    for kind in kinds_of(registry, group, version) {
        resources.push(Resource {
            name: kind.plural().to_owned(),
            singular_name: kind.singular(),
            namespaced: kind.namespaced,
            group: None,
            version: None,
            kind: kind.kind(),
            verbs: kind.verbs,
            short_names: &kind.short_names,
            categories: &kind.categories,
            // What nobody makes is not stored.
            storage_version_hash: kind.verbs.contains(&"create").then(|| storage_hash(kind)),
        });
        for sub in &kind.subresources {
            resources.push(Resource {
                name: format!("{}/{}", kind.plural(), sub.name),
                group: sub.group_version.as_ref().map(|(group, _)| &**group),
                version: sub.group_version.as_ref().map(|(_, version)| &**version),
                ..Resource::bare("", kind.namespaced, &sub.kind, sub.verbs)
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
    let (group, version) = match &kind.stored_as {
        Some(Gvr { group, version, .. }) => (&**group, &**version),
        None => (kind.group(), kind.version()),
    };
    let hash = Sha256::digest(format!("{group}/{version}/{}", kind.kind()));
    STANDARD.encode(&hash[..8])
}

/// Aggregated discovery of `/api` (`core`) or `/apis`.
#[must_use]
pub fn aggregated(registry: &Registry, core: bool, form: Aggregated) -> Bytes {
    let mut items: Vec<GroupDiscovery<'_>> = Vec::new();
    for (group, version) in versions(registry) {
        if group.is_empty() != core {
            continue;
        }
        let resources = aggregated_resources(registry, group, version);
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

fn aggregated_resources<'a>(
    registry: &'a Registry,
    group: &'a str,
    version: &'a str,
) -> Vec<Discovered<'a>> {
    let scope = |namespaced: bool| if namespaced { "Namespaced" } else { "Cluster" };
    let of_kind = |kind: &'a Kind| Discovered {
        resource: kind.plural(),
        response_kind: Gvk { group, version, kind: kind.kind() },
        scope: scope(kind.namespaced),
        singular_resource: kind.singular(),
        verbs: kind.verbs,
        short_names: &kind.short_names,
        categories: &kind.categories,
        subresources: kind
            .subresources
            .iter()
            .map(|sub| {
                let (group, version) = match &sub.group_version {
                    Some((group, version)) => (&**group, &**version),
                    None => (group, version),
                };
                let response_kind = Gvk { group, version, kind: &sub.kind };
                DiscoveredSub { subresource: &sub.name, response_kind, verbs: sub.verbs }
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
    let mut all: Vec<Discovered<'_>> = kinds_of(registry, group, version)
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
pub fn paths(registry: &Registry) -> Bytes {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, version) in versions(registry) {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.push(format!("/apis/{group}/{version}"));
        }
    }
    paths.push("/.well-known/openid-configuration".to_owned());
    paths.push("/openid/v1/jwks".to_owned());
    for path in ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"] {
        paths.push(path.to_owned());
    }
    paths.sort_unstable();
    paths.dedup();
    written(&json!({"paths": paths}))
}

#[cfg(test)]
mod tests {
    use freewheel_hub_api::kinds;
    use freewheel_link::names::ClusterName;

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
    fn newer_and_stable_versions_come_first() {
        let mut versions = ["v1alpha1", "v1", "nonsense", "v2beta1", "v10", "v2", "v1beta2"];
        versions.sort_by(|a, b| version_order(a, b));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "nonsense"]);
        let registry = kinds::registry(&ClusterName::root());
        let autoscaling = group_entry(&registry, "autoscaling").unwrap();
        assert_eq!(autoscaling.preferred_version.version, "v2");
        assert_eq!(autoscaling.versions.len(), 2);
    }

    #[test]
    fn clusters_of_spokes_manage_no_clusters() {
        const ROOT_ONLY: &str = "cluster.open-cluster-management.io";
        let spoke = kinds::registry(&ClusterName::try_from("pi-7").unwrap());
        let root = kinds::registry(&ClusterName::root());
        assert!(resources(&root, ROOT_ONLY, "v1").is_some());
        assert!(resources(&spoke, ROOT_ONLY, "v1").is_none());
        assert!(resources(&spoke, ROOT_ONLY, "v1beta1").is_none());
        let own = resources(&spoke, ROOT_ONLY, "v1alpha1").unwrap();
        let own: serde_json::Value = serde_json::from_slice(&own).unwrap();
        let names: Vec<_> =
            own["resources"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["clusterclaims"], "what it tells of itself is its own");
        assert!(group(&spoke, "addon.open-cluster-management.io").is_none());
    }
}
