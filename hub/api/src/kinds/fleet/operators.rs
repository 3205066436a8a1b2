//! ClusterManager and Klusterlet: elsewhere what a hub and its agents are installed by, here what they are. This hub and
//! its agents are programs and no pods, so there is nothing to ask for by them: nobody writes them and nothing of them is
//! stored.
//!
//! Guarantees:
//! - a ClusterManager says what of the hub fails (`a_cluster_manager_says_how_its_hub_is`);
//! - a Klusterlet says whether its agent is heard of, as its ManagedCluster does
//!   (`a_klusterlet_says_how_its_agent_is`).

use std::collections::BTreeSet;

use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::types::Schema;
use serde_json::{Value, json};

use crate::kinds;
use crate::kinds::accessors::{AGE, NAME, age, column, condition, list, name, text};

/// The API group.
pub const GROUP: &str = "operator.open-cluster-management.io";
/// The plural of ClusterManagers.
pub const CLUSTER_MANAGERS: &str = "clustermanagers";
/// The plural of Klusterlets.
pub const KLUSTERLETS: &str = "klusterlets";
/// Where the words of both are found.
pub(in crate::kinds) const COMPONENTS: &str = "io.open-cluster-management.operator.v1.";
/// What is said of both.
pub(in crate::kinds) const DESCRIPTIONS: &[(&str, &str, &str)] = &[
    (
        "ClusterManager",
        "",
        "The hub, as it is: one program, which nothing has to be installed for.",
    ),
    ("ClusterManager", "spec", "How it is deployed."),
    ("ClusterManager", "status", "How it is."),
    ("Klusterlet", "", "The agent of a cluster, as it is: one program on its device."),
    ("Klusterlet", "spec", "Which cluster it is the agent of, and how it is deployed."),
    ("Klusterlet", "status", "Whether it is heard of."),
];

/// The one of each.
const CLUSTER_MANAGER: &str = "cluster-manager";
const KLUSTERLET: &str = "klusterlet";
/// What upstream deploys on a hub and with an agent. Tools look up their Deployments by these entries, and take it for
/// what it is when they are not there.
const HUB_PARTS: (&str, &[&str]) = (
    "open-cluster-management-hub",
    &[
        "cluster-manager-addon-manager-controller",
        "cluster-manager-placement-controller",
        "cluster-manager-registration-controller",
        "cluster-manager-registration-webhook",
        "cluster-manager-work-controller",
        "cluster-manager-work-webhook",
    ],
);
const AGENT_PARTS: (&str, &[&str]) = ("open-cluster-management-agent", &["klusterlet-agent"]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Applied", "string", "Whether it is there."),
    column("Degraded", "string", "What fails."),
    AGE,
];

/// ClusterManager of operator.open-cluster-management.io/v1.
pub(in crate::kinds) fn of_hubs() -> Kind {
    let spec = json!({"type": "object", "properties": {"deployOption": mode()}});
    kind("ClusterManager", CLUSTER_MANAGERS, &spec).in_the_root_only()
}

/// Klusterlet of operator.open-cluster-management.io/v1.
pub(in crate::kinds) fn of_agents() -> Kind {
    let url = json!({"type": "object", "properties": {"url": {"type": "string"}, "caBundle": {"type": "string", "format": "byte"}}});
    let spec = json!({"type": "object", "properties": {
        "clusterName": {"type": "string"}, "namespace": {"type": "string"}, "deployOption": mode(),
        "externalServerURLs": {"type": "array", "items": url},
    }});
    kind("Klusterlet", KLUSTERLETS, &spec)
}

fn mode() -> Value {
    json!({"type": "object", "properties": {"mode": {"type": "string"}}})
}

fn kind(kind: &'static str, plural: &'static str, spec: &Value) -> Kind {
    let gvk = Gvk::new(GROUP, "v1", kind);
    let texts = |names: &[&str]| -> Value {
        names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect()
    };
    let mut condition = texts(&["type", "status", "reason", "message"]);
    condition["lastTransitionTime"] = json!({"type": "string", "format": "date-time"});
    let related = texts(&["group", "version", "resource", "namespace", "name"]);
    let schema = json!({"type": "object", "properties": {
        "spec": spec,
        "status": {"type": "object", "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "conditions": {"type": "array", "items": {"type": "object", "properties": condition}},
            "relatedResources": {"type": "array", "items": {"type": "object", "properties": related}},
        }},
    }});
    let schema = Schema::structural(&gvk, &schema);
    let kind = Kind::new(gvk, plural, Rules)
        .cluster_scoped()
        .verbs(&["get", "list"])
        .columns(COLUMNS)
        .with(&[Trait::HasDefinition]);
    match schema {
        Ok(schema) => kind.with_schema(schema),
        // Nothing would be said of their fields; a test reads them.
        Err(_) => kind,
    }
}

