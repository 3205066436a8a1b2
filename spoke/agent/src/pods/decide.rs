//! What to do next for one pod. Pure: the same pod seen the same way gives the same actions.
//!
//! ```text
//! network ─▶ volumes ─▶ init containers in order, sidecars stay ─▶ containers together ─▶ restarts
//! deletion, deadline, eviction, all done: containers stop ─▶ sidecars stop, last first ─▶ clean ─▶ gone
//! ```
//!
//! Guarantees:
//! - an action that has been taken is not asked for again while its outcome is open
//!   (`what_was_asked_for_is_not_asked_for_again`);
//! - a pod goes, ends and gets a new sandbox after what is at work in its directory
//!   (`a_pod_that_goes_waits_for_what_is_at_work_for_it`);
//! - volumes that cannot be made are tried again less and less often
//!   (`volumes_that_fail_again_are_tried_less_and_less_often`), and so are starts that cannot be prepared
//!   (`a_start_that_the_disk_refuses_is_tried_again_less_and_less_often`);
//! - of an eviction and a deletion the sooner end counts, whichever was first
//!   (`an_evicted_pod_that_is_deleted_ends_at_the_sooner_of_both`);
//! - a pod that has ended by the hub's word starts nothing and stops what runs
//!   (`a_pod_that_is_told_as_ended_starts_nothing_and_stops_what_runs`);
//! - a pod that may not start still leaves when it must, by its deadline, too
//!   (`a_refused_or_held_pod_reaches_its_deadline`);
//! - what fails its startup or liveness probe is killed, and starts again where its policy starts anything again, whatever
//!   it ends with (`who_fails_its_liveness_probe_is_killed_and_starts_again`), also in a pod that may not start any more
//!   (`who_fails_its_liveness_probe_in_a_refused_or_held_pod_is_killed`);
//! - of a pod that lacks what would protect it nothing runs, and all of it that was stopped for that starts again when it
//!   may, whatever its policy (`a_guarded_pod_is_stopped_and_starts_again`,
//!   `an_init_container_that_is_set_aside_has_not_failed`, `an_init_container_that_is_set_aside_has_not_succeeded`); what
//!   ends by itself has ended (`a_refused_or_guarded_pod_that_ends_has_ended`,
//!   `a_job_that_could_not_hear_that_it_is_set_aside_has_ended`); and none of it goes on for longer than
//!   [`GUARDED_GRACE_MAX`], whatever grace its owner has given it (`no_grace_is_longer_than_what_protects_may_be_missing`).

use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::plan::{ContainerV1, ModuleV1, RestartPolicy};
use freewheel_link::probes::ProbeKindV1;
use freewheel_link::report::PhaseV1;

use super::{
    Container, ContainerState, DecisionContext, Done, Failure, Fate, Module, Pod, Volumes, Which,
    backoff, readiness,
};

mod health;

/// The reason that turns into `ImagePullBackOff`. Others (a bad name, a module that cannot be compiled) tell more as
/// they are.
pub const PULL_FAILED: &str = "ErrImagePull";
/// Sidecars get at least this to end in, as kubelet gives them, when the others used up the grace period.
const SIDECAR_GRACE: Duration = Duration::from_secs(2);

/// The longest that a pod goes on which lacks what would protect it: how long pods have by default. Its own period is for
/// its owner to say, up to 136 years, and it is they whom it may have to be confined from.
const GUARDED_GRACE_MAX: Duration = Duration::from_secs(30);

/// Reason of a pod that had more than it may.
pub const EVICTED: &str = "Evicted";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give it an address and make its network.
    AddNetwork,
    /// Make its volumes.
    MakeVolumes,
    /// Ask for the module of a container.
    FetchModule(Which, Digest),
    /// Tell that the module of a container cannot be had: (reason, message).
    ReportPullProblem(Which, String, String),
    /// Tell that a container waits for its module to be tried again.
    BackOff(Which),
    /// Start a container.
    Start(Which, Digest),
    /// Stop a container: killed after the grace period.
    Stop(Which, Duration),
    /// Stop a container because its image changed, or its pod's sandbox; it starts again.
    Replace(Which, Duration),
    /// Look at a container's health.
    Probe(Which, ProbeKindV1),
    /// Stop a container because it has failed this probe.
    Unhealthy(Which, ProbeKindV1, Duration),
    /// Init containers and sidecars are up.
    Initialized,
    /// It has ended for good.
    Finish(Done),
    /// Take its network away; its address is free then.
    RemoveNetwork,
    /// Remove what it leaves on disk, forget it, and tell the hub.
    Clean,
}

