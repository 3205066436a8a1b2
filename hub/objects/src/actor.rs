//! Who writes: known at the door that a write comes in by, and carried to its commit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_link::identities::NODE_PREFIX;
use freewheel_link::names::ClusterName;

/// Who writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Actor {
    /// Somebody whom the API server knows.
    Person(Arc<Person>),
    /// A controller of the hub, by its name: `deployment-controller`.
    Controller(&'static str),
    /// The gateway, for the device of this name.
    Device(ClusterName),
    /// The gateway, for a device that is on its way in.
    Joining,
    /// The hub's own process.
    #[default]
    Hub,
}

/// A person, or a program of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// User name, for example `kubernetes-admin`.
    pub name: String,
    /// Tells them from who had the name before, where that is known.
    pub uid: String,
    /// All that they are members of.
    pub groups: Vec<String>,
    /// What else is known of them.
    pub extra: BTreeMap<String, Vec<String>>,
    /// `fieldManager` of the request, else derived from the user agent.
    pub manager: String,
    /// A controller of the hub writes in this name, as the program does upstream that it stands for. No request says so.
    pub by_controller: bool,
}

impl From<Person> for Actor {
    fn from(person: Person) -> Self {
        Self::Person(Arc::new(person))
    }
}

impl Actor {
    /// The name of the user.
    #[must_use]
    pub fn user(&self) -> Cow<'_, str> {
        match self {
            Self::Person(person) => Cow::Borrowed(&person.name),
            // The service account that it has upstream: `system:controller:NAME` names a role, which somebody may be
            // bound to.
            Self::Controller(name) => format!("system:serviceaccount:kube-system:{name}").into(),
            Self::Device(cluster) => format!("{NODE_PREFIX}{cluster}").into(),
            Self::Joining => Cow::Borrowed("system:bootstrap"),
            Self::Hub => Cow::Borrowed("system:freewheel:hub"),
        }
    }

    /// Whether a controller of the hub writes, in its own name or another: it works for all clusters, and comes again by
    /// itself.
    #[must_use]
    pub fn is_controller(&self) -> bool {
        match self {
            Self::Controller(_) => true,
            Self::Person(person) => person.by_controller,
            Self::Device(_) | Self::Joining | Self::Hub => false,
        }
    }

    /// Whose the fields are that it writes.
    #[must_use]
    pub fn manager(&self) -> &str {
        match self {
            Self::Person(person) => &person.manager,
            // As the programs are called that do the same upstream.
            Self::Controller("kube-scheduler" | "default-scheduler") => "kube-scheduler",
            Self::Controller(_) => "kube-controller-manager",
            Self::Hub => "kube-apiserver",
            Self::Device(_) => "kubelet",
            Self::Joining => "registration",
        }
    }

    /// Whether it may say what an object's images stand for: controllers look that up.
    #[must_use]
    pub(super) const fn knows_images(&self) -> bool {
        match self {
            Self::Controller(_) => true,
            Self::Person(_) | Self::Device(_) | Self::Joining | Self::Hub => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_writer_has_a_name_and_a_manager() {
        let ada = Person { name: "ada".into(), manager: "kubectl".into(), ..Person::default() };
        let device = ClusterName::try_from("pi-7").unwrap();
        for (actor, user, manager) in [
            (ada.into(), "ada", "kubectl"),
            (
                Actor::Controller("job-controller"),
                "system:serviceaccount:kube-system:job-controller",
                "kube-controller-manager",
            ),
            (
                Actor::Controller("kube-scheduler"),
                "system:serviceaccount:kube-system:kube-scheduler",
                "kube-scheduler",
            ),
            (Actor::Device(device), "system:node:pi-7", "kubelet"),
            (Actor::Joining, "system:bootstrap", "registration"),
            (Actor::default(), "system:freewheel:hub", "kube-apiserver"),
        ] {
            assert_eq!((&*actor.user(), actor.manager()), (user, manager));
        }
    }
}
