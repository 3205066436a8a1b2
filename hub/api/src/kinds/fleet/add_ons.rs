//! Add-ons of Open Cluster Management.
//!
//! ```text
//! catalogue           ClusterManagementAddOn: which add-ons there are, and which clusters get them
//! instance            ManagedClusterAddOn: one of them on one cluster
//! deployment_config   AddOnDeploymentConfig: how it is set up
//! template            AddOnTemplate: what it is made of, where no controller of its own makes it
//! references          lists of configurations, in the form of each version
//! descriptions        prose for `explain`
//! ```
//!
//! The store has the form of v1alpha1, as upstream's; v1beta1 is a view of that.

pub(crate) mod catalogue;
pub(crate) mod deployment_config;
pub(crate) mod descriptions;
pub(crate) mod instance;
mod references;
pub(crate) mod template;

/// The version that is stored.
const STORED: &str = "v1alpha1";
/// The version that is a view of it.
const NEWER: &str = "v1beta1";
