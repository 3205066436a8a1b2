//! What the hub is told of one pod. Pure; in the words of Kubernetes' API and of kubelet.

use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::part::Parts;
use freewheel_link::plan::{ContainerV1, ModuleV1, RestartPolicy};
use freewheel_link::report::{
    ConditionV1, ContainerStateV1, ContainerStatusV1, PhaseV1, PodStatusV1, TerminatedV1,
    UnixMillis,
};

use super::backoff::{delay, go_text};
use super::decide::{EVICTED, PULL_FAILED, problem, starts_again};
use super::{Container, ContainerState, DecisionContext, Pod, Volumes, Which, readiness};
use crate::ledger::PodStateV1;

/// How long a failed pull reads `ErrImagePull` before it reads `ImagePullBackOff`.
pub const PULL_ERROR_SHOWN: Duration = Duration::from_secs(10);

/// Reason of a port of the node that is not open.
pub const PORT_NOT_OPENED: &str = "PortNotOpened";

/// The pod's status now. `unix` dates what has just changed.
#[must_use]
pub fn status(pod: &Pod, ctx: DecisionContext<'_>, unix: UnixMillis) -> PodStatusV1 {
    let init: Vec<_> =
        (0..pod.init.len()).filter_map(|i| container_status(pod, Which::Init(i), ctx)).collect();
    let containers: Vec<_> = (0..pod.containers.len())
        .filter_map(|i| container_status(pod, Which::Main(i), ctx))
        .collect();
    let (reason, message) = match (pod.done(), pod.barred()) {
        (Some(done), _) => (done.reason.clone(), done.message.clone()),
        (None, Some((reason, message))) => (reason.clone(), message.clone()),
        (None, None) => (String::new(), String::new()),
    };
    PodStatusV1 {
        realm: pod.realm.clone(),
        namespace: pod.spec.namespace.clone(),
        name: pod.spec.name.clone(),
        uid: pod.spec.uid.clone(),
        phase: phase(pod),
        ip: pod.ip(),
        started: Some(pod.started),
        reason,
        message,
        conditions: conditions(pod, &init, &containers, unix),
        init,
        containers,
        parts: Parts::default(),
    }
}

/// The status of a pod that an earlier life of the agent ran, and whose record this one cannot read.
#[must_use]
pub fn unreadable(state: &PodStateV1, why: &str, unix: UnixMillis) -> PodStatusV1 {
    let reason = "UnreadableRecord".to_owned();
    let not = |kind: &str| ConditionV1 {
        kind: kind.to_owned(),
        status: false,
        since: unix,
        reason: reason.clone(),
        message: why.to_owned(),
    };
    PodStatusV1 {
        realm: state.realm.clone(),
        namespace: state.namespace.clone(),
        name: state.name.clone(),
        uid: state.uid.clone(),
        phase: state.done.as_ref().map_or(PhaseV1::Pending, |(phase, ..)| *phase),
        ip: state.ip,
        started: state.started,
        conditions: vec![not("Ready"), not("ContainersReady")],
        message: why.to_owned(),
        reason,
        init: Vec::new(),
        containers: Vec::new(),
        parts: Parts::default(),
    }
}

fn phase(pod: &Pod) -> PhaseV1 {
    match pod.done() {
        Some(done) => done.phase,
        None if pod.containers.iter().any(Container::unborn) => PhaseV1::Pending,
        None => PhaseV1::Running,
    }
}

/// Names of those that serve, or run beside them, and are not ready.
fn unready<'a>(
    pod: &Pod,
    init: &'a [ContainerStatusV1],
    containers: &'a [ContainerStatusV1],
) -> Vec<&'a str> {
    let sidecars = init.iter().zip(&pod.spec.init).filter(|(_, spec)| spec.sidecar);
    sidecars
        .map(|(status, _)| status)
        .chain(containers)
        .filter(|status| !status.ready)
        .map(|status| status.name.as_str())
        .collect()
}

/// Names of those before them that are not done, or do not run beside them yet.
fn waiting<'a>(pod: &Pod, init: &'a [ContainerStatusV1]) -> Vec<&'a str> {
    init.iter()
        .zip(&pod.spec.init)
        .filter(|(status, spec)| if spec.sidecar { !status.begun } else { !status.ready })
        .map(|(status, _)| status.name.as_str())
        .collect()
}

