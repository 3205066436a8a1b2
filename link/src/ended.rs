//! What the hub was told of ends, and a device may have forgotten: a part of the pod's record.

use serde::{Deserialize, Serialize};

use crate::part::InPart;
use crate::report::TerminatedV1;

/// Which containers of a pod that lives on have ended for good; a part of those that have such. A device that knows less
/// of them than the hub was told starts none of them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainersEndedV1 {
    /// Of spec.containers.
    pub containers: Vec<ContainerEndedV1>,
}

impl InPart for ContainersEndedV1 {
    const KIND: u16 = 3;
}

/// How one of them has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEndedV1 {
    /// name
    pub name: String,
    /// restartCount
    pub restarts: u32,
    /// state.terminated
    pub how: TerminatedV1,
}
