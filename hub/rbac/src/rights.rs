//! What callers may do in one logical cluster: roles and bindings of a moment, found by who asks.

use std::fmt;
use std::sync::Arc;

use imbl::{HashMap, OrdSet};

use crate::binding::{Binding, RoleRef, Subject, service_account_name};
use crate::rule::PolicyRule;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The user.
    pub name: &'a str,
    /// Their groups.
    pub groups: &'a [String],
}

/// A role that a binding names is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}.rbac.authorization.k8s.io {:?} not found", .0.kind().to_ascii_lowercase(), .0.name())]
pub struct NoSuchRole(pub RoleRef);

/// What a binding gives to whoever asks.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    binding: &'a Binding,
    subject: &'a Subject,
    /// May be done.
    pub rules: &'a [PolicyRule],
}

/// By what something is allowed, in kube-apiserver's words.
impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Binding { namespace, name, role, .. } = self.binding;
        let role = role.described();
        if namespace.is_empty() {
            write!(f, "ClusterRoleBinding {name:?} of {role} to {}", self.subject)
        } else {
            let name = format!("{name}/{namespace}");
            write!(f, "RoleBinding {name:?} of {role} to {}", self.subject)
        }
    }
}

/// Rules, which many clusters have alike.
pub(crate) type Rules = Arc<Vec<PolicyRule>>;
type Names = OrdSet<Arc<str>>;

/// Roles and bindings of one namespace, or of none. A copy shares all that is not changed in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScopedRoles {
    roles: HashMap<Arc<str>, Rules>,
    bindings: HashMap<Arc<str>, Arc<Binding>>,
    /// Bindings by whom they name.
    users: HashMap<Arc<str>, Names>,
    groups: HashMap<Arc<str>, Names>,
}

impl ScopedRoles {
    pub(crate) fn set_role(&mut self, name: &Arc<str>, rules: Option<Rules>) {
        match rules {
            Some(rules) => drop(self.roles.insert(name.clone(), rules)),
            None => drop(self.roles.remove(name)),
        }
    }

    pub(crate) fn set_binding(&mut self, name: &Arc<str>, binding: Option<Binding>) {
        if let Some(old) = self.bindings.remove(name) {
            for subject in &old.subjects {
                let (index, key) = self.index_of(subject);
                let Some(names) = index.get_mut(&*key) else { continue };
                names.remove(name);
                if names.is_empty() {
                    index.remove(&*key);
                }
            }
        }
        let Some(binding) = binding else { return };
        for subject in &binding.subjects {
            let (index, key) = self.index_of(subject);
            index.entry(key).or_default().insert(name.clone());
        }
        self.bindings.insert(name.clone(), Arc::new(binding));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.bindings.is_empty()
    }

    fn index_of(&mut self, subject: &Subject) -> (&mut HashMap<Arc<str>, Names>, Arc<str>) {
        match subject {
            Subject::User(name) => (&mut self.users, (**name).into()),
            Subject::Group(name) => (&mut self.groups, (**name).into()),
            Subject::ServiceAccount { namespace, name } => {
                (&mut self.users, service_account_name(namespace, name).into())
            }
        }
    }

    /// Bindings that name the caller or a group of theirs, and the subject by which they do.
    fn bindings_of<'a>(
        &'a self,
        who: Who<'a>,
    ) -> impl Iterator<Item = (&'a Binding, &'a Subject)> + 'a {
        let of_user = self.users.get(who.name).map(|names| (None, names));
        let of_groups = who.groups.iter();
        let of_groups =
            of_groups.filter_map(|group| Some((Some(&**group), self.groups.get(&**group)?)));
        of_user.into_iter().chain(of_groups).flat_map(move |(group, names)| {
            names.iter().filter_map(move |name| {
                let binding = self.bindings.get(name)?;
                let subjects = &binding.subjects;
                let subject = subjects.iter().find(|subject| is(subject, who.name, group))?;
                Some((&**binding, subject))
            })
        })
    }
}

/// Whether a subject is this user, or this group when there is one.
fn is(subject: &Subject, user: &str, group: Option<&str>) -> bool {
    match (subject, group) {
        (Subject::Group(name), Some(group)) => name == group,
        (Subject::User(name), None) => name == user,
        (Subject::ServiceAccount { namespace, name }, None) => {
            crate::split_service_account_name(user) == Some((namespace, name))
        }
        (Subject::Group(_), None)
        | (Subject::User(_) | Subject::ServiceAccount { .. }, Some(_)) => false,
    }
}

/// What callers may do in one logical cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterRights {
    places: HashMap<Arc<str>, Arc<ScopedRoles>>,
}

impl ClusterRights {
    pub(crate) fn change(&mut self, namespace: &str, change: impl FnOnce(&mut ScopedRoles)) {
        let mut place = self.places.get(namespace).map(|it| (**it).clone()).unwrap_or_default();
        change(&mut place);
        if place.is_empty() {
            self.places.remove(namespace);
        } else {
            self.places.insert(namespace.into(), Arc::new(place));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The rules of a role that a binding of this namespace (none: of the cluster) names.
    ///
    /// # Errors
    /// When there is no such role.
    pub fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<&[PolicyRule], NoSuchRole> {
        let (place, name) = match role {
            RoleRef::Role(name) => (namespace, name),
            RoleRef::ClusterRole(name) => ("", name),
        };
        let rules = self.places.get(place).and_then(|place| place.roles.get(&**name));
        rules.map(|rules| rules.as_slice()).ok_or_else(|| NoSuchRole(role.clone()))
    }

    /// What is given to a caller: in the whole cluster, then in this namespace, when there is one.
    pub fn given<'a>(
        &'a self,
        who: Who<'a>,
        namespace: &'a str,
    ) -> impl Iterator<Item = Result<Given<'a>, NoSuchRole>> + 'a {
        let mut places = vec![""];
        if !namespace.is_empty() {
            places.push(namespace);
        }
        let places = places.into_iter().filter_map(|name| self.places.get(name));
        places.flat_map(move |place| place.bindings_of(who)).map(|(binding, subject)| {
            let rules = self.rules_of(&binding.role, &binding.namespace)?;
            Ok(Given { binding, subject, rules })
        })
    }
}