/// What to do, and when to ask again if nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// In this order.
    pub actions: Vec<Action>,
    /// Monotonic time.
    pub wake: Option<Duration>,
}

impl Decision {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn wake_at(&mut self, at: Duration) {
        self.wake = Some(self.wake.map_or(at, |old| old.min(at)));
    }
}

/// Decides.
#[must_use]
pub fn decide(pod: &Pod, ctx: DecisionContext<'_>) -> Decision {
    let mut out = Decision::default();
    for (which, kind, due) in health::due(pod) {
        if due <= ctx.now {
            out.act(Action::Probe(which, kind));
        } else {
            out.wake_at(due);
        }
    }
    if let Some(termination) = &pod.termination {
        let until = match &pod.fate {
            Fate::Evicted(evicted) => termination.until.min(evicted.until),
            Fate::Live | Fate::Done { .. } => termination.until,
        };
        if stop_all(pod, until, ctx.now, &mut out) {
            tear_down(pod, &mut out);
        }
    } else if pod.done().is_some() {
        if pod.sandbox.is_up() {
            out.act(Action::RemoveNetwork);
        }
    } else {
        sync_pod(pod, ctx, &mut out);
    }
    out
}

fn tear_down(pod: &Pod, out: &mut Decision) {
    if 0 < pod.files_at_work {
        return;
    }
    if pod.sandbox.is_up() {
        out.act(Action::RemoveNetwork);
    }
    out.act(Action::Clean);
}

fn sync_pod(pod: &Pod, ctx: DecisionContext<'_>, out: &mut Decision) {
    if let Some((done, until)) = settled(pod, ctx.now) {
        if stop_all(pod, until, ctx.now, out) {
            finish(pod, done, out);
        }
        return;
    }
    if is_past_deadline(pod, ctx, out) {
        return;
    }
    // A pod that may not start any more still has to leave when it must: nobody is evicted before it has.
    if pod.held.is_some() {
        return stop_unhealthy(pod, out);
    }
    if let Some(phase) = outcome(pod) {
        if stop_all(pod, ctx.now + grace(pod), ctx.now, out) {
            finish(pod, Done { phase, reason: String::new(), message: String::new() }, out);
        }
        return;
    }
    if pod.guard.is_some() {
        set_aside(pod, ctx, out);
        return;
    }
    if pod.refused.is_some() {
        // What runs is looked at, and goes when it has failed.
        return stop_unhealthy(pod, out);
    }
    if pod.sandbox.is_stray() {
        return replace_sandbox(pod, ctx, out);
    }
    if !sandbox_is_ready(pod, ctx, out) || !init_is_done(pod, ctx, out) {
        return;
    }
    if pod.initializing {
        out.act(Action::Initialized);
    }
    for (index, container) in pod.containers.iter().enumerate() {
        let spec = &pod.spec.containers[index];
        sync_container(pod, Which::Main(index), container, spec, pod.spec.restart, ctx, out);
    }
}

/// Whether the pod has been active for longer than it may; then it is ended.
fn is_past_deadline(pod: &Pod, ctx: DecisionContext<'_>, out: &mut Decision) -> bool {
    let Some(seconds) = pod.spec.deadline_seconds else { return false };
    let (deadline, age) = (Duration::from_secs(seconds.into()), pod.age(ctx.now));
    if age < deadline {
        out.wake_at(ctx.now + (deadline - age));
        return false;
    }
    let until = (ctx.now + grace(pod)).saturating_sub(age - deadline);
    if stop_all(pod, until, ctx.now, out) {
        let reason = "DeadlineExceeded".to_owned();
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        finish(pod, Done { phase: PhaseV1::Failed, reason, message }, out);
    }
    true
}

/// It has ended for good, once nothing is at work in it.
fn finish(pod: &Pod, done: Done, out: &mut Decision) {
    if pod.files_at_work == 0 {
        out.act(Action::Finish(done));
    }
}

/// How it ends whatever its containers do, and when those are killed that still run.
fn settled(pod: &Pod, now: Duration) -> Option<(Done, Duration)> {
    let Fate::Evicted(evicted) = &pod.fate else {
        return Some((pod.ended.clone()?, now + grace(pod)));
    };
    // Who has ended already is only killed sooner.
    let done = pod.ended.clone().unwrap_or_else(|| Done {
        phase: PhaseV1::Failed,
        reason: EVICTED.to_owned(),
        message: evicted.message.clone(),
    });
    Some((done, evicted.until))
}

