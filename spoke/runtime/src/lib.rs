//! Runs containers: Wasm components and core programs of WASI preview 1, each with its limits, its log and its place in
//! the pod network.
//!
//! ```text
//! runtime     the agent's port `Containers`          wanted       a container that is to start
//! container   one start: what it has                 run          its run, its end
//! module      artifacts, loaded once                 handler, http    pods that answer requests
//! http_client requests of guests and probes          hyper_io     a stream as hyper has it
//! command_places  commands beside a program
//! preview1    core programs: what they are given, and its bounds
//! world       what a store holds: a file for each thing that guests can do, its limits, what a module may import
//! lanes, metered, ticker, memory, on_stack           CPU and memory: who runs where, how long, how much
//! shutdown, exit  how it is stopped, how its end reads   figures  what it has used   mappings     of memory, shared out
//! file_calls  threads for file calls, each pod's its own
//! native, stacks   the only unsafe code              probe        which engine profile fits this machine
//! ```
//!
//! Guarantees:
//! - a guest that spins, eats memory, floods its log or never ends disturbs no other
//!   (`guests_that_spin_do_not_disturb_their_neighbours`,
//!   `hostile_guests_neither_hurt_a_neighbour_nor_fill_the_host`);
//! - when a start's `Exited` is told, its log is complete, but for a disk that takes more than some seconds for the
//!   rest (`a_flood_of_lines_is_whole_in_the_log`).
//!
//! Assumes: artifacts were verified by the caller, and their files never change.

mod command_places;
mod container;
mod exit;
mod figures;
mod file_calls;
mod handler;
mod http;
mod http_client;
mod hyper_io;
mod lanes;
mod mappings;
mod memory;
mod metered;
mod module;
mod native;
mod on_stack;
mod preview1;
mod probe;
mod run;
mod runtime;
mod shutdown;
mod stacks;
mod ticker;
mod wanted;
mod world;

pub use freewheel_spoke_logs::{LogOptions, Source, at_turn};
pub use lanes::{Lane, Runtimes};
pub use mappings::pods;
pub use metered::Usage;
pub use preview1::QUIET;
pub use probe::{addresses, choose_profile};
pub use runtime::{CannotExec, CannotStart, Executing, FILE_TURNS, Runtime, RuntimeOptions};
