//! Add-ons: which clusters get them, by what they are set up there, and what becomes of them.
//!
//! ```text
//! catalogue      ClusterManagementAddOns to ManagedClusterAddOns, in the order of their rollouts
//! members        an add-on on its clusters, as it is read
//! known          what is known of them from the looks before
//! waits          where something of one could not be done
//! progression    what is wanted where, and what is said of it: pure
//! instances      ManagedClusterAddOns to ManifestWorks, and what is said of them
//! asked          what a ClusterManagementAddOn asks for
//! install        a ManagedClusterAddOn for each cluster that is chosen
//! configure      what each of those is set up by
//! agent          what the template of one comes to
//! deploy         the work that this comes to
//! progress       how far that is
//! manifest_works what works of add-ons say
//! registrar      who registers agents at the hub
//! grant          what marks that something was given to one
//! register       what that is, and what is said of it
//! bindings       what agents may do there
//! credentials    Secrets with which they come
//! credential     what is in one, and when there is to be another
//! last_writes    when they were written last
//! signing_cas    which CAs sign for whom
//! hooks          what is done before one goes
//! health         whether one is well, by its lease or by its work
//! features       labels of clusters that say which add-ons they have
//! config_object  objects that add-ons are set up by
//! ```

mod agent;
mod asked;
mod bindings;
mod catalogue;
mod config_object;
mod configure;
mod credential;
mod credentials;
mod deploy;
mod features;
mod grant;
mod health;
mod hooks;
mod install;
mod instances;
mod known;
mod last_writes;
mod manifest_works;
mod members;
mod progress;
mod progression;
mod register;
mod registrar;
mod signing_cas;
mod waits;

pub use catalogue::AddOns;
pub use features::AddOnFeatures;
pub use instances::AddOnInstances;
pub use registrar::HubAccess;
