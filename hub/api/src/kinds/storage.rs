//! Kinds of storage.k8s.io: what there is to know of storage before anything is mounted. No spoke mounts anything of it.

pub(super) mod csi_driver;
pub(super) mod csi_node;
pub(super) mod csi_storage_capacity;
mod parameters;
pub(super) mod storage_class;
pub(super) mod volume_attachment;
pub(super) mod volume_attributes_class;

/// Why nothing comes of any of them.
const UNUSED: &str = "no spoke mounts storage of a CSI driver";
