//! Commands in containers, as the link carries them.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_link::message::{ExecEndedV1, ExecOutput, RefusalV1, bounded};
use freewheel_link::stream_budget::TOO_MANY_REASON;
use freewheel_spoke_agent::uplink::{Command, Stdin};
use freewheel_spoke_runtime::{CannotExec, Executing, Runtime, Source};

/// Starts one.
pub(crate) fn start(
    runtime: &Runtime,
    (pod, container): (&str, &str),
    args: Vec<String>,
    stdin: Option<Stdin>,
) -> Result<Box<dyn Command>, RefusalV1> {
    let started = runtime.exec((pod, container), args, stdin).map_err(|error| match error {
        CannotExec::NotRunning => RefusalV1::new("NotFound", format!("{error} ({container:?})")),
        CannotExec::NoProgram => RefusalV1::new("BadRequest", error.to_string()),
        CannotExec::TooMany => RefusalV1::new(TOO_MANY_REASON, error.to_string()),
    })?;
    Ok(Box::new(Running { executing: Some(started), output: VecDeque::new() }))
}

struct Running {
    /// `None`: its end was told.
    executing: Option<Executing>,
    output: VecDeque<(Source, Bytes)>,
}

#[async_trait]
impl Command for Running {
    async fn next(&mut self) -> ExecOutput {
        loop {
            while let Some((source, bytes)) = self.output.pop_front() {
                match source {
                    // A mark of the log's: a stream is gone.
                    _ if bytes.is_empty() => {}
                    Source::Stdout => return ExecOutput::Stdout(bytes),
                    Source::Stderr => return ExecOutput::Stderr(bytes),
                }
            }
            let Some(executing) = &mut self.executing else {
                return std::future::pending().await;
            };
            if let Some(output) = executing.output().await {
                self.output = output.into();
                continue;
            }
            let exit = executing.exit().await;
            self.executing = None;
            let (code, message) = (exit.code, bounded(exit.message, 1024));
            return ExecOutput::Ended(ExecEndedV1 { code, message });
        }
    }
}