/// The ClusterManager of a hub that was made then: what of it fails now, each with its reason.
#[must_use]
pub fn cluster_manager(made: &str, now: &str, wrong: &[(&str, String)]) -> Value {
    let failures: Vec<String> =
        wrong.iter().map(|(check, why)| format!("{check}: {why}")).collect();
    let degraded = |kind: &str, (reason, message): (&str, &str)| {
        if failures.is_empty() {
            condition_value(kind, "False", (reason, message), made)
        } else {
            condition_value(kind, "True", ("ChecksFail", &failures.join("; ")), now)
        }
    };
    let registration = ("RegistrationFunctional", "Registration is managing credentials");
    let placement = ("PlacementFunctional", "Placement is scheduling placement decisions");
    let applied = ("ClusterManagerApplied", "All components are parts of the hub");
    let progress = ("ClusterManagerUpToDate", "All components are of the hub's own version");
    let mut resources = related(HUB_PARTS);
    resources.extend(definitions());
    json!({
        "metadata": {"name": CLUSTER_MANAGER, "creationTimestamp": made, "generation": 1},
        "spec": {"deployOption": {"mode": "Default"}},
        "status": {
            "observedGeneration": 1,
            "conditions": [
                condition_value("Applied", "True", applied, made),
                condition_value("Progressing", "False", progress, made),
                degraded("HubRegistrationDegraded", registration),
                degraded("HubPlacementDegraded", placement),
            ],
            "relatedResources": resources,
        },
    })
}

/// The definitions of what the hub serves.
fn definitions() -> Vec<Value> {
    let defined = kinds::all().iter().filter(|kind| kind.has(Trait::HasDefinition));
    let names: BTreeSet<&str> = defined.map(|kind| kind.storage().as_str()).collect();
    let one = |name: &str| {
        json!({
            "group": "apiextensions.k8s.io", "version": "v1", "resource": "customresourcedefinitions",
            "namespace": "", "name": name,
        })
    };
    names.into_iter().map(one).collect()
}

/// The Klusterlet of the agent that a ManagedCluster is about, once it has joined.
#[must_use]
pub fn klusterlet(cluster: &Value) -> Option<Value> {
    let joined =
        condition(cluster, "ManagedClusterJoined").filter(|it| text(it, "/status") == "True")?;
    let since = text(joined, "/lastTransitionTime");
    let applied = ("KlusterletApplied", "The agent has joined");
    let available = condition(cluster, "ManagedClusterConditionAvailable");
    let heard = available.filter(|it| text(it, "/status") == "True");
    let at = available.map_or(since, |it| text(it, "/lastTransitionTime"));
    let connection = if heard.is_some() {
        condition_value(
            "HubConnectionDegraded",
            "False",
            ("HubConnectionFunctional", "The agent is connected"),
            at,
        )
    } else {
        let found = available.map(|it| (text(it, "/reason"), text(it, "/message")));
        let unheard = ("NeverHeard", "Nothing was heard of the agent yet");
        condition_value("HubConnectionDegraded", "True", found.unwrap_or(unheard), at)
    };
    // Who is not heard of may be well.
    let is = if heard.is_some() { "True" } else { "Unknown" };
    let why = text(&connection, "/message").to_owned();
    let reason = if heard.is_some() { "KlusterletAvailable" } else { "HubConnectionDegraded" };
    let urls = list(cluster, "/spec/managedClusterClientConfigs");
    Some(json!({
        "metadata": {
            "name": KLUSTERLET, "generation": 1,
            "creationTimestamp": text(cluster, "/metadata/creationTimestamp"),
        },
        "spec": {
            "clusterName": text(cluster, "/metadata/name"),
            "namespace": AGENT_PARTS.0,
            "deployOption": {"mode": "Singleton"},
            "externalServerURLs": urls,
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [
                condition_value("Applied", "True", applied, since),
                condition_value("Available", is, (reason, &why), at),
                connection,
            ],
            "relatedResources": related(AGENT_PARTS),
        },
    }))
}

