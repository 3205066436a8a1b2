//! Where an object lives in its logical cluster.

crate::shared_text::shared_text! {
    /// `metadata.namespace`; empty for what lives in none. Whether there is such a namespace is asked where something is
    /// made in it: a path may name any.
    NamespaceName
}
