//! The whole fleet for tests: real binaries, a stock kubectl, real guests.
//!
//! ```text
//! fleet     one hub and its spokes as processes, each killable and startable again
//! kubectl   what a user types, and how that went
//! printed   what must be in an output, and tables
//! eventually  waiting for a state with a bound
//! guests    the modules under target/guests, built when they are missing
//! http      one request over plain TCP
//! load      many requests at once, of which every single one must be answered
//! small_device  a device with little memory, on a machine with much
//! swarm     simulated spokes, hundreds in the test's own process
//! tools     what tests take from package registries, pinned and kept
//! web       a web server behind a NodePort, and waiting for its answer
//! ```

pub mod eventually;
pub mod fleet;
pub mod guests;
pub mod http;
pub mod kubectl;
pub mod load;
pub mod printed;
pub mod process;
pub mod small_device;
pub mod swarm;
pub mod tools;
pub mod web;

pub use eventually::eventually;
pub use fleet::Fleet;
pub use printed::{Table, has};