fn condition_value(
    kind: &str,
    status: &str,
    (reason, message): (&str, &str),
    since: &str,
) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
    })
}

fn related((namespace, names): (&str, &[&str])) -> Vec<Value> {
    let one = |name: &&str| json!({"group": "apps", "version": "v1", "resource": "deployments", "namespace": namespace, "name": name});
    names.iter().map(one).collect()
}

struct Rules;

impl Strategy for Rules {
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let applied = condition(object, "Applied").map_or("", |it| text(it, "/status"));
        let all = list(object, "/status/conditions").iter();
        let failing = all
            .filter(|it| text(it, "/type").ends_with("Degraded") && text(it, "/status") == "True");
        let failing: Vec<&str> = failing.map(|it| text(it, "/type")).collect();
        vec![name(object), applied.into(), failing.join(",").into(), age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-01-02T00:00:00Z";

    fn is(object: &Value, kind: &str) -> (String, String, String) {
        let found = condition(object, kind).unwrap();
        let text = |key: &str| text(found, key).to_owned();
        (text("/status"), text("/message"), text("/lastTransitionTime"))
    }

    #[test]
    fn a_cluster_manager_says_how_its_hub_is() {
        let well = cluster_manager(MADE, NOW, &[]);
        assert_eq!(is(&well, "Applied").0, "True");
        let degraded = is(&well, "HubRegistrationDegraded");
        assert_eq!((&*degraded.0, &*degraded.2), ("False", MADE));
        assert_eq!(Rules.row(&well, 0)[..3], ["cluster-manager", "True", ""]);
        let related = list(&well, "/status/relatedResources");
        let own = "clustermanagers.operator.open-cluster-management.io";
        assert!(related.iter().any(|it| it["name"] == own), "{related:?}");
        let ill = cluster_manager(MADE, NOW, &[("store", "no space left".to_owned())]);
        let degraded = is(&ill, "HubPlacementDegraded");
        assert_eq!(
            degraded,
            ("True".to_owned(), "store: no space left".to_owned(), NOW.to_owned())
        );
        assert_eq!(Rules.row(&ill, 0)[2], "HubRegistrationDegraded,HubPlacementDegraded");
    }

    #[test]
    fn a_klusterlet_says_how_its_agent_is() {
        let mut cluster = json!({
            "metadata": {"name": "pi-7", "creationTimestamp": MADE},
            "spec": {"managedClusterClientConfigs": [{"url": "https://hub/clusters/pi-7"}]},
        });
        assert_eq!(klusterlet(&cluster), None, "nobody has joined");
        let joined =
            condition_value("ManagedClusterJoined", "True", ("ManagedClusterJoined", ""), MADE);
        let available = |status: &str| {
            condition_value(
                "ManagedClusterConditionAvailable",
                status,
                ("Because", "it is so"),
                NOW,
            )
        };
        cluster["status"]["conditions"] = json!([joined]);
        assert_eq!(is(&klusterlet(&cluster).unwrap(), "HubConnectionDegraded").0, "True");
        cluster["status"]["conditions"] = json!([joined, available("True")]);
        let heard = klusterlet(&cluster).unwrap();
        assert_eq!(is(&heard, "HubConnectionDegraded").0, "False");
        assert_eq!((&*is(&heard, "Available").0, &*is(&heard, "Available").2), ("True", NOW));
        assert_eq!(heard["spec"]["clusterName"], "pi-7");
        assert_eq!(heard["spec"]["externalServerURLs"][0]["url"], "https://hub/clusters/pi-7");
        cluster["status"]["conditions"] = json!([joined, available("Unknown")]);
        let silent = klusterlet(&cluster).unwrap();
        assert_eq!(is(&silent, "Available").0, "Unknown");
        assert_eq!(is(&silent, "HubConnectionDegraded").1, "it is so");
        assert_eq!(Rules.row(&silent, 0)[..3], ["klusterlet", "True", "HubConnectionDegraded"]);
    }

    #[test]
    fn fields_of_both_are_known() {
        for kind in [of_hubs(), of_agents()] {
            let facts = kind.facts().unwrap();
            let names: Vec<_> = facts.fields.iter().map(|field| &*field.name).collect();
            assert!(names.contains(&"spec") && names.contains(&"status"), "{names:?}");
        }
    }
}
