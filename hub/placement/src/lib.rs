//! Who runs what: pure. No I/O, no clock; chance comes in as a seed.
//!
//! ```text
//! resources  what a pod asks for and a device has
//! extended   the same for what only some devices have
//! pod_request  a pod, read once for many decisions
//! affinity   node selectors with operators
//! taint      taints and tolerations
//! node       a Node, with its labels as numbers
//! fleet      all nodes of all realms, and the one ledger of each device
//! decide     filter and score
//! daemon     whether a DaemonSet's pod belongs on a node
//! refusal    why nothing fits, in Kubernetes' words
//! ```
//!
//! Guarantees:
//! - the root's Node `pi-7` and the Node of cluster `pi-7` are one device with one ledger
//!   (`both_realms_of_a_device_share_one_ledger`);
//! - the same fleet, pod and seed give the same decision (`ties_are_broken_by_the_seed_alone`).

pub mod affinity;
pub mod daemon;
pub mod decide;
pub mod extended;
pub mod fleet;
pub mod node;
pub mod pod_request;
pub mod refusal;
pub mod resources;
pub mod taint;

pub use decide::{Pick, decide};
pub use fleet::Fleet;
pub use pod_request::PodRequest;
pub use refusal::{Reason, Refusal};
