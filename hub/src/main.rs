//! The `hub` binary: the only place where the hub's crates meet.

mod accept;
mod cli;
mod client;
mod decommission;
mod devices;
mod error_chain;
mod get;
mod host_address;
mod images;
mod keys;
mod kubeconfig;
mod log;
mod plan;
mod push;
mod replace;
mod serve;
mod server_verifier;
mod token;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use cli::{Cli, Verb};
use error_chain::chain;
use freewheel_hub_modules::compile;

/// How long the threads of a hub that stops are waited for.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// A third of the weight of threads that serve, where there is not enough for both.
const BACKGROUND_NICENESS: i32 = 5;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // On a full disk there may be no room for that either, which is no reason to panic.
            let _ = writeln!(std::io::stderr(), "hub: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<(), Box<dyn Error>> {
    match verb {
        Verb::Serve(options) => {
            log::begin();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let background = background()?;
            let outcome = runtime.block_on(serve::run(*options, background.handle().clone()));
            // Tasks that read disks may be stuck in the kernel; what was acknowledged is synced already.
            background.shutdown_timeout(SHUTDOWN_TIMEOUT);
            runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
            Ok(outcome?)
        }
        // Inside the child: what is printed on stderr is what the parent tells the user.
        Verb::CompileModule { profile, component, artifact, digest } => {
            let (component, artifact) = (component.as_path(), artifact.as_path());
            match compile::child(compile::Order { profile, component, digest, artifact }) {
                Ok(line) => println!("{line}"),
                Err(error) => {
                    eprintln!("{}", chain(&error));
                    std::process::exit(error.exit_code());
                }
            }
            Ok(())
        }
        Verb::Token { verb: cli::TokenVerb::Create(options) } => client(token::create(options)),
        Verb::Keys { verb: cli::KeysVerb::Rotate(options) } => client(keys::rotate(options)),
        Verb::Keys { verb: cli::KeysVerb::Merge(options) } => client(keys::merge(options)),
        Verb::Accept(options) => client(accept::run(options)),
        Verb::Decommission(options) => client(decommission::run(options)),
        Verb::Replace(options) => client(replace::run(options)),
        Verb::Get { verb: cli::GetVerb::Kubeconfig(options) } => client(get::kubeconfig(options)),
        Verb::Plan(options) => client(plan::run(options)),
        Verb::Push(options) => client(push::run(options)),
        Verb::Images(options) => client(images::list(options)),
        Verb::Inspect(options) => client(images::inspect(options)),
        Verb::Rm(options) => client(images::remove(options)),
    }
}

/// The threads of the control loops. Whoever asks the hub for something has the processors before them: what people write
/// makes these loops compute, and who wants to take that away again must get through.
fn background() -> std::io::Result<tokio::runtime::Runtime> {
    let behind = || {
        if let Err(error) = rustix::process::nice(BACKGROUND_NICENESS) {
            tracing::warn!(%error, "control loops run with the priority of what is asked");
        }
    };
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.thread_name("controllers").on_thread_start(behind).enable_all().build()
}

fn client<E: Error + 'static>(
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work)?)
}
