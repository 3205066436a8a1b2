//! The kinds of role-based access control: what they are called, and which of them are roles.
//!
//! Guarantees:
//! - each of them is found by its storage and by its name, and nothing else is
//!   (`a_kind_is_found_by_its_storage_and_by_its_name`).

use freewheel_hub_schema::object::Resource;

use crate::GROUP;

/// What the objects of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RbacForm {
    /// They hold rules.
    Role,
    /// They give a role to somebody.
    Binding,
}

/// One of the kinds.
#[derive(Debug, PartialEq, Eq)]
pub struct RbacKind {
    /// `ClusterRole`
    pub kind: &'static str,
    /// `clusterroles`
    pub plural: &'static str,
    /// What its objects are.
    pub form: RbacForm,
}

/// All of them.
pub static KINDS: [RbacKind; 4] = [
    RbacKind { kind: "ClusterRole", plural: "clusterroles", form: RbacForm::Role },
    RbacKind { kind: "ClusterRoleBinding", plural: "clusterrolebindings", form: RbacForm::Binding },
    RbacKind { kind: "Role", plural: "roles", form: RbacForm::Role },
    RbacKind { kind: "RoleBinding", plural: "rolebindings", form: RbacForm::Binding },
];

impl RbacKind {
    /// The one of this name: `ClusterRole`.
    #[must_use]
    pub fn named(kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|one| one.kind == kind)
    }

    /// The one whose objects are stored there.
    #[must_use]
    pub fn stored_in(resource: &Resource) -> Option<&'static Self> {
        let is_its = |one: &&Self| (GROUP, one.plural) == (resource.group(), resource.plural());
        KINDS.iter().find(is_its)
    }

    /// Where its objects are stored.
    #[must_use]
    pub fn storage(&self) -> Resource {
        Resource::new(GROUP, self.plural)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_its_storage_and_by_its_name() {
        for one in &KINDS {
            assert_eq!(RbacKind::stored_in(&one.storage()), Some(one));
            assert_eq!(RbacKind::named(one.kind), Some(one));
            let binds = one.kind.ends_with("Binding");
            assert_eq!(one.form == RbacForm::Binding, binds, "{}", one.kind);
        }
        assert_eq!(RbacKind::stored_in(&Resource::new("example.com", "roles")), None);
        assert_eq!(RbacKind::named("roles"), None);
    }
}
