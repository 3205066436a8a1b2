//! Roles that every cluster has from the start, and roles that are made of others.

mod aggregation;
mod policy;

pub use aggregation::RoleAggregation;
pub use policy::BootstrapPolicy;