/// Stops all of it that runs. The pod is not to blame, so it starts again when it may. Whether nothing runs any more.
fn set_aside(pod: &Pod, ctx: DecisionContext<'_>, out: &mut Decision) -> bool {
    let mut stops = Decision::default();
    let quiet = stop_all(pod, ctx.now + grace(pod), ctx.now, &mut stops);
    out.actions.extend(stops.actions.into_iter().map(|action| match action {
        Action::Stop(which, grace) => Action::Replace(which, grace),
        other => other,
    }));
    quiet
}

/// Takes down a sandbox whose address is another device's.
fn replace_sandbox(pod: &Pod, ctx: DecisionContext<'_>, out: &mut Decision) {
    if set_aside(pod, ctx, out) && pod.files_at_work == 0 {
        out.act(Action::RemoveNetwork);
    }
}

/// Stops what has failed its startup or liveness probe, and starts nothing.
fn stop_unhealthy(pod: &Pod, out: &mut Decision) {
    for (which, container) in health::running(pod).filter(|(_, it)| it.stop_by.is_none()) {
        if let Some((kind, grace)) = health::failed(container, grace(pod)) {
            out.act(Action::Unhealthy(which, kind, grace));
        }
    }
}

fn grace(pod: &Pod) -> Duration {
    Duration::from_secs(pod.spec.grace_seconds.into())
}

/// The phase that the pod has come to, when no container of it will be started again.
fn outcome(pod: &Pod) -> Option<PhaseV1> {
    if pod.containers.is_empty() {
        // Refused for it: nothing of it has ended.
        return None;
    }
    let init_failed = pod.spec.restart == RestartPolicy::Never
        && pod.init.iter().zip(&pod.spec.init).any(|(container, spec)| {
            // What was set aside has not failed.
            let failed = !container.changed && container.code().is_some_and(|code| code != 0);
            !spec.sidecar && failed
        });
    if init_failed {
        return Some(PhaseV1::Failed);
    }
    let mut phase = PhaseV1::Succeeded;
    for container in &pod.containers {
        let code = container.code()?;
        if starts_again(pod.spec.restart, container, code) {
            return None;
        }
        if code != 0 {
            phase = PhaseV1::Failed;
        }
    }
    Some(phase)
}

/// Whether the policy starts it again after this exit code.
#[must_use]
pub const fn restarts(policy: RestartPolicy, code: i32) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}

/// Whether a container that has ended with this code is started again.
#[must_use]
pub fn starts_again(policy: RestartPolicy, container: &Container, code: i32) -> bool {
    // What its probes had killed has not succeeded, whatever it says.
    let failed = container.unhealthy && policy != RestartPolicy::Never;
    restarts(policy, code) || container.changed || failed
}

/// Network and volumes.
fn sandbox_is_ready(pod: &Pod, ctx: DecisionContext<'_>, out: &mut Decision) -> bool {
    if !pod.sandbox.is_up() {
        out.act(Action::AddNetwork);
        return false;
    }
    match pod.sandbox.volumes() {
        Volumes::Made => true,
        Volumes::Absent | Volumes::Failed { .. } if pod.volumes_asked => false,
        // Even when nothing that it names has changed: a disk may have room again.
        Volumes::Failed { at, tries, .. } if ctx.now < *at + backoff::mount_delay(*tries) => {
            out.wake_at(*at + backoff::mount_delay(*tries));
            false
        }
        Volumes::Absent | Volumes::Failed { .. } => {
            out.act(Action::MakeVolumes);
            false
        }
    }
}

/// Walks the init containers; whether the containers proper may run.
fn init_is_done(pod: &Pod, ctx: DecisionContext<'_>, out: &mut Decision) -> bool {
    for (index, container) in pod.init.iter().enumerate() {
        let spec = &pod.spec.init[index];
        let which = Which::Init(index);
        if spec.sidecar {
            sync_container(pod, which, container, spec, RestartPolicy::Always, ctx, out);
            if pod.initializing && !readiness::lets_next_start(which, container, spec) {
                return false;
            }
        } else if pod.initializing && !readiness::lets_next_start(which, container, spec) {
            // A failure under `Never` is an outcome, so what is left here is started again.
            sync_container(pod, which, container, spec, RestartPolicy::OnFailure, ctx, out);
            return false;
        }
    }
    true
}

