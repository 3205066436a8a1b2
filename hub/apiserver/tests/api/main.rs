//! The API as its clients see it: over TLS, on a server in this process.

#[cfg(test)]
mod access;
#[cfg(test)]
mod actions;
#[cfg(test)]
mod admission;
#[cfg(test)]
mod agents_of_clusters;
#[cfg(test)]
mod answers;
#[cfg(test)]
mod applies;
#[cfg(test)]
mod audits;
#[cfg(test)]
mod bootstrap;
mod busy;
#[cfg(test)]
mod cluster_sets;
#[cfg(test)]
mod components;
#[cfg(test)]
mod conversions;
#[cfg(test)]
mod definitions;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod evictions;
#[cfg(test)]
mod fairness;
#[cfg(test)]
#[cfg(test)]
mod idle;
#[cfg(test)]
mod kinds;
mod leases;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod own_kinds;
#[cfg(test)]
mod port_forwards;
#[cfg(test)]
mod principals;
#[cfg(test)]
mod protobuf;
#[cfg(test)]
mod proxies;
#[cfg(test)]
mod puts;
#[path = "../../../metrics/tests/reader/mod.rs"]
mod reader;
mod remade;
#[cfg(test)]
mod roles;
#[path = "../../../../link/tests/said/mod.rs"]
mod said;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod signing_requests;
#[cfg(test)]
mod spokes;
#[cfg(test)]
mod subresources;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod trails;
#[cfg(test)]
mod transcripts;
#[cfg(test)]
mod unread;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod verbs;
#[cfg(test)]
mod watches;
