//! The documents of discovery. Fields stand in the order in which kube-apiserver writes them.

use freewheel_hub_schema::gvk::Text;
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
pub(super) struct GroupList<'a> {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) groups: Vec<Group<'a>>,
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
pub(super) struct Group<'a> {
    pub(super) name: String,
    pub(super) versions: Vec<GroupVersion<'a>>,
    pub(super) preferred_version: GroupVersion<'a>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupVersion<'a> {
    pub(super) group_version: String,
    pub(super) version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceList<'a> {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) group_version: String,
    pub(super) resources: Vec<Resource<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource<'a> {
    pub(super) name: String,
    pub(super) singular_name: &'a str,
    pub(super) namespaced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<&'a str>,
    pub(super) kind: &'a str,
    pub(super) verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) short_names: &'a [Text],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) categories: &'a [Text],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage_version_hash: Option<String>,
}

impl<'a> Resource<'a> {
    /// Without a name, and with nothing beside these.
    pub(super) fn bare(
        singular_name: &'a str,
        namespaced: bool,
        kind: &'a str,
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
pub(super) struct DiscoveryList<'a> {
    pub(super) kind: &'a str,
    pub(super) api_version: String,
    pub(super) metadata: NoMeta,
    pub(super) items: Vec<GroupDiscovery<'a>>,
}

#[derive(Serialize)]
pub(super) struct NoMeta {}

#[derive(Serialize)]
pub(super) struct GroupDiscovery<'a> {
    pub(super) metadata: Named<'a>,
    pub(super) versions: Vec<VersionDiscovery<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) name: &'a str,
    /// null
    pub(super) creation_timestamp: (),
}

#[derive(Serialize)]
pub(super) struct VersionDiscovery<'a> {
    pub(super) version: &'a str,
    pub(super) resources: Vec<Discovered<'a>>,
    pub(super) freshness: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Discovered<'a> {
    pub(super) resource: &'a str,
    pub(super) response_kind: Gvk<'a>,
    pub(super) scope: &'a str,
    pub(super) singular_resource: &'a str,
    pub(super) verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) short_names: &'a [Text],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) categories: &'a [Text],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) subresources: Vec<DiscoveredSub<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DiscoveredSub<'a> {
    pub(super) subresource: &'a str,
    pub(super) response_kind: Gvk<'a>,
    pub(super) verbs: &'static [&'static str],
}

#[derive(Serialize)]
pub(super) struct Gvk<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
}
