//! What others have to know of a kind before they know an object of it.

/// Whose plan a change of an object may concern. What is in a spoke's own cluster concerns that spoke, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// The node that it is bound to, in any cluster: it runs there.
    ItsNode,
    /// Nodes with something bound to them of its namespace, which may use it.
    ItsNamespace,
    /// The spoke of its name.
    ItsName,
    /// Any node: it may be reached there.
    Everybody,
}

/// How `spec.selector` chooses others by their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Labels with their values.
    Labels,
    /// A LabelSelector: `matchLabels` and `matchExpressions`.
    LabelSelector,
}
