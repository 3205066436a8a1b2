//! Add-ons: by what they are set up on which cluster, and what comes of their templates there.
//!
//! ```text
//! configs    objects that an add-on is set up by, and how far a cluster is with them
//! setting    what a template is rendered with
//! workload   what its agents run as, and when that is well
//! hook       what may be done before it goes
//! template   manifests of a template, with what a configuration says of them
//! pods       what a configuration says of their pods
//! agent      the work that a template comes to on a cluster
//! registration  as what its agents are known at the hub, and what they may do there
//! secret_names   which of them have a Secret of their own
//! health     whether what was applied is well
//! ```

pub mod agent;
pub mod configs;
pub mod health;
mod hook;
mod pods;
pub mod registration;
pub mod secret_names;
pub mod setting;
pub mod template;
mod workload;
