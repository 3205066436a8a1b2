//! What containers may ask for.

use serde_json::{Value, json};

use super::super::look::map;
use crate::error::FieldError;
use crate::name as names;
use crate::quantity::Quantity;

/// Mistakes in requests and limits.
pub(super) fn check(resources: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in ["limits", "requests"] {
        for (resource, amount) in map(resources, &format!("/{list}")) {
            let at = format!("{path}.{list}[{resource}]");
            errors.extend(check_name(resource, &format!("{path}.{list}")));
            if parse(amount).is_some_and(|q| q.is_negative()) {
                let text = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(at, amount, text));
            }
        }
    }
    let limits = resources.get("limits");
    for (resource, amount) in map(resources, "/requests") {
        let limit = limits.and_then(|l| l.get(resource));
        let (Some(request), Some(bound)) = (parse(amount), limit.and_then(parse)) else { continue };
        let at = format!("{path}.requests");
        let is_standard = matches!(resource, "cpu" | "memory" | "ephemeral-storage");
        if !is_standard && request != bound {
            let text = format!("must be equal to {resource} limit of {bound}");
            errors.push(FieldError::invalid(at, amount, &text));
        } else if request > bound {
            let text = format!("must be less than or equal to {resource} limit of {bound}");
            errors.push(FieldError::invalid(at, amount, &text));
        }
    }
    errors
}

fn parse(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn check_name(resource: &str, path: &str) -> Vec<FieldError> {
    let mut complaints = names::qualified_name(resource);
    let standard = matches!(resource, "cpu" | "memory" | "ephemeral-storage");
    if complaints.is_empty() && !resource.contains('/') && !standard {
        let huge = resource.starts_with("hugepages-");
        if !huge {
            complaints.push("must be a standard resource for containers".to_owned());
        }
    }
    complaints.iter().map(|text| FieldError::invalid(path, &json!(resource), text)).collect()
}
