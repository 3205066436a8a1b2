//! The `spoke` binary: the only place where the spoke's crates meet.
//!
//! ```text
//! cli       what can be asked          doctor    what is wrong, and what to do
//! data      DIR, its lock, the ledger's file     identity  key, certificate, pins; joining
//! device    what this machine is; cgroup: what is left to this process; address, interfaces: where its ports are
//! device_watch  all of that, as it changes       figures   what is counted here
//! serve     what the hub may open here, and the way to other spokes; exec: commands in containers
//! open_files  what may be open         hide_token  the token off the command line
//! mappings  how many mappings of memory     heap  memory that is given back
//! decommission  the end of a device: all that it held goes
//! dial      the way to the hub, with what this device has to show
//! run       everything wired, until a signal      error_chain  how an error reads
//! ```

mod address;
mod cgroup;
mod cli;
mod data;
mod decommission;
mod device;
mod device_watch;
mod dial;
mod doctor;
mod error_chain;
mod exec;
mod figures;
mod heap;
mod hide_token;
mod identity;
mod interfaces;
mod mappings;
mod open_files;
mod run;
mod serve;
mod unjoined;

use std::process::ExitCode;

use clap::Parser as _;
// Called without being named: it copies and compares for all code.
#[cfg(target_env = "musl")]
use freewheel_spoke_bytes as _;
use tracing_subscriber::filter::{ParseError, Targets};

use cli::{Cli, Verb};
use error_chain::chain;

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Run(options) => {
            logging();
            hide_token::token(&options);
            run::run(*options)
        }
        Verb::Doctor(options) => match doctor::run(&options) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spoke: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// What is logged when nobody asks for something else.
const USUAL: &str = "info";

/// What is logged: what was asked for, and of what guests call only what was asked for by name.
fn filter(asked: &str) -> Result<Targets, ParseError> {
    format!("{},{asked}", freewheel_spoke_runtime::QUIET).parse()
}

/// `FREEWHEEL_LOG` decides, by level and module (`debug`, `info,quinn=debug`); without it, changes of state and
/// everything worse. Nothing is asked of fields: regular expressions would be a twentieth of this program.
fn logging() {
    use std::io::IsTerminal as _;
    use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

    let asked = std::env::var("FREEWHEEL_LOG").ok().filter(|asked| !asked.is_empty());
    let (chosen, error) = match filter(asked.as_deref().unwrap_or(USUAL)) {
        Ok(chosen) => (chosen, None),
        Err(error) => (filter(USUAL).unwrap_or_default(), Some(error)),
    };
    tracing_subscriber::registry()
        .with(chosen)
        .with(
            tracing_subscriber::fmt::layer()
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                // A log on a full disk loses lines. To complain about that on stderr would be the end.
                .log_internal_errors(false)
                .with_writer(std::io::stderr),
        )
        .init();
    if let Some(error) = error {
        tracing::warn!(
            "FREEWHEEL_LOG is not understood ({error}) and left out: write a level, or module=level, with commas"
        );
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Whether spans of a guest's calls and of our own are seen.
    fn seen(asked: &str) -> (bool, bool) {
        let log = tracing_subscriber::registry().with(filter(asked).unwrap());
        tracing::subscriber::with_default(log, || {
            let call = tracing::info_span!(target: "wasmtime_wasi::p1", "fd_write");
            (!call.is_disabled(), !tracing::info_span!("container").is_disabled())
        })
    }

    #[test]
    fn what_guests_call_is_no_span_of_the_log_unless_it_is_asked_for() {
        assert_eq!(seen(USUAL), (false, true));
        assert_eq!(seen("debug,quinn=warn"), (false, true));
        assert_eq!(seen("warn"), (false, false));
        assert_eq!(seen("info,wasmtime_wasi=info"), (true, true));
        assert!(filter("quinn=loud").is_err());
    }
}
