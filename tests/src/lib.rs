//! The whole fleet for tests: real binaries, a stock kubectl, real guests.
//!
//! ```text
//! fleet     one hub and its spokes as processes, each killable and startable again
//! kubectl   what a user types, and what it printed
//! eventually  waiting for a state with a bound
//! guests    the modules under target/guests, built when they are missing
//! http      one request over plain TCP
//! ```

pub mod eventually;
pub mod fleet;
pub mod guests;
pub mod http;
pub mod kubectl;
pub mod process;

pub use eventually::eventually;
pub use fleet::Fleet;