fn conditions(
    pod: &Pod,
    init: &[ContainerStatusV1],
    containers: &[ContainerStatusV1],
    unix: UnixMillis,
) -> Vec<ConditionV1> {
    let completed = matches!(pod.done(), Some(done) if done.phase == PhaseV1::Succeeded);
    let unready = unready(pod, init, containers);
    let waiting = waiting(pod, init);
    let done = pod.done().is_some();
    let not_ready = if completed {
        ("PodCompleted".to_owned(), String::new())
    } else if done {
        ("PodFailed".to_owned(), String::new())
    } else {
        (
            "ContainersNotReady".to_owned(),
            format!("containers with unready status: [{}]", unready.join(" ")),
        )
    };
    let well = unready.is_empty() && !done;
    let no_way_in = no_way_in(pod).filter(|_| well);
    let ready = well && no_way_in.is_none();
    let initialized = !pod.initializing || completed;
    let not_initialized = (
        "ContainersNotInitialized".to_owned(),
        format!("containers with incomplete status: [{}]", waiting.join(" ")),
    );
    let prepared = pod.sandbox.is_ready();
    let not_prepared = match pod.sandbox.volumes() {
        Volumes::Failed { message, .. } => ("FailedMount".to_owned(), message.clone()),
        Volumes::Absent | Volumes::Made => (String::new(), String::new()),
    };
    let mut initialized_reason = String::new();
    if completed {
        "PodCompleted".clone_into(&mut initialized_reason);
    }
    [
        ("PodReadyToStartContainers", prepared, String::new(), not_prepared),
        ("Initialized", initialized, initialized_reason, not_initialized),
        ("Ready", ready, String::new(), no_way_in.unwrap_or_else(|| not_ready.clone())),
        ("ContainersReady", well, String::new(), not_ready),
    ]
    .into_iter()
    .map(|(kind, holds, held, (reason, message))| {
        let (reason, message) = if holds { (held, String::new()) } else { (reason, message) };
        let since = since(pod, kind, holds).unwrap_or(unix);
        ConditionV1 { kind: kind.to_owned(), status: holds, since, reason, message }
    })
    .chain(disruption(pod, unix))
    .collect()
}

/// Clients of its hostPort reach another program.
fn no_way_in(pod: &Pod) -> Option<(String, String)> {
    let closed: Vec<_> = pod.closed_ports.values().map(String::as_str).collect();
    (!closed.is_empty()).then(|| (PORT_NOT_OPENED.to_owned(), closed.join("; ")))
}

/// That the spoke itself ended the pod: controllers count such a failure apart.
fn disruption(pod: &Pod, unix: UnixMillis) -> Option<ConditionV1> {
    let done = pod.done().filter(|done| done.reason == EVICTED)?;
    Some(ConditionV1 {
        kind: "DisruptionTarget".to_owned(),
        status: true,
        since: since(pod, "DisruptionTarget", true).unwrap_or(unix),
        reason: "TerminationByKubelet".to_owned(),
        message: done.message.clone(),
    })
}

/// Since when the hub has been told so already.
fn since(pod: &Pod, kind: &str, status: bool) -> Option<UnixMillis> {
    let condition = pod.reported.as_ref()?.conditions.iter().find(|c| c.kind == kind)?;
    (condition.status == status).then_some(condition.since)
}

fn container_status(
    pod: &Pod,
    which: Which,
    ctx: DecisionContext<'_>,
) -> Option<ContainerStatusV1> {
    let (container, spec) = pod.at(which)?;
    let (state, last) = state(pod, which, container, spec, ctx);
    let id = |attempt| container_id(pod, container, attempt);
    let image = if container.image.is_empty() { &spec.image } else { &container.image };
    let image_id = match (&spec.module, container.image_id.is_empty()) {
        (_, false) => container.image_id.clone(),
        (ModuleV1::Component(digest), true) if !container.unborn() => digest.to_string(),
        _ => String::new(),
    };
    Some(ContainerStatusV1 {
        name: container.name.clone(),
        ready: readiness::is_ready(which, container, spec),
        begun: readiness::has_started(which, container, spec),
        restarts: container.restarts,
        image: image.clone(),
        image_id,
        container_id: if container.unborn() { String::new() } else { id(container.restarts) },
        state,
        last_id: last.as_ref().map(|last| id(last.attempt)).unwrap_or_default(),
        last: last.map(|last| last.how),
    })
}

/// An ID per start, derived: the same after a restart of the agent.
fn container_id(pod: &Pod, container: &Container, attempt: u32) -> String {
    let start = format!("{}/{}/{attempt}", pod.spec.uid, container.name);
    format!("freewheel://{}", Digest::of(start.as_bytes()).hex())
}

/// The end that is shown as the last.
struct LastEnd {
    how: TerminatedV1,
    attempt: u32,
}

impl LastEnd {
    /// Of the start before the current one.
    fn before(container: &Container) -> Option<Self> {
        let attempt = container.restarts.saturating_sub(1);
        container.last.clone().map(|how| Self { how, attempt })
    }
}

type Shown = (ContainerStateV1, Option<LastEnd>);

