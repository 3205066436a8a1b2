//! Arrows between our crates. A new arrow is a design change and is reviewed as one.

use crate::command::{Stop, cargo, output};

/// Who may name whom, test-only dependencies left out.
const ARROWS: [(&str, &[&str]); 40] = [
    ("freewheel-link", &[]),
    ("freewheel-hub-schema", &["link"]),
    ("freewheel-hub-audit", &[]),
    ("freewheel-hub-cel", &["hub-schema"]),
    ("freewheel-hub-custom", &["hub-cel", "hub-schema"]),
    ("freewheel-hub-api", &["hub-cel", "hub-custom", "hub-schema", "link"]),
    ("freewheel-hub-fairness", &[]),
    // It drives what reads, and ships with nothing.
    (
        "freewheel-hub-fuzz",
        &["hub-api", "hub-cel", "hub-custom", "hub-schema", "hub-structured-merge", "hub-yaml"],
    ),
    ("freewheel-hub-metrics", &[]),
    ("freewheel-hub-pki", &["link"]),
    ("freewheel-hub-rbac", &["hub-schema", "hub-store", "link"]),
    ("freewheel-hub-spdy", &[]),
    ("freewheel-hub-yaml", &["hub-schema"]),
    ("freewheel-hub-plan", &["hub-api", "hub-schema", "link"]),
    ("freewheel-hub-store", &["hub-schema", "link"]),
    ("freewheel-hub-structured-merge", &["hub-schema"]),
    (
        "freewheel-hub-objects",
        &["hub-api", "hub-schema", "hub-store", "hub-structured-merge", "link"],
    ),
    (
        "freewheel-hub-admission",
        &["hub-cel", "hub-objects", "hub-schema", "hub-store", "hub-structured-merge", "link"],
    ),
    ("freewheel-hub-fleet", &["hub-cel", "hub-custom", "hub-schema"]),
    ("freewheel-hub-conversion", &["hub-admission", "hub-objects", "hub-schema", "link"]),
    ("freewheel-hub-placement", &["hub-schema", "link"]),
    (
        "freewheel-hub-controllers",
        &[
            "hub-api",
            "hub-custom",
            "hub-fairness",
            "hub-fleet",
            "hub-metrics",
            "hub-objects",
            "hub-placement",
            "hub-rbac",
            "hub-schema",
            "hub-store",
            "link",
        ],
    ),
    (
        "freewheel-hub-apiserver",
        &[
            "hub-admission",
            "hub-api",
            "hub-audit",
            "hub-cel",
            "hub-conversion",
            "hub-fairness",
            "hub-metrics",
            "hub-objects",
            "hub-pki",
            "hub-rbac",
            "hub-schema",
            "hub-spdy",
            "hub-store",
            "hub-yaml",
            "link",
        ],
    ),
    (
        "freewheel-hub-gateway",
        &[
            "hub-api",
            "hub-metrics",
            "hub-objects",
            "hub-pki",
            "hub-plan",
            "hub-schema",
            "hub-store",
            "link",
        ],
    ),
    ("freewheel-hub-modules", &["hub-api", "link", "spoke-engine"]),
    (
        "freewheel-hub",
        &[
            "hub-admission",
            "hub-api",
            "hub-apiserver",
            "hub-audit",
            "hub-controllers",
            "hub-gateway",
            "hub-metrics",
            "hub-modules",
            "hub-objects",
            "hub-pki",
            "hub-placement",
            "hub-schema",
            "hub-store",
            "link",
        ],
    ),
    // Budgets are what the pod network and the runtime book on alike; neither is to be asked for the other's.
    ("freewheel-spoke-account", &[]),
    ("freewheel-spoke-agent", &["link"]),
    ("freewheel-spoke-allocator", &[]),
    ("freewheel-spoke-bytes", &[]),
    ("freewheel-spoke-engine", &["link"]),
    ("freewheel-spoke-logs", &["spoke-account", "spoke-agent"]),
    ("freewheel-spoke-net", &["link", "spoke-account", "spoke-agent"]),
    // wasi:sockets is served straight from the pod network's pipes; a trait between them would cost a
    // call and an allocation per poll and say the same things twice.
    (
        "freewheel-spoke-runtime",
        &["link", "spoke-account", "spoke-agent", "spoke-engine", "spoke-logs", "spoke-net"],
    ),
    ("freewheel-spoke-modules", &["link", "spoke-agent"]),
    (
        "freewheel-spoke",
        &[
            "link",
            "spoke-account",
            "spoke-agent",
            "spoke-allocator",
            "spoke-bytes",
            "spoke-engine",
            "spoke-modules",
            "spoke-net",
            "spoke-runtime",
        ],
    ),
    ("freewheel-tests", &["*"]),
    ("freewheel-load", &[]),
    ("freewheel-swarm", &["link", "spoke-agent"]),
    ("xtask", &[]),
];

/// Only these may name the crates on the left.
const GUARDED: [(&str, &[&str]); 8] = [
    ("quinn", &["freewheel-link"]),
    ("wasmtime", &["freewheel-spoke-engine", "freewheel-spoke-runtime", "freewheel-hub-modules"]),
    ("redb", &["freewheel-hub-store"]),
    (
        "rcgen",
        &[
            "freewheel-hub-pki",
            "freewheel-spoke",
            "freewheel-tests",
            "freewheel-load",
            "freewheel-swarm",
        ],
    ),
    ("x509-parser", &["freewheel-hub-pki", "freewheel-spoke"]),
    ("prometheus-client", &["freewheel-hub-metrics"]),
    ("cel", &["freewheel-hub-cel"]),
    ("clap", &["freewheel-hub", "freewheel-spoke", "xtask"]),
];

/// Every arrow that is not in the lists above.
pub fn check() -> Result<Vec<String>, Stop> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Stop(format!("cargo metadata is no JSON: {e}")))?;
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            wrong.push(format!("{name} is not in the list of layers"));
            continue;
        };
        let normal = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|d| d["kind"].is_null());
        for dependency in normal.filter_map(|d| d["name"].as_str()) {
            if let Some(ours) = dependency.strip_prefix("freewheel-") {
                if !allowed.contains(&ours) && !allowed.contains(&"*") {
                    wrong.push(format!("{name} may not depend on freewheel-{ours}"));
                }
            } else if let Some((_, users)) =
                GUARDED.iter().find(|(guarded, _)| *guarded == dependency)
                && !users.contains(&name)
            {
                wrong.push(format!(
                    "{name} may not name {dependency}; only {} may",
                    users.join(", ")
                ));
            }
        }
    }
    Ok(wrong)
}
