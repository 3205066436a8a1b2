//! Commands in containers, as the link carries them.
//!
//! Guarantees:
//! - who asks for a program that is not there (`kubectl exec -- sh`, `kubectl cp`) reads that there is none, when what ran
//!   in its place has failed (`who_asks_for_another_program_reads_that_there_is_none`).

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_link::message::{ExecEndedV1, ExecOutput, RefusalV1, bounded};
use freewheel_link::stream_budget::TOO_MANY_REASON;
use freewheel_spoke_agent::uplink::{Command, Stdin};
use freewheel_spoke_runtime::{CannotExec, Executing, Runtime, Source};

/// Bytes that are repeated of what was asked for.
const ASKED_BYTES_MAX: usize = 64;

/// Starts one.
pub(crate) fn start(
    runtime: &Runtime,
    (pod, container): (&str, &str),
    args: Vec<String>,
    stdin: Option<Stdin>,
) -> Result<Box<dyn Command>, RefusalV1> {
    let asked = args.first().cloned().unwrap_or_default();
    let started = runtime.exec((pod, container), args, stdin).map_err(|error| match error {
        CannotExec::NotRunning => RefusalV1::new("NotFound", format!("{error} ({container:?})")),
        CannotExec::NoProgram => RefusalV1::new("BadRequest", error.to_string()),
        CannotExec::TooMany => RefusalV1::new(TOO_MANY_REASON, error.to_string()),
    })?;
    let hint = hint(&asked, started.program());
    Ok(Box::new(Running { executing: Some(started), output: VecDeque::new(), hint, end: None }))
}

/// What is said of a program that was asked for by another name than the container's own has, if it fails. One that knows
/// several names does what it is called by, and has nothing to explain.
fn hint(asked: &str, own: &str) -> Option<Bytes> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    if name(asked) == name(own) {
        return None;
    }
    let asked = bounded(asked.to_owned(), ASKED_BYTES_MAX);
    let said = format!(
        "exec: {asked:?} is no program of its own here: the container's module has run, with these words as its arguments. \
         It has no shell beside it, and no tar for `kubectl cp`\n"
    );
    Some(said.into())
}

struct Running {
    /// `None`: it has ended.
    executing: Option<Executing>,
    output: VecDeque<(Source, Bytes)>,
    /// What is said when it fails.
    hint: Option<Bytes>,
    /// How it has ended, which is still to be told.
    end: Option<ExecEndedV1>,
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
            if let Some(end) = self.end.take() {
                return ExecOutput::Ended(end);
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
            self.end = Some(ExecEndedV1 { code, message });
            if let Some(hint) = self.hint.take().filter(|_| code != 0) {
                return ExecOutput::Stderr(hint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_another_program_reads_that_there_is_none() {
        for (asked, own) in [("kit", "kit"), ("/bin/kit", "kit"), ("kit", "/usr/bin/kit")] {
            assert_eq!(hint(asked, own), None, "{asked} {own}");
        }
        for asked in ["/bin/sh", "tar", "ls", "", &"x".repeat(1 << 20)] {
            let said = hint(asked, "kit").unwrap();
            let said = std::str::from_utf8(&said).unwrap();
            assert!(said.contains("no shell beside it, and no tar") && said.len() < 400, "{said}");
        }
    }
}
