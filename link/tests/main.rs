//! What both ends of a link may rely on: bytes, clocks, and QUIC on loopback.

mod clocks;
mod fleet;
mod frozen;
mod hostile;
mod narrow;
mod nat;
mod restart;
mod windows;
