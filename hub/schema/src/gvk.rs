//! What kinds are called: by group, version and kind in an object, by group, version and resource in a path.

use std::borrow::Cow;

/// Text that built-in kinds have in the binary, and kinds that come at run time own.
pub type Text = Cow<'static, str>;

/// What an object says it is: group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvk {
    /// API group, empty for core.
    pub group: Text,
    /// Version: `v1`.
    pub version: Text,
    /// Kind: `Deployment`.
    pub kind: Text,
}

/// What a path of the API leads to: group, version and plural resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvr {
    /// API group, empty for core.
    pub group: Text,
    /// Version: `v1`.
    pub version: Text,
    /// Plural resource: `deployments`.
    pub resource: Text,
}

impl Gvk {
    /// A kind of a group and version.
    #[must_use]
    pub fn new(group: impl Into<Text>, version: impl Into<Text>, kind: impl Into<Text>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }
}

impl Gvr {
    /// A resource of a group and version.
    #[must_use]
    pub fn new(
        group: impl Into<Text>,
        version: impl Into<Text>,
        resource: impl Into<Text>,
    ) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }
}

/// Splits `apps/v1` into group and version; core has the empty group.
#[must_use]
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}
