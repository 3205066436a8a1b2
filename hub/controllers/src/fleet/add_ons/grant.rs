//! What marks a Secret or a RoleBinding as given to the agent of an add-on: labels that say to whom, and one that is of the
//! very place that it was made in.
//!
//! Guarantees:
//! - what somebody has copied, or has given some of these labels, is not taken for it
//!   (`a_copy_of_what_an_agent_was_given_is_not_given`).

use freewheel_hub_fleet::add_on::registration::AgentOf;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Stored;
use freewheel_link::digest::Digest;
use serde_json::{Value, json};

use crate::index::{AGENT_ADD_ON_LABEL, AGENT_CLUSTER_LABEL, AGENT_GRANT_LABEL};

/// Digits of the label that is of a place: a label's value has 63 bytes at most.
const MARK_DIGITS: usize = 40;

/// Whose something is, as its labels say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// This agent's: it was made for it, there.
    Agents,
    /// It is called this agent's, and not marked as made there.
    Unmarked,
    /// Somebody else's.
    Others,
}

/// The labels of what this agent is given there.
pub(super) fn labels(of: AgentOf<'_>, place: &Key) -> [(&'static str, String); 3] {
    [
        (AGENT_ADD_ON_LABEL, of.add_on.to_owned()),
        (AGENT_CLUSTER_LABEL, of.cluster.to_owned()),
        (AGENT_GRANT_LABEL, mark(of, place)),
    ]
}

fn mark(of: AgentOf<'_>, place: &Key) -> String {
    let Key { resource, cluster, namespace, name } = place;
    let place = [resource.plural(), cluster.as_str(), &**namespace, &**name];
    let mut mark = Digest::of(json!([of.add_on, of.cluster, place]).to_string().as_bytes()).hex();
    mark.truncate(MARK_DIGITS);
    mark
}

impl Whose {
    /// Of what is stored.
    pub fn stored(of: AgentOf<'_>, stored: &Stored) -> Self {
        let labels = &stored.object.header.labels;
        Self::of(of, &stored.key, |key| labels.get(key).map(String::as_str))
    }

    /// Of what is there.
    pub fn there(of: AgentOf<'_>, place: &Key, object: &Value) -> Self {
        Self::of(of, place, |key| object["metadata"]["labels"][key].as_str())
    }

    fn of<'a>(of: AgentOf<'_>, place: &Key, label: impl Fn(&str) -> Option<&'a str>) -> Self {
        let is_named = label(AGENT_ADD_ON_LABEL) == Some(of.add_on)
            && label(AGENT_CLUSTER_LABEL) == Some(of.cluster);
        match label(AGENT_GRANT_LABEL) {
            Some(marked) if is_named && marked == mark(of, place) => Self::Agents,
            None if is_named => Self::Unmarked,
            Some(_) | None => Self::Others,
        }
    }
}

/// That what is there is somebody else's.
pub(super) fn taken(place: &Key) -> String {
    let Key { resource, namespace, name, .. } = place;
    format!(
        "{} {name:?} in namespace {namespace:?} is there and was not made for this agent: it is left alone, and has to go first",
        resource.plural()
    )
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    use super::*;

    #[test]
    fn a_copy_of_what_an_agent_was_given_is_not_given() {
        let of = AgentOf { add_on: "web", cluster: "pi-7" };
        let resource = Resource::new("rbac.authorization.k8s.io", "rolebindings");
        let place = |name: &str| Key::new(&resource, &ClusterName::root(), "shared", name);
        let mut own = json!({"metadata": {"labels": {}}});
        for (key, value) in labels(of, &place("a")) {
            own["metadata"]["labels"][key] = json!(value);
        }
        let whose =
            |of: AgentOf<'_>, name: &str, object: &Value| Whose::there(of, &place(name), object);
        assert_eq!(whose(of, "a", &own), Whose::Agents);
        assert_eq!(whose(of, "b", &own), Whose::Others);
        assert_eq!(whose(AgentOf { cluster: "pi-8", ..of }, "a", &own), Whose::Others);
        assert_eq!(whose(of, "a", &json!({"metadata": {}})), Whose::Others);
        own["metadata"]["labels"][AGENT_GRANT_LABEL] = Value::Null;
        assert_eq!(whose(of, "a", &own), Whose::Unmarked);
        own["metadata"]["labels"][AGENT_CLUSTER_LABEL] = Value::Null;
        assert_eq!(whose(of, "a", &own), Whose::Others);
    }
}
