//! Names that both sides already know to be well formed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A logical cluster: the root, or one spoke's own. Everything on a spoke belongs to one, its *realm*.
///
/// A DNS label (RFC 1123): `a-z`, `0-9`, inner `-`, at most 63 bytes. `root` is the hub's own
/// cluster and can never be a spoke's name. Many hold one, so a copy shares its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(Arc<str>);

/// Why a string is no [`ClusterName`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a DNS label (a-z, 0-9, inner '-', at most 63 characters)")]
pub struct NotALabel(pub String);

impl ClusterName {
    /// The hub's own cluster, served at `/`.
    #[must_use]
    pub fn root() -> Self {
        Self("root".into())
    }

    /// Whether this is the hub's own cluster.
    #[must_use]
    pub fn is_root(&self) -> bool {
        &*self.0 == "root"
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClusterName {
    type Error = NotALabel;

    fn try_from(raw: String) -> Result<Self, NotALabel> {
        let clean = raw.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let edges = raw.starts_with('-') || raw.ends_with('-');
        if raw.is_empty() || 63 < raw.len() || edges || !clean {
            return Err(NotALabel(raw));
        }
        Ok(Self(raw.into()))
    }
}

impl TryFrom<&str> for ClusterName {
    type Error = NotALabel;

    fn try_from(raw: &str) -> Result<Self, NotALabel> {
        Self::try_from(raw.to_owned())
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.as_str().to_owned()
    }
}

impl std::borrow::Borrow<str> for ClusterName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ClusterName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, valid: bool) {
        assert_eq!(ClusterName::try_from(name).is_ok(), valid, "{name:?}");
    }

    #[test]
    fn cluster_names() {
        check("pi-7", true);
        check("root", true);
        check("", false);
        check("-pi", false);
        check("pi-", false);
        check("Pi", false);
        check("a.b", false);
        check(&"a".repeat(63), true);
        check(&"a".repeat(64), false);
    }
}
