//! The long tier: what takes minutes, or tools that are installed first. `cargo xtask test --all` runs it, and
//! `cargo xtask soak --minutes 30` the soak alone.

mod autoscaling;
mod clients;
mod go_clients;
mod helm;
mod k9s;
mod kube_rs;
mod kubectl_verbs;
mod ocm_clients;
mod python;
mod schemathesis;
mod shipped;
mod soak;
mod swarm;
mod toolchains;
