//! How an end of a guest reads in Kubernetes.
//!
//! | guest                          | code        | reason     |
//! |--------------------------------|-------------|------------|
//! | `main` returned, `exit(0)`     | 0           | Completed  |
//! | `main` failed, `exit(n)`       | 1, n        | Error      |
//! | trap, panic, abort             | 134         | Error      |
//! | memory limit                   | 137         | OOMKilled  |
//! | stopped, ended by itself       | its own     | its own    |
//! | stopped before it ran          | 143         | Error      |
//! | killed after the grace period  | 137         | Error      |
//! | cannot be loaded or linked     | 128         | StartError |
//!
//! A component that calls `wasi:cli/exit#exit` says only whether it failed, and every failure reads 1: so does plain
//! std on WASI 0.2, whatever number `std::process::exit` is given. `exit-with-code` of WASI 0.2.12 and
//! `freewheel:lifecycle#exit` say the number; the guest SDK makes std's own exit one of those. `proc_exit` of a core
//! program of WASI preview 1 says it, too; of it the low eight bits count, as of a process.

use std::fmt::{self, Write};

use freewheel_spoke_account::Full;
use freewheel_spoke_agent::ports::Exit;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::shutdown::EndCause;

/// The code of a trap, as of a process that aborts.
pub(crate) const EXIT_TRAPPED: i32 = 134;

/// Longest message: it is stored in the pod's status.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Longest description in a log: a backtrace of 20 frames with the names that compilers give.
const DESCRIPTION_BYTES_MAX: usize = 4096;

/// Shortens a text to so many bytes.
fn bounded(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

/// A text that takes no more than a description may have.
struct Shortened(String);

impl Write for Shortened {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = DESCRIPTION_BYTES_MAX - self.0.len();
        self.0.push_str(&more[..more.floor_char_boundary(room)]);
        // Nothing more is made of what would not be kept.
        if more.len() <= room { Ok(()) } else { Err(fmt::Error) }
    }
}

/// How a value looks, as far as a description goes: it is never longer, also while it is made.
pub(crate) fn shortened(value: &impl fmt::Debug) -> String {
    let mut text = Shortened(String::new());
    let _ = write!(text, "{value:?}");
    text.0
}

fn exit(code: i32, reason: &str, message: impl Into<String>) -> Exit {
    let message = bounded(message.into(), MESSAGE_BYTES_MAX);
    Exit { code, reason: reason.to_owned(), message, was_asked_to_stop: false }
}

/// It never ran.
pub(crate) fn start_error(message: impl Into<String>) -> Exit {
    exit(128, "StartError", message)
}

/// Something of the node's failed under it.
pub(crate) fn host_error(message: impl Into<String>) -> Exit {
    exit(1, "Error", message)
}

/// It ended by itself, well.
pub(crate) fn completed() -> Exit {
    exit(0, "Completed", "")
}

/// It had as much memory as it may.
pub(crate) fn out_of_memory(message: impl Into<String>) -> Exit {
    exit(137, "OOMKilled", message)
}

/// It was ended.
pub(crate) fn killed(cause: EndCause) -> Exit {
    match cause {
        EndCause::Early => exit(143, "Error", "stopped before it ran"),
        EndCause::Kill => exit(137, "Error", "killed: it did not end within its grace period"),
    }
}

/// What `wasi:cli/run` came back with. `refused`: memory was refused while it ran.
pub(crate) fn of_run(result: wasmtime::Result<Result<(), ()>>, refused: bool) -> Exit {
    match result {
        Ok(Ok(())) => completed(),
        Ok(Err(())) => exit(1, "Error", ""),
        Err(error) => of_error(&error, refused),
    }
}

/// What an error says to the guest's author: the cause, and where in the module it happened.
pub(crate) fn describe(error: &wasmtime::Error) -> String {
    let text = match (error.downcast_ref::<WasmBacktrace>(), error.downcast_ref::<Trap>()) {
        (Some(trace), Some(trap)) if !trace.frames().is_empty() => {
            format!("{trap}\n{}", trace.to_string().trim_end())
        }
        _ => format!("{error:#}"),
    };
    bounded(text, DESCRIPTION_BYTES_MAX)
}

/// The limit that a guest ended at, if it was one of memory. `refused`: memory was refused while it ran.
pub(crate) fn memory(error: &wasmtime::Error, refused: bool) -> Option<String> {
    if let Some(full) = error.downcast_ref::<Full>() {
        return Some(full.to_string());
    }
    match error.downcast_ref::<Trap>() {
        // Allocators that are refused memory abort.
        Some(Trap::UnreachableCodeReached) if refused => Some("out of memory".to_owned()),
        _ => None,
    }
}

/// No store could be made for it: it had too little memory, or the node has not what the pod's spec gives.
pub(crate) fn of_store(error: &wasmtime::Error, refused: bool) -> Exit {
    match memory(error, refused) {
        Some(text) => out_of_memory(text),
        None => start_error(format!("{error:#}")),
    }
}

/// The error that a guest ended with.
pub(crate) fn of_error(error: &wasmtime::Error, refused: bool) -> Exit {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return if *code == 0 { completed() } else { exit(*code, "Error", "") };
    }
    if let Some(text) = memory(error, refused) {
        return out_of_memory(text);
    }
    match error.downcast_ref::<Trap>() {
        Some(trap) => exit(EXIT_TRAPPED, "Error", trap.to_string()),
        None => exit(EXIT_TRAPPED, "Error", format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_account::Level;

    use super::*;

    #[track_caller]
    fn check(error: impl Into<wasmtime::Error>, refused: bool, code: i32, reason: &str) {
        let exit = of_error(&error.into(), refused);
        assert_eq!((exit.code, exit.reason.as_str()), (code, reason));
    }

    #[test]
    fn ends_of_guests() {
        assert_eq!(of_run(Ok(Ok(())), false).reason, "Completed");
        assert_eq!(of_run(Ok(Err(())), false).code, 1);
        check(wasmtime::format_err!(I32Exit(0)), false, 0, "Completed");
        check(wasmtime::format_err!(I32Exit(42)), false, 42, "Error");
        let full = Full { level: Level::Container, limit: 1, wanted: 2, more: 1 };
        check(full, false, 137, "OOMKilled");
        check(Trap::UnreachableCodeReached, false, 134, "Error");
        check(Trap::UnreachableCodeReached, true, 137, "OOMKilled");
        check(Trap::StackOverflow, true, 134, "Error");
        assert_eq!(killed(EndCause::Early).code, 143);
        assert_eq!(killed(EndCause::Kill).code, 137);
        assert_eq!(start_error("x").reason, "StartError");
    }

    #[test]
    fn messages_are_bounded() {
        assert!(start_error("ü".repeat(5000)).message.len() <= MESSAGE_BYTES_MAX);
        let long = shortened(&Some("ü\x7f".repeat(5000)));
        assert!(
            (DESCRIPTION_BYTES_MAX - 10..=DESCRIPTION_BYTES_MAX).contains(&long.len()),
            "{}",
            long.len()
        );
        assert_eq!(shortened(&Some("short")), "Some(\"short\")");
    }
}
