//! What is measured on this machine: the performance gates beside their peers (`cargo xtask bench`), and swarms of
//! simulated spokes (`cargo xtask swarm`).
//!
//! ```text
//! gates    names, rounds      plan  how long, how often      report  the table, target/bench/latest.json      folders
//! row      one gate: what was measured, whether it holds      figures  medians and ranges
//! proc     what /proc tells of processes
//! load     the load generator (tests/bench/load)              hub      our hub and a spoke      peer  kube-apiserver + etcd
//! both     our hub and kube-apiserver, driven in turns
//! api      P25 P26 P28      lists  P27 P29      stored  P30 P31      overload  P33
//! device   P01 P02      start  P07 P40      http  P13      fleet  P20S P22S P23S
//! turns    how long a controller worked
//! simulated_fleet  P20 P21 P22 P24 P44 P45 P46 P47      outage  P32 P32N
//! swarm    simulated spokes by a script; swarm_process  their process (tests/swarm)
//! ```
//!
//! * Both sides run at the same time on the same disk and are driven in turns, A B A B, by the same one-threaded driver.
//! * A verdict is the median of the rounds' ratios; fewer than five rounds give none.
//! * What cannot be had on a machine is named and gets no verdict.

mod api;
mod both;
mod device;
mod figures;
mod fleet;
mod folders;
pub mod gates;
mod http;
mod hub;
mod lists;
mod load;
mod outage;
mod overload;
mod peer;
mod plan;
mod proc;
mod report;
mod row;
mod simulated_fleet;
mod start;
mod stored;
pub mod swarm;
mod swarm_process;
mod turns;
