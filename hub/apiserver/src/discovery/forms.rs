//! The documents of discovery. Fields stand in the order in which kube-apiserver writes them.

use serde::Serialize;

#[derive(Serialize)]
pub(super) struct ApiVersions<'a> {
    pub(super) kind: &'static str,
    pub(super) versions: [&'static str; 1],
    #[serde(rename = "serverAddressByClientCIDRs")]
    pub(super) server_address_by_client_cidrs: [ClientCidr<'a>; 1],
}

#[derive(Serialize)]
pub(super) struct ClientCidr<'a> {
    #[serde(rename = "clientCIDR")]
    pub(super) client_cidr: &'static str,
    #[serde(rename = "serverAddress")]
    pub(super) server_address: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupList {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) groups: Vec<Group>,
}

/// A document with its type in front.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Typed<T> {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    #[serde(flatten)]
    pub(super) of: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) versions: Vec<GroupVersion>,
    pub(super) preferred_version: GroupVersion,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupVersion {
    pub(super) group_version: String,
    pub(super) version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceList {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) group_version: String,
    pub(super) resources: Vec<Resource>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource {
    pub(super) name: String,
    pub(super) singular_name: &'static str,
    pub(super) namespaced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<&'static str>,
    pub(super) kind: &'static str,
    pub(super) verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) short_names: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) categories: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage_version_hash: Option<String>,
}

impl Resource {
    /// Without a name, and with nothing beside these.
    pub(super) fn bare(
        singular_name: &'static str,
        namespaced: bool,
        kind: &'static str,
        verbs: &'static [&'static str],
    ) -> Self {
        Self {
            name: String::new(),
            singular_name,
            namespaced,
            group: None,
            version: None,
            kind,
            verbs,
            short_names: &[],
            categories: &[],
            storage_version_hash: None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DiscoveryList {
    pub(super) kind: &'static str,
    pub(super) api_version: String,
    pub(super) metadata: NoMeta,
    pub(super) items: Vec<GroupDiscovery>,
}

#[derive(Serialize)]
pub(super) struct NoMeta {}

#[derive(Serialize)]
pub(super) struct GroupDiscovery {
    pub(super) metadata: Named,
    pub(super) versions: Vec<VersionDiscovery>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) name: &'static str,
    /// null
    pub(super) creation_timestamp: (),
}

#[derive(Serialize)]
pub(super) struct VersionDiscovery {
    pub(super) version: &'static str,
    pub(super) resources: Vec<Discovered>,
    pub(super) freshness: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Discovered {
    pub(super) resource: &'static str,
    pub(super) response_kind: Gvk,
    pub(super) scope: &'static str,
    pub(super) singular_resource: &'static str,
    pub(super) verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) short_names: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) categories: &'static [&'static str],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) subresources: Vec<DiscoveredSub>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DiscoveredSub {
    pub(super) subresource: &'static str,
    pub(super) response_kind: Gvk,
    pub(super) verbs: &'static [&'static str],
}

#[derive(Serialize)]
pub(super) struct Gvk {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
}
