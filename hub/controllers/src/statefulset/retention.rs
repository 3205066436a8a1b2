//! Whose the claims of a StatefulSet's pods are, by its retention policy: pure. Who is gone takes its own along.

use freewheel_hub_schema::object::Owner;
use serde_json::{Value, json};

/// What becomes of claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    /// They go with the set.
    pub(super) deleted_with_set: bool,
    /// Those of ordinals that are too many go with their pods.
    pub(super) deleted_with_pod: bool,
}

impl Retention {
    /// Of a StatefulSet; without a policy everything stays.
    pub(super) fn read(set: &Value) -> Self {
        let policy = &set["spec"]["persistentVolumeClaimRetentionPolicy"];
        Self {
            deleted_with_set: policy["whenDeleted"] == "Delete",
            deleted_with_pod: policy["whenScaled"] == "Delete",
        }
    }

    fn is_retained(self) -> bool {
        !self.deleted_with_set && !self.deleted_with_pod
    }
}

/// An object that may own claims, as it would be named by them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Party<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
}

impl Party<'_> {
    fn is_named(&self, owner: &Owner) -> bool {
        owner.api_version == self.api_version && owner.kind == self.kind && owner.name == self.name
    }

    /// Another one of that name.
    pub(super) fn is_stale(&self, owners: &[Owner]) -> bool {
        let named = owners.iter().find(|owner| self.is_named(owner));
        named.is_some_and(|owner| owner.uid != self.uid)
    }

    fn owns(&self, owners: &[Owner]) -> bool {
        owners.iter().any(|owner| owner.uid == self.uid)
    }

    fn reference(&self) -> Value {
        json!({
            "apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        })
    }
}

/// What has to be done about a claim.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// Somebody else controls it, though the set has a policy: to be told.
    pub(super) conflict: bool,
    /// Who is to own it, beside others, when that is not so.
    pub(super) owners: Option<Vec<Value>>,
}

/// Whose a claim is to be.
pub(super) fn decide(
    retention: Retention,
    (set, pod): (Party<'_>, Party<'_>),
    wanted: bool,
    owners: &[Owner],
) -> Verdict {
    let conflict = !retention.is_retained()
        && owners.iter().any(|owner| {
            let of = |party: &Party<'_>| party.is_named(owner);
            match (of(&set), of(&pod)) {
                (true, _) => owner.uid != set.uid,
                (false, true) => owner.uid != pod.uid,
                (false, false) => owner.controller,
            }
        });
    // Of former ones of these names: for the garbage collector to settle.
    if set.is_stale(owners) || pod.is_stale(owners) {
        return Verdict { conflict, owners: None };
    }
    if conflict {
        let ours = set.owns(owners) || pod.owns(owners);
        return Verdict { conflict, owners: ours.then(Vec::new) };
    }
    let by_set = retention.deleted_with_set && (wanted || !retention.deleted_with_pod);
    let by_pod = retention.deleted_with_pod && !wanted;
    let controls = |party: &Party<'_>| {
        owners.iter().filter(|owner| owner.uid == party.uid).all(|owner| owner.controller)
    };
    let right = set.owns(owners) == by_set
        && pod.owns(owners) == by_pod
        && controls(&set)
        && controls(&pod);
    let mut references = Vec::new();
    if by_set {
        references.push(set.reference());
    }
    if by_pod {
        references.push(pod.reference());
    }
    Verdict { conflict, owners: (!right).then_some(references) }
}

/// Puts the owners into a claim in place of what it says of these two.
pub(super) fn write(claim: &mut Value, (set, pod): (Party<'_>, Party<'_>), owners: &[Value]) {
    let named = |owner: &Value| {
        [set, pod].iter().any(|party| {
            owner["apiVersion"] == party.api_version
                && owner["kind"] == party.kind
                && owner["name"] == party.name
        })
    };
    let before = claim["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<Value> = before.into_iter().filter(|owner| !named(owner)).collect();
    all.extend(owners.iter().cloned());
    claim["metadata"]["ownerReferences"] = json!(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: Party<'_> =
        Party { api_version: "apps/v1", kind: "StatefulSet", name: "db", uid: "s" };
    const POD: Party<'_> = Party { api_version: "v1", kind: "Pod", name: "db-0", uid: "p" };

    fn owner(party: Party<'_>, uid: &str, controller: bool) -> Owner {
        let mut reference = party.reference();
        reference["uid"] = json!(uid);
        reference["controller"] = json!(controller);
        let value = json!({"metadata": {"name": "c", "uid": "c", "ownerReferences": [reference]}});
        let object = freewheel_hub_schema::object::Object::from_value(
            value,
            std::collections::BTreeMap::new(),
        );
        object.unwrap().header.owners[0].clone()
    }

    fn names(verdict: &Verdict) -> Option<Vec<&str>> {
        let owners = verdict.owners.as_ref()?;
        Some(owners.iter().map(|owner| owner["kind"].as_str().unwrap()).collect())
    }

    #[test]
    fn the_policy_says_whose_claims_are() {
        let policy =
            |deleted_with_set, deleted_with_pod| Retention { deleted_with_set, deleted_with_pod };
        for (retention, wanted, expected) in [
            (policy(false, false), true, None),
            (policy(true, false), true, Some(vec!["StatefulSet"])),
            (policy(true, false), false, Some(vec!["StatefulSet"])),
            (policy(false, true), true, None),
            (policy(false, true), false, Some(vec!["Pod"])),
            (policy(true, true), true, Some(vec!["StatefulSet"])),
            (policy(true, true), false, Some(vec!["Pod"])),
        ] {
            let verdict = decide(retention, (SET, POD), wanted, &[]);
            assert_eq!(names(&verdict), expected, "{retention:?} {wanted}");
        }
        let of_set = [owner(SET, "s", true)];
        assert_eq!(names(&decide(policy(false, false), (SET, POD), true, &of_set)), Some(vec![]));
        assert_eq!(decide(policy(true, false), (SET, POD), true, &of_set).owners, None);
        let no_controller = [owner(SET, "s", false)];
        assert_eq!(
            names(&decide(policy(true, false), (SET, POD), true, &no_controller)),
            Some(vec!["StatefulSet"])
        );
    }

    #[test]
    fn what_is_somebody_elses_stays_so() {
        let both = Retention { deleted_with_set: true, deleted_with_pod: true };
        let former = [owner(SET, "old", true)];
        let verdict = decide(both, (SET, POD), true, &former);
        assert_eq!((verdict.conflict, verdict.owners), (true, None));
        let other = Party { name: "other", uid: "o", ..SET };
        let theirs = [owner(other, "o", true), owner(SET, "s", true)];
        let verdict = decide(both, (SET, POD), true, &theirs);
        assert_eq!((verdict.conflict, names(&verdict)), (true, Some(vec![])));
        let mut claim =
            json!({"metadata": {"ownerReferences": [other.reference(), SET.reference()]}});
        write(&mut claim, (SET, POD), &[]);
        assert_eq!(claim["metadata"]["ownerReferences"], json!([other.reference()]));
    }
}
