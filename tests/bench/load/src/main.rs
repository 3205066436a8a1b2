//! The load generator of `cargo xtask bench`: one thread, HTTP/1.1 with keep-alive, the same for every server.
//!
//! ```text
//! freewheel-load '{"do": "get", …}'   one order as JSON in, one JSON object of figures out
//! ```
//!
//! * closed loop: a connection sends its next request when it has the whole answer to the one before;
//! * every order is bounded in time and in count;
//! * an answer with another status than the one expected is counted as failed, never as work done.

mod ask;
mod client;
mod closed;
mod echo;
mod error;
mod fan;
mod figures;
mod flood;
mod keys;
mod list;
mod serve;
mod starts;
mod until;

use error::LoadError;
use serde::Deserialize;

/// What to do.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Order {
    /// Make a CA, a server's and an administrator's certificate
    Keys(keys::Order),
    /// Create objects until time or count is up
    Create(closed::Order),
    /// Get objects that `fill` made until time or count is up
    Get(closed::Order),
    /// Get one plain path until time or count is up
    Page(closed::Order),
    /// Create the objects that `get` asks for
    Fill(closed::Order),
    /// Write, read it back, see its event
    Echo(echo::Order),
    /// One whole list
    List(list::Order),
    /// More clients than a server has room for, who do not wait when they are told to
    Flood(flood::Order),
    /// Ask for a page until it is there
    Until(until::Order),
    /// One request
    Ask(ask::Order),
    /// Many watchers, one writer
    Fan(fan::Order),
    /// One pod after another, from accepted to running
    Starts(starts::Order),
    /// A native HTTP server that says hello, until it is stopped
    Serve(serve::Order),
}

fn main() -> std::process::ExitCode {
    let order = std::env::args().nth(1).unwrap_or_default();
    match run(&order) {
        Ok(figures) => {
            println!("{figures}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("freewheel-load: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(order: &str) -> Result<serde_json::Value, LoadError> {
    let order: Order = serde_json::from_str(order)?;
    // A thousand watchers are a thousand sockets.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).map_err(|e| {
        LoadError::Io { what: "raise the number of open files".into(), source: e.into() }
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::io("start tokio"))?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        match order {
            Order::Keys(order) => keys::make(&order),
            Order::Create(order) => closed::run(order, closed::Kind::Create).await,
            Order::Get(order) => closed::run(order, closed::Kind::Get).await,
            Order::Page(order) => closed::run(order, closed::Kind::Page).await,
            Order::Fill(order) => closed::fill(&order).await,
            Order::Echo(order) => echo::run(order).await,
            Order::List(order) => list::run(&order).await,
            Order::Flood(order) => flood::run(order).await,
            Order::Until(order) => until::run(&order).await,
            Order::Ask(order) => ask::run(&order).await,
            Order::Fan(order) => fan::run(order).await,
            Order::Starts(order) => starts::run(order).await,
            Order::Serve(order) => serve::run(&order).await,
        }
    }))
}