fn state(
    pod: &Pod,
    which: Which,
    container: &Container,
    spec: &ContainerV1,
    ctx: DecisionContext<'_>,
) -> Shown {
    let waiting = |(reason, message): (String, String)| ContainerStateV1::Waiting(reason, message);
    match &container.state {
        ContainerState::Fresh => (waiting(why_waiting(pod, which, container, spec, ctx)), None),
        ContainerState::Starting => {
            let reason = "ContainerCreating".to_owned();
            (waiting((reason, String::new())), LastEnd::before(container))
        }
        ContainerState::Running { since, .. } => {
            (ContainerStateV1::Running(*since), LastEnd::before(container))
        }
        ContainerState::Ended { how, .. } => {
            let over = pod.termination.is_some() || pod.done().is_some();
            let wait = if over || !again(pod, which, container, spec, how.code) {
                None
            } else {
                let down = held(pod).or_else(|| pod.guard.clone());
                down.or_else(|| why_not_again(pod, container, spec, ctx))
            };
            match wait {
                Some(reason) => {
                    let last = LastEnd { how: how.clone(), attempt: container.restarts };
                    (waiting(reason), Some(last))
                }
                None => (ContainerStateV1::Terminated(how.clone()), LastEnd::before(container)),
            }
        }
    }
}

/// Whether an ended container will be started again.
fn again(pod: &Pod, which: Which, container: &Container, spec: &ContainerV1, code: i32) -> bool {
    let policy = match which {
        Which::Init(_) if spec.sidecar => RestartPolicy::Always,
        Which::Init(_) if pod.spec.restart == RestartPolicy::Never => RestartPolicy::Never,
        Which::Init(_) => RestartPolicy::OnFailure,
        Which::Main(_) => pod.spec.restart,
    };
    starts_again(policy, container, code)
}

fn why_waiting(
    pod: &Pod,
    which: Which,
    container: &Container,
    spec: &ContainerV1,
    ctx: DecisionContext<'_>,
) -> (String, String) {
    if let Some(why) = pod.barred() {
        return why.clone();
    }
    if let Some(held) = held(pod) {
        return held;
    }
    let initializing = match which {
        Which::Main(_) => pod.initializing && !pod.init.is_empty(),
        Which::Init(index) => pod.initializing && !its_turn(pod, index),
    };
    if initializing {
        return ("PodInitializing".to_owned(), String::new());
    }
    blocked(container, spec, ctx)
        .filter(|_| pod.sandbox.is_ready())
        .unwrap_or_else(|| ("ContainerCreating".to_owned(), String::new()))
}

/// Why a pod waits that is not brought back yet.
fn held(pod: &Pod) -> Option<(String, String)> {
    Some(("AgentCrashLoop".to_owned(), held_text(pod.held?)))
}

/// What is said of pods that wait because the agent has died so many times in a row.
#[must_use]
pub fn held_text(crashes: u32) -> String {
    format!(
        "the agent of this node ended {crashes} times in a row: pods that may be why come back one by one"
    )
}

/// Whether every init container before this one is through.
fn its_turn(pod: &Pod, index: usize) -> bool {
    let mut before = pod.init.iter().zip(&pod.spec.init).take(index).enumerate();
    before.all(|(at, (one, spec))| readiness::lets_next_start(Which::Init(at), one, spec))
}

fn why_not_again(
    pod: &Pod,
    container: &Container,
    spec: &ContainerV1,
    ctx: DecisionContext<'_>,
) -> Option<(String, String)> {
    if let Some(due) = container.due()
        && ctx.now < due
    {
        return Some(("CrashLoopBackOff".to_owned(), crash_loop(pod, container)));
    }
    blocked(container, spec, ctx)
}

/// kubelet's text of a crash loop.
fn crash_loop(pod: &Pod, container: &Container) -> String {
    format!(
        "back-off {} restarting failed container={} pod={}_{}({})",
        go_text(delay(container.streak)),
        container.name,
        pod.spec.name,
        pod.spec.namespace,
        pod.spec.uid
    )
}

/// What stands between a container and its start.
fn blocked(
    container: &Container,
    spec: &ContainerV1,
    ctx: DecisionContext<'_>,
) -> Option<(String, String)> {
    if let Some(failure) = &container.failure {
        return Some((failure.reason.clone(), failure.message.clone()));
    }
    let (reason, message) = problem(spec, ctx)?;
    let backing = container.pull.as_ref().is_some_and(|pull| pull.backing);
    if backing && reason == PULL_FAILED {
        return Some(("ImagePullBackOff".to_owned(), back_off(&spec.image, message)));
    }
    Some((reason.to_owned(), message.to_owned()))
}

/// kubelet's text of waiting for an image.
#[must_use]
pub fn back_off(image: &str, message: &str) -> String {
    format!("Back-off pulling image {image:?}: {message}")
}
