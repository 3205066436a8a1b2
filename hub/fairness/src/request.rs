//! What of a request decides whose it is.

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The caller's name.
    pub user: &'a str,
    /// Their groups.
    pub groups: &'a [String],
    /// Such as `get`, `list` or `watch`; of a path, the method in small letters.
    pub verb: &'a str,
    /// What it is for.
    pub what: What<'a>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// Objects.
    Resource(Resource<'a>),
    /// A path that is no resource.
    Path(&'a str),
}

/// Objects that a request is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resource<'a> {
    /// Group, empty for core.
    pub group: &'a str,
    /// Plural.
    pub plural: &'a str,
    /// Empty for the objects themselves.
    pub subresource: &'a str,
    /// Empty for all namespaces, and for what has none.
    pub namespace: &'a str,
}

impl Request<'_> {
    /// The namespace, empty where there is none.
    pub(crate) const fn namespace(&self) -> &str {
        match self.what {
            What::Resource(resource) => resource.namespace,
            What::Path(_) => "",
        }
    }
}
