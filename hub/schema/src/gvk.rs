//! What kinds are called: by group, version and kind in an object, by group, version and resource in a path.

use std::borrow::Cow;
use std::cmp::Ordering;

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

/// How versions are told one after the other: `v2`, `v1`, `v2beta1`, `v1alpha1`, then any others by their text.
#[must_use]
pub fn version_order(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// How stable a version is, which it is, and which of its drafts.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (major, rest) = rest.split_at(digits);
    let major = major.parse().ok().filter(|_| !major.starts_with('0'))?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let draft = |word: &str| rest.strip_prefix(word)?.parse::<u64>().ok();
    match (draft("beta"), draft("alpha")) {
        (Some(draft), _) => Some((1, major, draft)),
        (None, Some(draft)) => Some((0, major, draft)),
        (None, None) => None,
    }
}

/// Splits `apps/v1` into group and version; core has the empty group.
#[must_use]
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_the_most_stable_first() {
        let sorted =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "foo1", "foo10"];
        let mut all = sorted;
        all.reverse();
        all.sort_by(|a, b| version_order(a, b));
        assert_eq!(all, sorted);
    }
}
