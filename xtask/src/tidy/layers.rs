//! Arrows between our crates. A new arrow is a design change and is reviewed as one.
//!
//! Guarantees:
//! - an arrow that is not listed is told, and so is one that is listed and not there
//!   (`an_arrow_is_listed_and_there_or_told`).

use super::dependencies::Package;

/// Who may name whom, test-only dependencies left out.
const ARROWS: [(&str, &[&str]); 42] = [
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
            "hub-schema",
            "hub-store",
            "hub-yaml",
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
            "spoke-modules",
            "spoke-net",
            "spoke-runtime",
        ],
    ),
    ("freewheel-tests", &["*"]),
    ("freewheel-load", &[]),
    ("freewheel-swarm", &["link", "spoke-agent"]),
    ("freewheel-xtask-kit", &[]),
    ("freewheel-bench", &["xtask-kit"]),
    ("xtask", &["bench", "xtask-kit"]),
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
    ("clap", &["freewheel-hub", "freewheel-spoke", "freewheel-bench", "xtask"]),
];

/// Every arrow that is not in the lists above, and what is listed there and is not there.
pub fn check(packages: &[Package]) -> Vec<String> {
    let mut wrong = arrows(&ARROWS, packages);
    for package in packages {
        for dependency in package.shipped() {
            if let Some((_, users)) = GUARDED.iter().find(|(guarded, _)| *guarded == dependency)
                && !users.contains(&&*package.name)
            {
                let (name, users) = (&package.name, users.join(", "));
                wrong.push(format!("{name} may not name {dependency}; only {users} may"));
            }
        }
    }
    wrong
}

fn arrows(listed: &[(&str, &[&str])], packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages {
        let name = &package.name;
        let Some((_, allowed)) = listed.iter().find(|(from, _)| from == name) else {
            wrong.push(format!("{name} is not in the list of layers"));
            continue;
        };
        let ours = |dependency: &'_ str| dependency.strip_prefix("freewheel-").map(str::to_owned);
        let ours: Vec<String> = package.shipped().filter_map(ours).collect();
        if allowed.contains(&"*") {
            continue;
        }
        let other = ours.iter().filter(|to| !allowed.contains(&&***to));
        wrong.extend(other.map(|to| format!("{name} may not depend on freewheel-{to}")));
        let idle = allowed.iter().filter(|to| !ours.iter().any(|one| one == *to));
        wrong.extend(
            idle.map(|to| format!("{name} is listed to depend on freewheel-{to}, and does not")),
        );
    }
    let is_there = |name: &str| packages.iter().any(|package| package.name == name);
    let gone = listed.iter().filter(|(from, _)| !is_there(from));
    wrong.extend(
        gone.map(|(from, _)| format!("{from} is in the list of layers, and is no package")),
    );
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::dependencies::{Dependency, Package};
    use super::arrows;

    fn package(name: &str, ships: &[&str]) -> Package {
        let dependency = |name: &&str| Dependency { name: (*name).to_owned(), kind: String::new() };
        let dependencies = ships.iter().map(dependency).collect();
        Package { name: name.to_owned(), folder: name.into(), dependencies }
    }

    #[test]
    fn an_arrow_is_listed_and_there_or_told() {
        let listed: [(&str, &[&str]); 2] = [("freewheel-a", &["b"]), ("freewheel-b", &[])];
        let b = || package("freewheel-b", &["serde"]);
        let told = |a: &[&str]| arrows(&listed, &[package("freewheel-a", a), b()]);
        assert_eq!(told(&["freewheel-b", "serde"]), [""; 0]);
        assert_eq!(told(&[]), ["freewheel-a is listed to depend on freewheel-b, and does not"]);
        let more = ["freewheel-b", "freewheel-c"];
        assert_eq!(told(&more), ["freewheel-a may not depend on freewheel-c"]);
        let told = arrows(&listed, &[b(), package("freewheel-c", &[])]);
        let gone = "freewheel-a is in the list of layers, and is no package";
        assert_eq!(told, ["freewheel-c is not in the list of layers", gone]);
    }
}
