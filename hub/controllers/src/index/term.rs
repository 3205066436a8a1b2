//! What an entry is found by.

use freewheel_hub_schema::object::Resource;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;

/// One way to find an entry. Borrowed: a look-up copies no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexTerm<'a> {
    /// The controlling owner's UID; who names one from another namespace is nobody's.
    Controller(&'a ClusterName, &'a str, &'a str),
    /// An owner's UID, wherever it is named.
    Owner(&'a str),
    /// Nobody controls it; in this namespace.
    Orphan(&'a ClusterName, &'a str),
    /// Nobody controls it, and it has this label.
    OrphanWith(&'a ClusterName, &'a str, &'a str, &'a str),
    /// It has this label.
    Label(&'a ClusterName, &'a str, &'a str, &'a str),
    /// Bound to this node.
    Node(&'a ClusterName, &'a str),
    /// An object of this resource whose selector asks for this label.
    Asks(&'a Resource, &'a ClusterName, &'a str, &'a str, &'a str),
    /// An object of this resource whose selector asks for no single label.
    AsksOtherwise(&'a Resource, &'a ClusterName, &'a str),
    /// It is there: every entry of an index that names this term.
    Any,
    /// Belongs to the Service of this name.
    Service(&'a ClusterName, &'a str, &'a str),
    /// Names this level of flow control.
    Level(&'a ClusterName, &'a str),
    /// Given to the agent of an add-on on a cluster; where, which cluster, which add-on.
    Granted(&'a ClusterName, &'a str, &'a str),
}

impl<'a> IndexTerm<'a> {
    /// Controlled by this object, in its namespace.
    #[must_use]
    pub fn controlled_by(owner: &'a Stored) -> Self {
        let key = &owner.key;
        Self::Controller(&key.cluster, &key.namespace, &owner.object.header.uid)
    }
}
