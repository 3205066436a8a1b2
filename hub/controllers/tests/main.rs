//! The controllers as one, in one binary: each that is linked costs seconds.

mod autoscalers;
mod budgets;
mod builds;
mod certificates;
mod crowd;
mod daemons;
mod engine;
mod events;
mod fleet;
mod hub;
mod images;
mod jobs;
mod kinds;
mod leftovers;
mod owners;
mod policies;
mod returns;
mod roles;
mod rollout;
mod stateful;
mod taints;
