//! Which rule a write of a node has to keep, by what its kind is to nodes.
//!
//! Guarantees:
//! - it holds for these kinds and for no others (`nodes_are_held_to_a_rule_about_these_kinds_alone`).

use freewheel_hub_schema::kind::{Kind, Trait};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeRule {
    /// What runs on nodes is written by the one that it is bound to.
    Workload,
    /// What stands for a node is written by that one.
    Itself,
    /// Of a claim, what has become of it.
    Claim,
    /// Tokens, of accounts that the node's pods run as.
    Token,
    /// The lease of its own name, among those of nodes.
    Lease,
    /// The one of its own name.
    OwnName,
    /// Those that name it.
    NamesIt,
    /// A certificate for itself.
    Certificate,
}

/// Whoever has the first of a pair is under the second.
const BY_TRAIT: [(Trait, NodeRule); 7] = [
    (Trait::RunsOnNodes, NodeRule::Workload),
    (Trait::RunsPods, NodeRule::Itself),
    (Trait::AsksForStorage, NodeRule::Claim),
    (Trait::IsRenewedBySessions, NodeRule::Lease),
    (Trait::BelongsToNodeOfItsName, NodeRule::OwnName),
    (Trait::BelongsToNodeThatItNames, NodeRule::NamesIt),
    (Trait::AsksForACertificate, NodeRule::Certificate),
];

impl NodeRule {
    /// What holds of a kind; nothing, where nodes may write what they have a right to.
    pub(super) fn of(kind: &Kind) -> Option<Self> {
        let by_trait = BY_TRAIT.iter().find(|(one, _)| kind.has(*one)).map(|(_, rule)| *rule);
        by_trait.or_else(|| kind.subresource_named("token").map(|_| Self::Token))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use freewheel_hub_api::kinds;

    use super::*;

    #[test]
    fn nodes_are_held_to_a_rule_about_these_kinds_alone() {
        let expected = [
            ("", "nodes", NodeRule::Itself),
            ("", "persistentvolumeclaims", NodeRule::Claim),
            ("", "pods", NodeRule::Workload),
            ("", "serviceaccounts", NodeRule::Token),
            ("certificates.k8s.io", "certificatesigningrequests", NodeRule::Certificate),
            ("coordination.k8s.io", "leases", NodeRule::Lease),
            ("resource.k8s.io", "resourceslices", NodeRule::NamesIt),
            ("storage.k8s.io", "csinodes", NodeRule::OwnName),
        ];
        for (group, plural, rule) in expected {
            let kind = kinds::find(group, "v1", plural).unwrap();
            assert_eq!(NodeRule::of(kind), Some(rule), "{kind:?}");
        }
        let held = kinds::all().iter().filter(|kind| NodeRule::of(kind).is_some());
        let held: BTreeSet<_> = held.map(|kind| (kind.group(), kind.plural())).collect();
        let expected: BTreeSet<_> =
            expected.iter().map(|(group, plural, _)| (*group, *plural)).collect();
        assert_eq!(held, expected);
    }
}
