//! What guests can rely on, and what they cannot do. What looks at its whole process, or at how long something waits, is a
//! binary of its own: `lanes`, `mappings`, `soak`.

mod bounds;
mod clients;
mod containers;
mod exec;
mod file_calls;
mod http;
mod preview1;
mod sockets;
mod stacks;
mod support;
