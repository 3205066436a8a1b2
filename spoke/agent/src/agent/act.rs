//! One decided action → the ports. Each answers whether it changed something, so that the pod is decided anew.

use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::plan::{Protocol, RestartPolicy};
use freewheel_link::probes::ProbeKindV1;
use tracing::info;

use super::Agent;
use crate::env::{arguments, environment};
use crate::pods::decide::Action;
use crate::pods::{Done, Pod, Pull, Which, status};
use crate::ports::{ContainerId, StartContainer};

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Its pod ends.
    End,
    /// It is to run in another way.
    Change,
    /// It has failed a probe.
    Health(ProbeKindV1),
}

impl Agent {
    /// Does it; whether anything changed.
    pub(super) fn act(&mut self, uid: &str, action: Action) -> bool {
        match action {
            Action::AddNetwork => self.add_network(uid),
            Action::MakeVolumes => self.add_volumes(uid),
            Action::FetchModule(which, digest) => self.fetch_module(uid, which, digest),
            Action::ReportPullProblem(which, reason, message) => {
                self.report_pull_problem(uid, which, reason, message)
            }
            Action::BackOff(which) => self.back_off(uid, which),
            Action::Start(which, digest) => self.start(uid, which, &digest),
            Action::Stop(which, grace) => self.stop(uid, which, grace, Cause::End),
            Action::Replace(which, grace) => self.stop(uid, which, grace, Cause::Change),
            Action::Probe(which, kind) => self.probe(uid, which, kind),
            Action::Unhealthy(which, kind, grace) => {
                self.stop(uid, which, grace, Cause::Health(kind))
            }
            Action::Initialized => self.change(uid, |pod| pod.initializing = false),
            Action::Finish(done) => self.finish(uid, done),
            Action::RemoveNetwork => self.remove_network(uid),
            Action::Clean => self.leave(uid),
        }
    }

    pub(super) fn change(&mut self, uid: &str, change: impl FnOnce(&mut Pod)) -> bool {
        self.pods.get_mut(uid).map(change).is_some()
    }

    pub(super) fn event(
        &mut self,
        uid: &str,
        which: Option<Which>,
        warning: bool,
        what: &str,
        text: String,
    ) {
        if let Some(pod) = self.pods.get(uid) {
            self.status.event(pod, which, warning, what, text);
        }
    }

    fn fetch_module(&mut self, uid: &str, which: Which, digest: Digest) -> bool {
        if self.images.fetch_module(digest) {
            let image = self.image(uid, which);
            let text = format!("Pulling image {image:?}");
            self.event(uid, Some(which), false, "Pulling", text);
            if let Some(container) = self.pods.get_mut(uid).and_then(|pod| pod.at_mut(which)) {
                container.pulls = Some(digest);
            }
        }
        true
    }

    /// Tells why a module cannot be had, in kubelet's words.
    fn report_pull_problem(
        &mut self,
        uid: &str,
        which: Which,
        reason: String,
        message: String,
    ) -> bool {
        let since = self.ports.clock.now();
        let image = self.image(uid, which);
        let text = match reason.as_str() {
            "InvalidImageName" => format!("Failed to inspect image {image:?}: {message}"),
            _ => format!("Failed to pull image {image:?}: {message}"),
        };
        let what = if reason == "InvalidImageName" { "InspectFailed" } else { "Failed" };
        self.event(uid, Some(which), true, what, text);
        self.event(uid, Some(which), true, "Failed", format!("Error: {reason}"));
        self.change(uid, |pod| {
            if let Some(container) = pod.at_mut(which) {
                container.pull = Some(Pull { reason, message, since, backing: false });
            }
        })
    }

    fn back_off(&mut self, uid: &str, which: Which) -> bool {
        let image = self.image(uid, which);
        let Some(pull) = self
            .pods
            .get_mut(uid)
            .and_then(|pod| pod.at_mut(which))
            .and_then(|container| container.pull.as_mut())
        else {
            return false;
        };
        pull.backing = true;
        let text = status::back_off(&image, &pull.message);
        self.event(uid, Some(which), false, "BackOff", text);
        true
    }

    fn image(&self, uid: &str, which: Which) -> String {
        let spec = self.pods.get(uid).and_then(|pod| pod.at(which));
        spec.map(|(_, spec)| spec.image.clone()).unwrap_or_default()
    }

