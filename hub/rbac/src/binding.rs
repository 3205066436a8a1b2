//! A binding: who is given which role.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// How the name of a service account's user begins.
const ACCOUNTS: &str = "system:serviceaccount:";

/// The user that a service account is.
#[must_use]
pub fn service_account_name(namespace: &str, name: &str) -> String {
    format!("{ACCOUNTS}{namespace}:{name}")
}

/// Namespace and name of the service account that a user is.
#[must_use]
pub fn split_service_account_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNTS)?.split_once(':')?;
    let is_one = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    is_one.then_some((namespace, name))
}

/// The role that a binding gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleRef {
    /// One of the binding's own namespace.
    Role(String),
    /// One of the cluster.
    ClusterRole(String),
}

/// Whom a binding gives it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user of this name.
    User(String),
    /// All members of a group.
    Group(String),
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Who is given what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Empty for one that holds in all of a cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What.
    pub role: RoleRef,
    /// Who.
    pub subjects: Vec<Subject>,
}

/// As it is stored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body {
    role_ref: Ref,
    #[serde(default, deserialize_with = "list")]
    subjects: Vec<Ref>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ref {
    kind: String,
    name: String,
    namespace: String,
}

fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Ref>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Body {
    /// The binding under this name; `None` for one to a kind of role that there is not.
    pub(crate) fn binding(self, namespace: &str, name: &str) -> Option<Binding> {
        let role = match &*self.role_ref.kind {
            "Role" => RoleRef::Role(self.role_ref.name),
            "ClusterRole" => RoleRef::ClusterRole(self.role_ref.name),
            _ => return None,
        };
        let subjects = self.subjects.into_iter();
        let subjects = subjects.filter_map(|subject| subject.subject(namespace)).collect();
        Some(Binding { namespace: namespace.to_owned(), name: name.to_owned(), role, subjects })
    }
}

impl Ref {
    fn subject(self, home: &str) -> Option<Subject> {
        match &*self.kind {
            "User" => Some(Subject::User(self.name)),
            "Group" => Some(Subject::Group(self.name)),
            "ServiceAccount" => {
                let own = self.namespace;
                let namespace = if own.is_empty() { home.to_owned() } else { own };
                let name = self.name;
                (!namespace.is_empty()).then_some(Subject::ServiceAccount { namespace, name })
            }
            _ => None,
        }
    }
}

impl RoleRef {
    /// `ClusterRole "view"`
    pub(crate) fn described(&self) -> String {
        let (Self::Role(name) | Self::ClusterRole(name)) = self;
        format!("{} {name:?}", self.kind())
    }

    /// `Role` or `ClusterRole`
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Role(_) => "Role",
            Self::ClusterRole(_) => "ClusterRole",
        }
    }

    /// `roles` or `clusterroles`
    #[must_use]
    pub const fn plural(&self) -> &'static str {
        match self {
            Self::Role(_) => "roles",
            Self::ClusterRole(_) => "clusterroles",
        }
    }

    /// The role's name.
    #[must_use]
    pub fn name(&self) -> &str {
        let (Self::Role(name) | Self::ClusterRole(name)) = self;
        name
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "User {name:?}"),
            Self::Group(name) => write!(f, "Group {name:?}"),
            Self::ServiceAccount { namespace, name } => {
                write!(f, "ServiceAccount {:?}", format!("{name}/{namespace}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn service_accounts_are_users() {
        let user = service_account_name("ns", "builder");
        assert_eq!(user, "system:serviceaccount:ns:builder");
        assert_eq!(split_service_account_name(&user), Some(("ns", "builder")));
        for other in [
            "jane",
            "system:serviceaccount:ns",
            "system:serviceaccount::a",
            "system:serviceaccount:a:b:c",
        ] {
            assert_eq!(split_service_account_name(other), None, "{other}");
        }
    }

    #[test]
    fn an_account_without_a_namespace_is_of_the_bindings_own() {
        let body = json!({
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "a"}, {"kind": "Robot", "name": "x"}],
        });
        let read = |namespace| {
            let body: Body = serde_json::from_value(body.clone()).unwrap();
            body.binding(namespace, "b").unwrap().subjects
        };
        let account = Subject::ServiceAccount { namespace: "ns".to_owned(), name: "a".to_owned() };
        assert_eq!(read("ns"), [account]);
        assert_eq!(read(""), []);
    }
}
