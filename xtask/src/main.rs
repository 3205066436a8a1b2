//! Every chore of the project: `cargo xtask NAME`.

mod conformance;
mod elf;
mod fuzz;
mod kube;
mod kubectl;
mod long;
mod record;
mod schema;
mod suite;
mod test;
mod tidy;
mod up;

use clap::{Parser, Subcommand};
use freewheel_bench::{gates, swarm};
use freewheel_xtask_kit::command::Stop;
use freewheel_xtask_kit::{dist, guests};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the Freewheel project")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Start a hub and spokes on this machine with the examples; stays until Ctrl-C
    Up(up::Options),
    /// Everything that CI runs
    Test {
        /// Add the long tier
        #[arg(long)]
        all: bool,
    },
    /// fmt, clippy, tidy, test, doc, deny: what the server runs
    Ci,
    /// Let guests misbehave beside good neighbours on a device of 700 MiB
    Soak {
        /// How many minutes
        #[arg(long, default_value_t = 30.0)]
        minutes: f64,
    },
    /// Measure the performance gates beside their peers
    Bench(gates::Options),
    /// Start simulated spokes, and say what they have seen of their hub
    Swarm(Box<swarm::Options>),
    /// Run upstream's conformance specs against the hub
    Conformance(conformance::Options),
    /// Give whatever bytes to what reads what people write
    Fuzz(fuzz::Options),
    /// Write what kube-apiserver answers into the scripts that the hub is compared by
    Record,
    /// Build the hub and the spoke as they ship, into target/dist
    Dist,
    /// Check layers, file sizes and names
    Tidy,
    /// Build the example modules into target/guests
    Guests,
    /// Write the schema table and its fixtures from the pinned Go modules
    Schema {
        /// Only compare with what is committed
        #[arg(long)]
        check: bool,
    },
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().chore {
        Chore::Up(options) => up::run(&options),
        Chore::Test { all } => test::all(all),
        Chore::Ci => test::all(false).and_then(|()| long::doc()).and_then(|()| long::deny()),
        Chore::Soak { minutes } => long::soak(minutes),
        Chore::Bench(options) => gates::run(&options),
        Chore::Swarm(options) => swarm::run(&options),
        Chore::Conformance(options) => conformance::run(&options),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Record => record::run(),
        Chore::Dist => dist::build(),
        Chore::Tidy => tidy::run(),
        Chore::Schema { check } => schema::run(check),
        Chore::Guests => {
            guests::build().map(|folder| println!("guests are in {}", folder.display()))
        }
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(Stop(why)) => {
            eprintln!("xtask: {why}");
            std::process::ExitCode::FAILURE
        }
    }
}
