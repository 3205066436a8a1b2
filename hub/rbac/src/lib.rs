//! Role-based access control: who was given what, found by who asks.
//!
//! ```text
//! rbac_kind  the kinds that these are objects of
//! rule       one PolicyRule: what it allows
//! cover      which rights others lack: nobody gives away what they do not have
//! binding    who is given which role
//! rights     what a caller may do in a cluster: a state that never changes
//! index      the newest of these, kept beside the store
//! policy     roles and bindings that clusters have from the start
//! reconcile  those over what is there
//! aggregate  roles that are made of others
//! ```
//!
//! Guarantees:
//! - rights of one logical cluster are nothing in another (`what_is_given_in_one_cluster_is_nothing_in_another`);
//! - a decision looks at the bindings of the caller and of their groups, however many others there are
//!   (`a_decision_looks_at_the_callers_own_bindings_only`);
//! - who was answered a write of roles or bindings is decided by it from then on
//!   (`whoever_was_answered_is_decided_by_what_they_wrote`).

pub mod aggregate;
mod binding;
mod cover;
mod index;
pub mod policy;
mod rbac_kind;
pub mod reconcile;
mod rights;
mod rule;

pub use binding::{Binding, RoleRef, Subject, service_account_name, split_service_account_name};
pub use cover::{compact, missing};
pub use index::{Index, IndexedStore, resources};
pub use rbac_kind::{KINDS, RbacForm, RbacKind};
pub use rights::{ClusterRights, Given, NoSuchRole, Who};
pub use rule::{PolicyRule, Request};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
