//! A command in a container that runs, beside its program: `kubectl exec`.
//!
//! It is the container's own module once more, with other arguments: what it sees (environment, mounts, network) is the
//! container's, and what it uses is booked on the container's memory, quota and files.
//!
//! Guarantees:
//! - a command ends with its container, and with whoever asked for it
//!   (`a_command_runs_beside_its_program_and_ends_with_it`);
//! - a container has few of them at a time, and what waits of their output is bounded
//!   (`a_container_runs_few_commands_at_a_time`).

use std::sync::Arc;

use bytes::Bytes;
use freewheel_spoke_agent::ports::Exit;
use freewheel_spoke_agent::uplink::Stdin;
use freewheel_spoke_logs::{LogSink, Source};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::command_places::{COMMANDS_MAX, CommandOf};
use crate::container::Container;
use crate::exit;
use crate::module::Kind;
use crate::run::Run;
use crate::shutdown::{EndCause, Shutdown};
use crate::ticker::Ticker;

use super::Runtime;

/// Why there is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotExec {
    /// The container does not run.
    #[error("container not found")]
    NotRunning,
    /// It answers requests, and has no program.
    #[error(
        "the container's module answers HTTP requests and is no program: there is no command to run in it"
    )]
    NoProgram,
    /// It runs enough of them.
    #[error("the container runs {COMMANDS_MAX} commands already, those of its probes counted")]
    TooMany,
}

/// A command that runs; it is killed when this is dropped.
pub struct Executing {
    program: String,
    output: LogSink,
    exit: oneshot::Receiver<Exit>,
    _wanted: DropGuard,
}

impl Executing {
    /// What the container's own program is called.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// What it has written since; `None` when it has ended and said all.
    pub async fn output(&self) -> Option<Vec<(Source, Bytes)>> {
        self.output.taken().await
    }

    /// How it has ended.
    /// Cancel safe.
    pub async fn exit(&mut self) -> Exit {
        (&mut self.exit).await.unwrap_or_else(|_| exit::killed(EndCause::Kill))
    }
}

impl Runtime {
    /// Runs a command in the newest start of a container.
    ///
    /// # Errors
    /// When there is none that could.
    pub fn exec(
        &self,
        container: (&str, &str),
        args: Vec<String>,
        stdin: Option<Stdin>,
    ) -> Result<Executing, CannotExec> {
        self.exec_for(CommandOf::User, container, args, stdin)
    }

    /// The same, for whoever it is.
    pub(super) fn exec_for(
        &self,
        of: CommandOf,
        (pod, name): (&str, &str),
        args: Vec<String>,
        stdin: Option<Stdin>,
    ) -> Result<Executing, CannotExec> {
        let container = self.container(pod, name).ok_or(CannotExec::NotRunning)?;
        if matches!(container.module.kind, Kind::Http(_)) {
            return Err(CannotExec::NoProgram);
        }
        let place = container.commands.take(of).ok_or(CannotExec::TooMany)?;
        let program = container.start.args.first().cloned().unwrap_or_default();
        let output = LogSink::of(container.memory.account().clone());
        let shutdown = Arc::new(Shutdown::default());
        let command = Arc::new(container.beside(args, stdin, (&shutdown, &output)));
        let mut run = command.run(|| ());
        let (wanted, ended) = (CancellationToken::new(), container.shutdown.killed().clone());
        let (tell, exit) = oneshot::channel();
        let (sink, gone, ticker) = (output.clone(), wanted.clone(), self.ticker.clone());
        let supervised = async move {
            let exit = tokio::select! {
                biased;
                exit = &mut run => exit,
                () = ended.cancelled() => ended_early(&shutdown, &ticker, run).await,
                () = gone.cancelled() => ended_early(&shutdown, &ticker, run).await,
            };
            debug!(code = exit.code, reason = exit.reason, "a command in a container ended");
            sink.close();
            // Nobody may want to know.
            let _ = tell.send(exit);
            drop((place, container));
        };
        self.control.spawn(self.supervisors.track_future(supervised));
        Ok(Executing { program, output, exit, _wanted: wanted.drop_guard() })
    }
}

async fn ended_early(shutdown: &Shutdown, ticker: &Ticker, run: Run) -> Exit {
    shutdown.kill(EndCause::Kill);
    ticker.interrupt();
    run.await
}

impl Runtime {
    /// The newest start of a container that runs.
    fn container(&self, pod: &str, name: &str) -> Option<Arc<Container>> {
        let running = self.running.lock();
        let own = running.iter().filter(|(id, _)| id.pod == pod && id.container == name);
        own.max_by_key(|(id, _)| id.attempt)?.1.container.upgrade()
    }
}
