//! A look at a container's health, as the agent asks for it: a request, a connection or a command.
//!
//! Requests and connections go to the pod's own address over the pod network, as kubelet's do: what listens on its loopback
//! alone is not there. A container that answers requests itself is asked where it is served, when its probe names another
//! port that it declares and nothing listens on that (`a_probe_looks_at_no_port_but_its_own_container_s`).
//!
//! Guarantees:
//! - every look has an outcome within the probe's time (`a_probe_has_an_outcome_within_its_time`), which is told in
//!   kubelet's words (`probes_are_told_in_kubelets_words`), and of a container that has ended meanwhile nothing is told
//!   (`a_look_at_what_ends_comes_to_nothing`);
//! - of what a guest answers no more is read than is told (`what_a_probe_reads_is_bounded`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_link::probes::{ProbeHandlerV1, ProbeV1};
use freewheel_spoke_agent::ports::{ContainerId, Input, Probed};
use freewheel_spoke_logs::Source;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use self::target::{PROBE_BYTES_MAX, Target};
use super::{CannotExec, Runtime};
use crate::command_places::CommandOf;

mod http_get;
mod redirect;
mod target;

/// How often it is tried to look, where there is no outcome.
const PROBE_TRIES_MAX: usize = 3;

impl Runtime {
    /// Looks once, and tells the agent.
    pub(super) fn look_at(&self, id: &ContainerId, probe: ProbeV1) {
        let Some(this) = self.this.upgrade() else { return };
        let (id, kind, runtime) = (id.clone(), probe.kind, this.clone());
        let looking = async move {
            let outcome = runtime.looked(&id, &probe).await;
            (runtime.deliver)(Input::Probed(id, kind, outcome));
        };
        self.control.spawn(this.supervisors.track_future(looking));
    }

    async fn looked(self: &Arc<Self>, id: &ContainerId, probe: &ProbeV1) -> Probed {
        let container = self.running.lock().get(id).and_then(|one| one.container.upgrade());
        let (Some(container), Some(pod)) = (container, self.fabric.pod(&id.pod)) else {
            return Probed::Ended;
        };
        let killed = container.shutdown.killed().clone();
        let target = Target { runtime: self.clone(), container, ip: pod.ip().into() };
        let mut outcome = Probed::Success;
        for _ in 0..PROBE_TRIES_MAX {
            outcome = tokio::select! {
                outcome = target.probe(probe) => outcome,
                () = killed.cancelled() => return Probed::Ended,
            };
            // What answers for a container that is killed says nothing of it.
            if killed.is_cancelled() {
                return Probed::Ended;
            }
            if !matches!(outcome, Probed::Error(_)) {
                break;
            }
        }
        outcome
    }
}

impl Target {
    async fn probe(&self, probe: &ProbeV1) -> Probed {
        let most = Duration::from_secs(probe.timeout_seconds.max(1).into());
        match &probe.handler {
            ProbeHandlerV1::Tcp(port) => self.connects(*port).await,
            ProbeHandlerV1::Http(get) => match timeout(most, self.http_get(get)).await {
                Ok(outcome) => outcome,
                Err(_) => Probed::Failure(format!(
                    "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                    http_get::url(self.address(get.port), &get.path)
                )),
            },
            ProbeHandlerV1::Exec(command) => match timeout(most, self.exec(command)).await {
                Ok(outcome) => outcome,
                Err(_) => Probed::Failure(format!(
                    "command timed out: {:?} timed out after {}s",
                    command.join(" "),
                    most.as_secs()
                )),
            },
        }
    }

    async fn connects(&self, port: u16) -> Probed {
        match self.dial(port) {
            Ok(mut conn) => {
                // It hears of an end and not of an error.
                let _ = conn.shutdown().await;
                Probed::Success
            }
            Err(why) => Probed::Failure(why),
        }
    }

    async fn exec(&self, command: &[String]) -> Probed {
        let id = &self.container.start.id;
        let (of, words) = (CommandOf::Probe, command.to_vec());
        let started = self.runtime.exec_for(of, (&id.pod, &id.container), words, None);
        let mut executing = match started {
            Ok(executing) => executing,
            Err(CannotExec::NotRunning) => return Probed::Ended,
            Err(error) => return Probed::Error(error.to_string()),
        };
        let mut output = Vec::new();
        while let Some(pieces) = executing.output().await {
            for (Source::Stdout | Source::Stderr, bytes) in pieces {
                let room = PROBE_BYTES_MAX - output.len();
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
        let exit = executing.exit().await;
        match exit.code {
            0 => Probed::Success,
            _ if output.is_empty() => Probed::Failure(exit.message),
            _ => Probed::Failure(String::from_utf8_lossy(&output).into_owned()),
        }
    }
}
