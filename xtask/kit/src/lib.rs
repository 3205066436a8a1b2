//! What chores are made of: other programs, their ports, and what has to be built before anything runs.
//!
//! ```text
//! command   runs a program to its end, says where things are      child  one that ends with its chore
//! ports     that nobody has
//! binaries  hub and spoke as of a checkout      dist  as they ship      guests  the example modules      wasi  their target
//! upstream  Kubernetes' own programs
//! ```

pub mod binaries;
pub mod child;
pub mod command;
pub mod dist;
pub mod guests;
pub mod ports;
pub mod upstream;
pub mod wasi;
