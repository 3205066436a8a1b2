//! What all of a pod asks for, and may use at most: its containers' together, or what one of those before them takes.

use std::collections::BTreeMap;

use freewheel_hub_schema::quantity::Quantity;
use serde_json::Value;

use super::super::accessors::{list, map, text};

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// What it asks for.
#[must_use]
pub fn requests(spec: &Value) -> Amounts {
    together(spec, "requests")
}

/// What it may use at most.
#[must_use]
pub fn limits(spec: &Value) -> Amounts {
    together(spec, "limits")
}

/// What one container says of this sort.
#[must_use]
pub fn of_container(container: &Value, sort: &str) -> Amounts {
    let path = format!("/resources/{sort}");
    map(container, &path)
        .filter_map(|(name, amount)| Some((name.to_owned(), amount.as_str()?.parse().ok()?)))
        .collect()
}

/// Containers run beside each other; those that come first run one after the other, beside those that stay.
fn together(spec: &Value, sort: &str) -> Amounts {
    let mut all = Amounts::new();
    for container in list(spec, "/containers") {
        add(&mut all, &of_container(container, sort));
    }
    let (mut staying, mut first) = (Amounts::new(), Amounts::new());
    for container in list(spec, "/initContainers") {
        let mut own = of_container(container, sort);
        if text(container, "/restartPolicy") == "Always" {
            add(&mut all, &own);
            add(&mut staying, &own);
            own.clone_from(&staying);
        } else {
            add(&mut own, &staying);
        }
        at_least(&mut first, own);
    }
    at_least(&mut all, first);
    let of_pod = of_container(spec, sort);
    all.extend(of_pod.into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")));
    all
}

fn add(all: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = all.get(name).copied().unwrap_or_default() + *amount;
        all.insert(name.clone(), sum);
    }
}

fn at_least(all: &mut Amounts, least: Amounts) {
    for (name, amount) in least {
        if all.get(&name).is_none_or(|found| *found < amount) {
            all.insert(name, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn those_that_come_first_take_no_more_room_than_they_need() {
        let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut stays = asks("100m");
        stays["restartPolicy"] = json!("Always");
        let mut spec =
            json!({"containers": [asks("1"), asks("500m")], "initContainers": [asks("1400m")]});
        assert_eq!(requests(&spec)["cpu"].to_string(), "1500m");
        spec["initContainers"] = json!([stays, asks("2")]);
        assert_eq!(requests(&spec)["cpu"].to_string(), "2100m");
        assert!(limits(&spec).is_empty());
    }
}
