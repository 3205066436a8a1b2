//! Kinds of resource.k8s.io: devices that pods may claim. Spokes give devices by host interfaces instead.

pub(super) mod claim;
mod claim_spec;
pub(super) mod claim_template;
pub(super) mod class;
mod device;
pub(super) mod slice;

const GROUP: &str = "resource.k8s.io";
/// Why nothing comes of them.
const UNUSED: &str = "devices are not claimed; grant host interfaces instead";
