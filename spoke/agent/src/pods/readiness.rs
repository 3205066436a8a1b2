//! Whether a container has started, is ready, and lets the next one start: what is decided by and what the hub is told.
//!
//! Guarantees:
//! - what runs has started and is ready when its probes say so, or at once where it has none
//!   (`a_pod_is_ready_when_its_probes_say_so`);
//! - an init container is waited for until it has succeeded, a sidecar until it has started
//!   (`init_containers_run_one_after_the_other_and_sidecars_stay`); one that was set aside has not, whatever it ended with
//!   (`an_init_container_that_is_set_aside_has_not_succeeded`).

use freewheel_link::plan::ContainerV1;

use super::{Container, Which};

/// Whether it has come up: as a sidecar it is waited for no longer.
pub(super) fn has_started(which: Which, container: &Container, spec: &ContainerV1) -> bool {
    container.running() && container.probes.has_started()
        || (ends(which, spec) && has_succeeded(container))
}

/// Whether it counts as ready. An init container is when it has succeeded.
pub(super) fn is_ready(which: Which, container: &Container, spec: &ContainerV1) -> bool {
    if ends(which, spec) {
        has_succeeded(container)
    } else {
        container.running() && container.probes.is_ready()
    }
}

/// Whether an init container or sidecar lets the one after it start.
pub(super) fn lets_next_start(which: Which, container: &Container, spec: &ContainerV1) -> bool {
    if ends(which, spec) {
        is_ready(which, container, spec)
    } else {
        has_started(which, container, spec)
    }
}

/// What was stopped to start again may have been told so, and say that it has ended well.
fn has_succeeded(container: &Container) -> bool {
    container.code() == Some(0) && !container.changed
}

/// Whether it is an init container that has to end.
const fn ends(which: Which, spec: &ContainerV1) -> bool {
    matches!(which, Which::Init(_)) && !spec.sidecar
}
