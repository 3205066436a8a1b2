//! NodeMetrics and PodMetrics of metrics.k8s.io: what nodes and pods take, in the form of metrics-server.
//!
//! Nobody writes them and nothing of them is stored: they are there for Nodes and Pods of whom figures are known, and go
//! by the names and labels of these.
//!
//! Guarantees:
//! - discovery says of both what it says where metrics-server is installed (`metrics_are_served_as_by_metrics_server`);
//! - their tables show what all containers of a pod take together (`a_row_adds_up_what_containers_take`).

use std::borrow::Cow;

use freewheel_hub_schema::gvk::{Gvk, Gvr};
use freewheel_hub_schema::kind::{Column, Kind, Strategy};
use freewheel_hub_schema::quantity::Quantity;
use serde_json::Value;

use super::accessors::{NAME, list, name, text};

/// The API group.
pub const GROUP: &str = "metrics.k8s.io";
/// Where the words of both are found.
pub(super) const COMPONENTS: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1.";
/// What is said of both.
pub(super) const DESCRIPTIONS: &[(&str, &str, &str)] = &[
    ("NodeMetrics", "", "What a node takes: all of its machine."),
    ("NodeMetrics", "timestamp", "When it was measured, the end of the window."),
    ("NodeMetrics", "window", "How long processor time was counted up to then."),
    (
        "NodeMetrics",
        "usage",
        "Processors that were busy on average, and memory that is in use, in bytes.",
    ),
    ("PodMetrics", "", "What the containers of a pod take."),
    ("PodMetrics", "timestamp", "When it was measured, the end of the window."),
    ("PodMetrics", "window", "How long processor time was counted up to then."),
    ("PodMetrics", "containers", "Each container that runs, with what it takes."),
    ("ContainerMetrics", "", "What a container takes."),
    ("ContainerMetrics", "name", "Its name in the pod."),
    (
        "ContainerMetrics",
        "usage",
        "Processors that were busy on average, and memory that is in use, in bytes.",
    ),
    ("NodeMetricsList", "", "What nodes take."),
    ("NodeMetricsList", "items", "Each node of which figures are known."),
    ("PodMetricsList", "", "What pods take."),
    ("PodMetricsList", "items", "Each pod of which figures are known."),
];

const COLUMNS: &[Column] = &[
    NAME,
    shown("cpu", "quantity", "Processors that were busy on average."),
    shown("memory", "quantity", "Memory that is in use."),
    shown("Window", "duration", "How long processor time was counted."),
];

const fn shown(name: &'static str, format: &'static str, description: &'static str) -> Column {
    let (name, kind) = (Cow::Borrowed(name), Cow::Borrowed("string"));
    let (format, description) = (Cow::Borrowed(format), Cow::Borrowed(description));
    Column { name, kind, format, description, priority: 0 }
}

/// NodeMetrics of metrics.k8s.io/v1beta1.
pub(crate) fn of_nodes() -> Kind {
    kind("NodeMetrics", "nodes").cluster_scoped()
}

/// PodMetrics of metrics.k8s.io/v1beta1.
pub(crate) fn of_pods() -> Kind {
    kind("PodMetrics", "pods")
}

fn kind(kind: &'static str, plural: &'static str) -> Kind {
    Kind::new(Gvk::new(GROUP, "v1beta1", kind), plural, Rules)
        .without_singular()
        .verbs(&["get", "list"])
        .columns(COLUMNS)
        .stored_as(Gvr::new("", "v1", plural))
}

struct Rules;

impl Strategy for Rules {
    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        let own = object.get("usage").into_iter();
        let parts = list(object, "/containers").iter().filter_map(|one| one.get("usage"));
        let all: Vec<&Value> = own.chain(parts).collect();
        let sum = |of: &str| {
            let amounts = all.iter().filter_map(|usage| usage.get(of)?.as_str()?.parse().ok());
            amounts.fold(Quantity::default(), |sum, amount: Quantity| sum + amount).to_string()
        };
        vec![name(object), sum("cpu").into(), sum("memory").into(), text(object, "/window").into()]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_adds_up_what_containers_take() {
        let container = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        let pod = json!({
            "metadata": {"name": "web"}, "window": "15s",
            "containers": [container("250m", "1Mi"), container("1750m", "512Ki")],
        });
        assert_eq!(Rules.row(&pod, 0), ["web", "2", "1536Ki", "15s"]);
        let node = json!({
            "metadata": {"name": "pi-7"}, "window": "1.5s",
            "usage": {"cpu": "123456789n", "memory": "7Ki"},
        });
        assert_eq!(Rules.row(&node, 0), ["pi-7", "123456789n", "7Ki", "1.5s"]);
    }

    #[test]
    fn fields_of_both_are_known() {
        for (kind, field) in [(of_nodes(), "usage"), (of_pods(), "containers")] {
            let facts = kind.facts().unwrap();
            let names: Vec<_> = facts.fields.iter().map(|field| &*field.name).collect();
            assert!(names.contains(&field) && names.contains(&"window"), "{names:?}");
        }
    }
}
