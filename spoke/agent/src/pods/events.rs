//! Events about pods, in kubelet's words, because people and tools search for them.

use freewheel_link::message::bounded;
use freewheel_link::probes::ProbeKindV1;
use freewheel_link::report::{EventV1, UnixMillis};

use super::backoff;
use super::{Container, Pod, Which};
use crate::ports::{Exit, Probed};

/// Longest message of an event about a probe: it may have come from the guest.
const PROBE_TEXT_BYTES_MAX: usize = 1024;

/// An event about the pod as a whole.
#[must_use]
pub fn about(pod: &Pod, unix: UnixMillis, warning: bool, reason: &str, message: String) -> EventV1 {
    EventV1 {
        realm: pod.realm.clone(),
        namespace: pod.spec.namespace.clone(),
        pod: pod.spec.name.clone(),
        uid: pod.spec.uid.clone(),
        field_path: String::new(),
        warning,
        reason: reason.to_owned(),
        message,
        at: unix,
    }
}

/// An event about one container.
#[must_use]
pub fn of_container(
    pod: &Pod,
    which: Which,
    unix: UnixMillis,
    warning: bool,
    reason: &str,
    message: String,
) -> EventV1 {
    let mut event = about(pod, unix, warning, reason, message);
    if let Some((container, _)) = pod.at(which) {
        let list = match which {
            Which::Init(_) => "initContainers",
            Which::Main(_) => "containers",
        };
        event.field_path = format!("spec.{list}{{{}}}", container.name);
    }
    event
}

/// A request took more memory than there is. The text is the same each time, so that it is counted up.
#[must_use]
pub fn of_instance_out_of_memory(pod: &Pod, which: Which, unix: UnixMillis) -> EventV1 {
    let name = pod.at(which).map_or("", |(container, _)| container.name.as_str());
    let text = format!(
        "Memory limit reached: an instance of the HTTP container {name} was ended with its request"
    );
    of_container(pod, which, unix, true, "OOMKilling", text)
}

/// What the outcome of a probe is worth: (reason, message).
#[must_use]
pub fn of_probe(kind: ProbeKindV1, outcome: &Probed) -> Option<(&'static str, String)> {
    let kind = match kind {
        ProbeKindV1::Startup => "Startup",
        ProbeKindV1::Liveness => "Liveness",
        ProbeKindV1::Readiness => "Readiness",
    };
    let (reason, text) = match outcome {
        Probed::Success | Probed::Ended => return None,
        Probed::Warning(text) => ("ProbeWarning", format!("{kind} probe warning: {text}")),
        Probed::Failure(text) => ("Unhealthy", format!("{kind} probe failed: {text}")),
        Probed::Error(text) => {
            ("Unhealthy", format!("{kind} probe errored and resulted in unknown state: {text}"))
        }
    };
    Some((reason, bounded(text, PROBE_TEXT_BYTES_MAX)))
}

/// What an exit is worth: memory and start errors by name, then the crash loop that follows.
#[must_use]
pub fn of_exit(
    pod: &Pod,
    which: Which,
    container: &Container,
    exit: &Exit,
    unix: UnixMillis,
) -> Vec<EventV1> {
    let mut out = Vec::new();
    let mut warn = |reason: &str, message: String| {
        out.push(of_container(pod, which, unix, true, reason, message));
    };
    match exit.reason.as_str() {
        "OOMKilled" => {
            warn(
                "OOMKilling",
                format!("Memory limit reached, killed container {}", container.name),
            );
        }
        "StartError" => warn("Failed", format!("Error: {}", exit.message)),
        _ => {}
    }
    let waits = !backoff::delay(container.streak).is_zero() && !container.changed;
    let again = super::decide::starts_again(pod.spec.restart, container, exit.code);
    if waits && pod.termination.is_none() && again {
        warn(
            "BackOff",
            format!(
                "Back-off restarting failed container {} in pod {}_{}({})",
                container.name, pod.spec.name, pod.spec.namespace, pod.spec.uid
            ),
        );
    }
    out
}
