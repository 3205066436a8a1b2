//! The `spoke` binary: the only place where the spoke's crates meet.
//!
//! ```text
//! cli       what can be asked          doctor    what is wrong, and what to do
//! data      DIR, its lock, the ledger's file     identity  key, certificate, pins; joining
//! device    what this machine is       serve     what the hub may open here, and the way to other spokes
//! files     what may be open           hide      the token off the command line
//! dial      the way to the hub, with what this device has to show
//! run       everything wired, until a signal
//! ```

mod address;
mod cgroup;
mod cli;
mod data;
mod device;
mod dial;
mod doctor;
mod files;
mod hide;
mod identity;
mod interfaces;
mod run;
mod serve;
mod watch;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Verb};

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Run(options) => {
            logging();
            hide::token(&options);
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

/// An error with everything behind it, once, at the edge. A cause that says the same again is left out.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// `FREEWHEEL_LOG` decides, by level and module (`debug`, `info,quinn=debug`); without it, changes of state and
/// everything worse. Nothing is asked of fields: regular expressions would be a twentieth of this program.
fn logging() {
    use std::io::IsTerminal as _;
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::{
        filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
    };

    let asked = std::env::var("FREEWHEEL_LOG").ok().filter(|asked| !asked.is_empty());
    let parsed = asked.as_deref().map(str::parse::<Targets>).transpose();
    let filter = parsed.as_ref().ok().cloned().flatten();
    tracing_subscriber::registry()
        .with(filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)))
        .with(
            tracing_subscriber::fmt::layer()
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                // A log on a full disk loses lines. To complain about that on stderr would be the end.
                .log_internal_errors(false)
                .with_writer(std::io::stderr),
        )
        .init();
    if let Err(error) = parsed {
        tracing::warn!(
            "FREEWHEEL_LOG is not understood ({error}) and left out: write a level, or module=level, with commas"
        );
    }
}
