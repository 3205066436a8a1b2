//! ComponentStatus: how the parts of a control plane are, as `kubectl get componentstatuses` shows it.
//!
//! Nobody writes them and nothing of them is stored: who serves them makes them of what it knows of its own health.

use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy};
use serde_json::{Value, json};

use super::accessors::{NAME, column, list, name, text};

/// The plural, by which who serves them knows them.
pub const PLURAL: &str = "componentstatuses";

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Healthy, or Unhealthy."),
    column("Message", "string", "What its check says."),
    column("Error", "string", "Why it is not healthy."),
];

/// ComponentStatus of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "ComponentStatus"), PLURAL, Rules)
        .short(["cs"])
        .cluster_scoped()
        .verbs(&["get", "list"])
        .columns(COLUMNS)
        .deprecated("v1 ComponentStatus is deprecated in v1.19+")
}

/// One of this name; what is wrong with it, if anything is.
#[must_use]
pub fn value(name: &str, wrong: Option<&str>) -> Value {
    let healthy = match wrong {
        None => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Some(why) => json!({"type": "Healthy", "status": "False", "error": why}),
    };
    json!({"metadata": {"name": name}, "conditions": [healthy]})
}

struct Rules;

impl Strategy for Rules {
    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        let mut conditions = list(object, "/conditions").iter();
        let found = conditions.find(|condition| text(condition, "/type") == "Healthy");
        let (status, message, error) = found.map_or(("Unknown", "", ""), |healthy| {
            let is = if text(healthy, "/status") == "True" { "Healthy" } else { "Unhealthy" };
            (is, text(healthy, "/message"), text(healthy, "/error"))
        });
        vec![name(object), status.into(), message.into(), error.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_it_is_healthy() {
        assert_eq!(Rules.row(&value("store", None), 0), ["store", "Healthy", "ok", ""]);
        let full = value("store", Some("no space left"));
        assert_eq!(Rules.row(&full, 0), ["store", "Unhealthy", "", "no space left"]);
        assert_eq!(Rules.row(&json!({"metadata": {"name": "a"}}), 0), ["a", "Unknown", "", ""]);
    }
}