/// Starts a container, starts it again when its policy says so, replaces it when its image changed.
fn sync_container(
    pod: &Pod,
    which: Which,
    container: &Container,
    spec: &ContainerV1,
    policy: RestartPolicy,
    ctx: DecisionContext<'_>,
    out: &mut Decision,
) {
    let changed = !container.image.is_empty() && container.image != spec.image;
    match &container.state {
        ContainerState::Fresh => start(which, container, spec, ctx, out),
        ContainerState::Starting => {}
        ContainerState::Running { .. } => {
            if container.stop_by.is_some() {
                return;
            }
            if changed {
                out.act(Action::Replace(which, grace(pod)));
            } else if let Some((kind, grace)) = health::failed(container, grace(pod)) {
                out.act(Action::Unhealthy(which, kind, grace));
            }
        }
        ContainerState::Ended { how, .. } => {
            if !starts_again(policy, container, how.code) {
                return;
            }
            match container.due() {
                Some(due) if ctx.now < due && !changed => out.wake_at(due),
                _ => start(which, container, spec, ctx, out),
            }
        }
    }
}

/// Starts a container once its module is there. A failed preparation waits for news, and not for ever.
fn start(
    which: Which,
    container: &Container,
    spec: &ContainerV1,
    ctx: DecisionContext<'_>,
    out: &mut Decision,
) {
    if let Some(due) = container.failure.as_ref().map(Failure::due).filter(|due| ctx.now < *due) {
        return out.wake_at(due);
    }
    if container.opening {
        return;
    }
    if let Some((reason, message)) = problem(spec, ctx) {
        return report_pull_problem(which, container, (reason, message), ctx.now, out);
    }
    let ModuleV1::Component(digest) = &spec.module else { return };
    match ctx.modules.get(digest) {
        None => out.act(Action::FetchModule(which, *digest)),
        Some(Module::Ready { .. }) => out.act(Action::Start(which, *digest)),
        Some(Module::Fetching | Module::Problem { .. }) => {}
    }
}

/// Why the module of a container cannot be had: (reason, message).
#[must_use]
pub fn problem<'a>(spec: &'a ContainerV1, ctx: DecisionContext<'a>) -> Option<(&'a str, &'a str)> {
    match &spec.module {
        ModuleV1::Missing(reason, message) => Some((reason, message)),
        ModuleV1::Component(digest) => match ctx.modules.get(digest)? {
            Module::Problem { reason, message } => Some((reason, message)),
            Module::Fetching | Module::Ready { .. } => None,
        },
    }
}

/// Tells what is wrong once, and after a while that it is being waited for.
fn report_pull_problem(
    which: Which,
    container: &Container,
    (reason, message): (&str, &str),
    now: Duration,
    out: &mut Decision,
) {
    match &container.pull {
        Some(pull) if pull.reason == reason && pull.message == message => {
            let turns = pull.since + super::status::PULL_ERROR_SHOWN;
            if pull.backing || reason != PULL_FAILED {
                // Said; only news changes anything.
            } else if turns <= now {
                out.act(Action::BackOff(which));
            } else {
                out.wake_at(turns);
            }
        }
        _ => out.act(Action::ReportPullProblem(which, reason.to_owned(), message.to_owned())),
    }
}

/// Stops everything that runs: containers together, then sidecars from the last to the first. Whether nothing runs any
/// more.
fn stop_all(pod: &Pod, until: Duration, now: Duration, out: &mut Decision) -> bool {
    let guarded = pod.guard.as_ref().map(|_| now + GUARDED_GRACE_MAX);
    let until = guarded.map_or(until, |guarded| until.min(guarded));
    let mut quiet = true;
    let plain = |index: &usize| !pod.spec.init[*index].sidecar;
    let init = (0..pod.init.len()).filter(plain).map(Which::Init);
    for which in (0..pod.containers.len()).map(Which::Main).chain(init) {
        quiet &= stop(pod, which, until, now, out);
    }
    if !quiet {
        return false;
    }
    let sidecar_until = until.max(now + SIDECAR_GRACE);
    for index in (0..pod.init.len()).rev().filter(|index| pod.spec.init[*index].sidecar) {
        if !stop(pod, Which::Init(index), sidecar_until, now, out) {
            return false;
        }
    }
    true
}

/// Stops one container; whether it is down already.
fn stop(pod: &Pod, which: Which, until: Duration, now: Duration, out: &mut Decision) -> bool {
    let Some((container, _)) = pod.at(which) else { return true };
    if !container.alive() {
        return true;
    }
    // Asked already, unless it is now to go sooner.
    if container.stop_by.is_none_or(|by| now.max(until) < by) {
        out.act(Action::Stop(which, until.saturating_sub(now)));
    }
    false
}

#[cfg(test)]
mod tests;