    fn start(&mut self, uid: &str, which: Which, digest: &Digest) -> bool {
        let Some(path) = self.images.path(digest) else { return false };
        let at = self.ports.clock.now();
        let start = match self.prepare(uid, which, path) {
            Ok(Some(start)) => start,
            Ok(None) => return false,
            Err(message) => {
                self.event(uid, Some(which), true, "Failed", format!("Error: {message}"));
                return self.change(uid, |pod| {
                    if let Some(container) = pod.at_mut(which) {
                        container.failed(("CreateContainerConfigError", message), at);
                    }
                });
            }
        };
        let id = start.id.clone();
        let name = format!("{}/{}", start.namespace, start.pod_name);
        // First of all: what follows happens beside it, before the agent hears of its start.
        self.ports.containers.start(start);
        let image = self.image(uid, which);
        let mut fetched = false;
        if let Some(container) = self.pods.get_mut(uid).and_then(|pod| pod.at_mut(which)) {
            fetched = container.pulls == Some(*digest);
            container.begin(&image, digest.to_string());
        }
        info!(pod = %name, container = id.container, attempt = id.attempt, "container starts");
        let pulled = if fetched {
            format!("Successfully pulled image {image:?}")
        } else {
            format!("Container image {image:?} already present on machine")
        };
        self.event(uid, Some(which), false, "Pulled", pulled);
        let created = format!("Created container: {}", id.container);
        self.event(uid, Some(which), false, "Created", created);
        self.sandboxes.make_log(&id);
        true
    }

    /// Resolves everything that a start needs; `None`: not yet, or it has gone.
    fn prepare(
        &mut self,
        uid: &str,
        which: Which,
        artifact: std::path::PathBuf,
    ) -> Result<Option<StartContainer>, String> {
        let env_of = |agent: &Self| {
            let pod = agent.pods.get(uid)?;
            let (_, spec) = pod.at(which)?;
            Some(agent.with_around(pod, |around| environment(spec, around)))
        };
        let Some(env) = env_of(self).transpose()? else { return Ok(None) };
        let Some(mounts) = self.mounts(uid, which).transpose()? else { return Ok(None) };
        let Some(pod) = self.pods.get(uid) else { return Ok(None) };
        let Some((container, spec)) = pod.at(which) else { return Ok(None) };
        let (name, attempt) = (container.name.clone(), container.next_attempt());
        let id = ContainerId { pod: uid.to_owned(), container: name, attempt };
        let tcp = spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        Ok(Some(StartContainer {
            log: self.sandboxes.log(&id),
            id,
            realm: pod.realm.clone(),
            namespace: pod.spec.namespace.clone(),
            pod_name: pod.spec.name.clone(),
            artifact,
            args: arguments(spec, &env)?,
            env,
            mounts,
            memory_limit: spec.memory_limit,
            cpu_limit_milli: spec.cpu_limit_milli,
            ports: tcp.map(|port| port.port).collect(),
            http: spec.http,
        }))
    }

    fn probe(&mut self, uid: &str, which: Which, kind: ProbeKindV1) -> bool {
        let Some(container) = self.pods.get_mut(uid).and_then(|pod| pod.at_mut(which)) else {
            return false;
        };
        let Some(probe) = container.probes.ask(kind) else { return false };
        let (name, attempt) = (container.name.clone(), container.restarts);
        let id = ContainerId { pod: uid.to_owned(), container: name, attempt };
        self.ports.containers.probe(&id, probe);
        true
    }

    fn stop(&mut self, uid: &str, which: Which, grace: Duration, cause: Cause) -> bool {
        let now = self.ports.clock.now();
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        // It is not its definition that has changed.
        let set_aside = pod.sandbox.is_stray() || pod.guard.is_some();
        let policy = pod.spec.restart;
        let may_start = pod.barred().is_none() && pod.held.is_none();
        let Some(container) = pod.at_mut(which) else { return false };
        let asked = container.stop_by.replace(now + grace).is_some();
        container.changed |= cause == Cause::Change;
        container.unhealthy |= matches!(cause, Cause::Health(_));
        let (name, attempt) = (container.name.clone(), container.restarts);
        if !asked {
            let again =
                may_start && (matches!(which, Which::Init(_)) || policy != RestartPolicy::Never);
            let text = match cause {
                Cause::Change if !set_aside => {
                    format!("Container {name} definition changed, will be restarted")
                }
                Cause::Health(kind) => unhealthy(&name, kind, again),
                Cause::Change | Cause::End => format!("Stopping container {name}"),
            };
            self.event(uid, Some(which), false, "Killing", text);
        }
        let id = ContainerId { pod: uid.to_owned(), container: name, attempt };
        self.ports.containers.stop(&id, grace);
        true
    }

    fn finish(&mut self, uid: &str, done: Done) -> bool {
        // What the hub tells, it was told.
        let news = self.pods.get(uid).is_some_and(|pod| pod.ended.is_none());
        if news && done.reason == "DeadlineExceeded" {
            self.event(uid, None, false, "DeadlineExceeded", done.message.clone());
        }
        self.images.look_again();
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        pod.finish(done);
        self.sandboxes.finish(pod);
        true
    }
}

/// Why a container is killed that has failed a probe, in kubelet's words.
fn unhealthy(name: &str, kind: ProbeKindV1, again: bool) -> String {
    let kind = match kind {
        ProbeKindV1::Startup => "startup",
        ProbeKindV1::Liveness => "liveness",
        ProbeKindV1::Readiness => "readiness",
    };
    let then = if again { ", will be restarted" } else { "" };
    format!("Container {name} failed {kind} probe{then}")
}
