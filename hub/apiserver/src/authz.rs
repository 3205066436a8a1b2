//! What a caller may do: masters everything, a cluster's administrators everything in that cluster, others look
//! around and ask who they are.
//!
//! Guarantees:
//! - a certificate for one cluster opens that cluster and no other, the root not either
//!   (`an_administrator_of_one_cluster_is_nobody_elsewhere`,
//!   `a_certificate_for_one_cluster_opens_that_cluster_alone`);
//! - nor the next cluster of its name (`watches_and_logs_end_with_their_cluster_and_read_nothing_of_the_next`).

use freewheel_hub_api::error::{ApiError, Details};

use crate::authn::User;

/// Paths that everybody who is authenticated may read, with what is below them.
pub const DISCOVERY: &[&str] =
    &["/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz"];

/// What somebody wants to do to a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`
    pub verb: &'a str,
    /// API group, empty for core.
    pub group: &'a str,
    /// Plural resource.
    pub resource: &'a str,
    /// Subresource, empty for none.
    pub subresource: &'a str,
    /// Namespace, empty for none or all.
    pub namespace: &'a str,
    /// Object's name, empty for none.
    pub name: &'a str,
}

/// Whether the caller may do that.
#[must_use]
pub fn allows(user: &User, _attributes: &Attributes<'_>) -> bool {
    user.is_master()
}

/// Lets the caller pass or refuses in kube-apiserver's words.
///
/// # Errors
/// 403 Forbidden.
pub fn check(user: &User, attributes: &Attributes<'_>) -> Result<(), ApiError> {
    if allows(user, attributes) { Ok(()) } else { Err(forbidden(user, attributes)) }
}

/// Lets a caller of a path that is no resource pass: what `system:discovery` grants to everybody who
/// is authenticated.
///
/// # Errors
/// 403 Forbidden.
pub fn check_path(user: &User, verb: &str, path: &str) -> Result<(), ApiError> {
    let within = |prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if user.is_master() || (verb == "get" && DISCOVERY.iter().any(|prefix| within(prefix))) {
        return Ok(());
    }
    let message = format!("forbidden: User {:?} cannot {verb} path {path:?}", user.name);
    let mut error = ApiError::new(403, "Forbidden", message);
    error.details = Some(Box::default());
    Err(error)
}

fn forbidden(user: &User, what: &Attributes<'_>) -> ApiError {
    let resource = if what.subresource.is_empty() {
        what.resource.to_owned()
    } else {
        format!("{}/{}", what.resource, what.subresource)
    };
    let qualified = if what.group.is_empty() {
        what.resource.to_owned()
    } else {
        format!("{}.{}", what.resource, what.group)
    };
    let subject =
        if what.name.is_empty() { qualified } else { format!("{qualified} {:?}", what.name) };
    let place = if what.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", what.namespace)
    };
    let message = format!(
        "{subject} is forbidden: User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
        user.name, what.verb, what.group
    );
    let mut error = ApiError::new(403, "Forbidden", message);
    error.details = Some(Box::new(Details {
        name: what.name.to_owned(),
        group: what.group.to_owned(),
        kind: what.resource.to_owned(),
        ..Details::default()
    }));
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::MASTERS;

    fn user(group: &str) -> User {
        User { name: "x".to_owned(), groups: vec![group.to_owned()], ..User::default() }
    }

    #[test]
    fn only_masters_pass_and_others_read_why() {
        let listing = Attributes {
            verb: "list",
            resource: "pods",
            namespace: "default",
            ..Attributes::default()
        };
        assert!(check(&user(MASTERS), &listing).is_ok());
        assert_eq!(
            check(&user("people"), &listing).unwrap_err().message,
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#
        );
    }

    #[test]
    fn an_administrator_of_one_cluster_is_nobody_elsewhere() {
        let pi = |name: &str| freewheel_link::names::ClusterName::try_from(name).unwrap();
        let caller = user("freewheel:cluster-admin:pi-7:u-1");
        let anything = Attributes { verb: "delete", resource: "secrets", ..Attributes::default() };
        let may = |name: &str, uid: &str| allows(&caller.within(&pi(name), &uid.into()), &anything);
        assert!(may("pi-7", "u-1"));
        for (name, uid) in [("pi-7", "u-2"), ("pi-8", "u-1"), ("root", "u-1"), ("pi-7", "")] {
            assert!(!may(name, uid), "{name} {uid}");
        }
        assert!(!allows(&caller, &anything));
        let twice = caller.within(&pi("pi-7"), &"u-1".into()).within(&pi("pi-8"), &"u-2".into());
        assert!(!allows(&twice, &anything), "each request is looked at anew");
    }

    #[test]
    fn everybody_known_may_discover() {
        assert!(check_path(&user("people"), "get", "/apis/apps/v1").is_ok());
        assert_eq!(
            check_path(&user("people"), "get", "/metrics").unwrap_err().message,
            r#"forbidden: User "x" cannot get path "/metrics""#
        );
    }
}
